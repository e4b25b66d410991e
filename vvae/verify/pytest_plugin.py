"""What pytest has of vvae: the fixture `assert_laws`, and the option `--vvae-profile`. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vvae.verify import asserting


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--vvae-profile`."""
    parser.getgroup("vvae").addoption(
        "--vvae-profile",
        choices=("quick", "thorough"),
        default="quick",
        help="how far the cases of assert_laws go (thorough: longer clips, more of them, inductor; takes minutes)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tells `assert_laws`, also where it is imported."""
    asserting.set_effort(config.getoption("--vvae-profile"))


@pytest.fixture(name="assert_laws")
def _assert_laws() -> Callable[..., None]:
    """`vvae.verify.assert_laws`: every law holds of a layer, a spec or a model."""
    return asserting.assert_laws
