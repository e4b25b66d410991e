"""What pytest has of vvae, in the tests of somebody else."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from torch import Tensor, nn

from vvae.verify import LawsError, assert_laws, asserting

pytest_plugins = ["pytester"]
CLIP = (1, 3, 5, 4, 4)
TESTS = """
from torch import nn
from vvae.verify import asserting, assert_laws as imported

def test_of_a_layer_that_is_not_causal(assert_laws):
    assert_laws(nn.Conv3d(3, 4, 3, padding=1), input=(1, 3, 5, 4, 4), causal=True, laws=["reach", "batch"])

def test_of_one_that_is(assert_laws):
    assert assert_laws is imported
    assert_laws(nn.Conv3d(3, 4, 1), input=(1, 3, 5, 4, 4), causal=True, laws=["reach", "batch"])

def test_how_far_it_goes():
    assert asserting.effort() == "thorough"
"""


@pytest.fixture(autouse=True)
def same_effort() -> object:
    before = asserting.effort()
    yield
    asserting.set_effort(before)


def test_a_failure_can_be_understood_without_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--vvae-profile", "thorough")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        [
            "E*LawsError: 1 of 2 checks fail for Conv3d",
            "E*reach (layer): violated",
            "E*law    not declared[[]i, j[]] => f(x)[[]i[]] is exactly the same for any x[[]j[]]*",
            "E*found  output frames [[]0[]] depend on input frame 1, not declared",
            "E*subject = verify.target(module, input=(1, 3, 5, 4, 4), causal=True)",
            "E*verify.check(subject, 'reach', 'layer', groups=2, seed=0)",
        ],
        consecutive=False,
    )
    failure = done.stdout.str().partition("= FAILURES =")[2].partition("= short test summary")[0]
    assert len(failure.splitlines()) < 25
    assert "vvae/verify" not in failure


def test_pytest_starts_without_torch() -> None:
    assert "vvae.verify.pytest_plugin" in {point.value for point in entry_points(group="pytest11")}
    code = "import sys, vvae.verify.pytest_plugin; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_of_what_failed_stand_in_the_error() -> None:
    with pytest.raises(LawsError) as caught:
        assert_laws(nn.Conv3d(3, 4, 3, padding=1), input=CLIP, causal=True, laws=["reach", "group_causal", "batch"])
    assert [(row.law, row.verdict) for row in caught.value.rows] == [
        ("reach", "violated"),
        ("group_causal", "violated"),
    ]
    assert caught.value.rows[0].case == {"groups": 2, "seed": 0}


class Later(nn.Module):
    """The next frame in the place of each."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(-1, 2)


def test_a_name_is_repeated_in_the_code() -> None:
    name = f"{__name__}:Later"
    with pytest.raises(LawsError, match=rf"verify.target\('{name}', input=\(1, 3, 5, 4, 4\), look_ahead=0\)"):
        assert_laws(name, input=CLIP, look_ahead=0, laws=["reach"])
