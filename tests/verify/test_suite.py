"""The suite: which laws apply, the smallest case that fails, a case again, time, crashes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.verify import breakers
from tests.verify.breakers import SIGNAL, Sound, SoundSpec
from vvae import VvaeError, verify
from vvae.context import Context
from vvae.layers import Conv3dSpec, LookAheadConvSpec, SiLUSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify import Claims, Finding, LawError, Subject, all_laws, claimed_subject, layer_subject
from vvae.verify.suite import EFFORTS, Case, Effort, Law

QUICK = [name for name in all_laws() if name != "compiled"]
"""Compiling takes as long as all the others."""


class LateFailing(Sound):
    """Goes wrong in clips of five frames and more."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) * (1 if x.shape[2] < 5 else 1 + 1e-3 * x[:, :, 4:5].mean())


def subject(made: type[Sound] = Sound) -> Subject:
    return layer_subject(SoundSpec(), SIGNAL, made())


def found(of: Subject, *only: str, **how: Any) -> dict[str, Finding]:
    return {finding.law: finding for finding in verify.verify(of, only=only, **how)}


def test_findings_come_for_every_law_and_part_in_order() -> None:
    model = claimed_subject(_Both(), Claims((1, 3, 3, 4, 4)))
    told = [(finding.law, finding.part) for finding in verify.verify(model, only=("batch", "kl", "stateless"))]
    assert told == [
        ("stateless", "encoder"),
        ("stateless", "decoder"),
        ("batch", "encoder"),
        ("batch", "decoder"),
        ("kl", "model"),
    ]


class _Both(torch.nn.Module):
    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    def decode(self, z: Tensor) -> Tensor:
        return z * 2


EXCUSES: list[tuple[LayerSpec, Signal, str, str]] = [
    (Conv3dSpec(channels=2), Signal(2, group=2), "group_causal", "groups ahead"),
    (Conv3dSpec(channels=2), Signal(2, group=2), "prefix", "groups ahead"),
    (Conv3dSpec(channels=2), Signal(2, group=2), "stream", "past the end of any chunk"),
    (LookAheadConvSpec(channels=2), SIGNAL, "group_causal", "outputs see 1 groups ahead"),
    (SoundSpec(), Signal(2, group=2), "first_frame", "no frame stands alone at the start"),
    (SoundSpec(before="unsaid"), SIGNAL, "padding", "not said to be its first frame"),
]


@pytest.mark.parametrize(("spec", "signal", "law", "told"), EXCUSES, ids=lambda value: getattr(value, "kind", None))
def test_law_that_is_not_claimed_says_why(spec: LayerSpec, signal: Signal, law: str, told: str) -> None:
    finding = found(layer_subject(spec, signal), law)[law]
    assert (finding.verdict, finding.cases, finding.figure) == ("not claimed", 0, None)
    assert told in finding.message


def test_claims_decide_which_laws_are_tried() -> None:
    shape = (1, 2, 3, 4, 4)
    silent = found(claimed_subject(torch.nn.Identity(), Claims(shape, lead=1, group=2)), *QUICK)
    spoken = found(claimed_subject(torch.nn.Identity(), Claims(shape, lead=1, group=2, causal=True)), *QUICK)
    newly = {law for law, finding in spoken.items() if finding.verdict != silent[law].verdict}
    assert newly == {"reach", "group_causal", "first_frame", "prefix"}
    assert {silent[law].message for law in newly} == {"no reach in time is claimed"}
    ahead = found(
        claimed_subject(torch.nn.Identity(), Claims(shape, lead=1, group=2, causal=True, look_ahead=1)), *QUICK
    )
    assert ahead["group_causal"].message == "outputs see 1 groups ahead"
    assert ahead["reach"].verdict == "holds"


def test_counterexample_is_the_smallest_case_that_fails() -> None:
    finding = found(subject(LateFailing), "group_causal")["group_causal"]
    assert finding.verdict == "violated"
    assert finding.case == {"groups": 2, "seed": 0}
    assert finding.cases == 2
    with pytest.raises(LawError):
        verify.check(subject(LateFailing), "group_causal", "layer", **finding.case)
    verify.check(subject(LateFailing), "group_causal", "layer", groups=1, seed=0)


@pytest.mark.parametrize("law", ["stream", "reach", "shift", "batch", "threads"])
@pytest.mark.parametrize("effort", list(EFFORTS))
def test_cases_go_from_small_to_large(law: str, effort: str) -> None:
    (part,) = subject().parts
    (of_parts, *_) = all_laws()[law]
    cases = list(of_parts.cases(part, EFFORTS[effort]))
    sizes = [(case["seed"], case["groups"]) for case in cases]
    assert sizes == sorted(sizes)
    assert len({str(case) for case in cases}) == len(cases) > 0


def test_thorough_effort_looks_further() -> None:
    quick, thorough = (found(subject(), "reach", effort=effort)["reach"] for effort in ("quick", "thorough"))
    assert quick.verdict == thorough.verdict == "holds"
    assert thorough.cases > quick.cases


@pytest.mark.parametrize("law", ["stream", "reach", "interleaved", "threads", "gradients"])
def test_check_repeats_the_case_of_a_finding(law: str) -> None:
    made = {
        "stream": breakers.Forgetful,
        "reach": breakers.Peeking,
        "interleaved": breakers.OnePast,
        "threads": breakers.SharedScratch,
        "gradients": breakers.WrongSlope,
    }[law]
    finding = found(subject(made), law)[law]
    with pytest.raises(LawError) as caught:
        verify.check(subject(made), law, finding.part, **finding.case)
    assert caught.value.law == law
    if law != "threads":  # which of them fails, and by how much, is another matter each time
        assert caught.value.message == finding.message
        assert dict(caught.value.where) == dict(finding.where)
        assert caught.value.figure == finding.figure
    verify.check(subject(), law, finding.part, **finding.case)


def test_check_gives_the_figure_of_the_case() -> None:
    finding = found(subject(), "bfloat16")["bfloat16"]
    assert finding.figure == verify.check(subject(), "bfloat16", "layer", groups=1, seed=0) > 0


def test_check_refuses_what_it_does_not_know() -> None:
    with pytest.raises(VvaeError, match="'strem' is unknown; near it: stream"):
        verify.check(subject(), "strem", "layer")
    with pytest.raises(VvaeError, match="no part 'encoder' for the law stream; its parts: layer"):
        verify.check(subject(), "stream", "encoder")
    with pytest.raises(VvaeError, match="'reech' is unknown; near it: reach"):
        next(verify.verify(subject(), only=["reech"]))


def test_without_time_no_case_is_begun() -> None:
    begun: list[str] = []
    findings = found(subject(), seconds=0, tell=lambda law, part, case: begun.append(law))
    assert begun == []
    claimed = [finding for finding in findings.values() if finding.verdict != "not claimed"]
    assert {finding.verdict for finding in claimed} == {"no time"}
    assert {finding.message for finding in claimed} == {"no time was left for a case"}


def test_time_that_runs_out_leaves_the_cases_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    finding = found(subject(), "stream", seconds=5)["stream"]
    assert finding.verdict == "holds"
    assert 0 < finding.cases < len(list(all_laws()["stream"][0].cases(subject().parts[0], EFFORTS["quick"])))


def test_tell_is_called_before_each_case() -> None:
    told: list[tuple[str, str, Case]] = []
    findings = found(subject(), "stream", "batch", tell=lambda *case: told.append(case))
    assert len(told) == sum(finding.cases for finding in findings.values())
    assert told[0] == ("stream", "layer", {"groups": 1, "seed": 0, "plan": [1]})


def test_figure_is_the_worst_of_the_cases() -> None:
    (part,) = subject().parts
    law = all_laws()["stream"][0]
    figures = [law.check(part, **case) for case in law.cases(part, EFFORTS["quick"])]
    assert found(subject(), "stream")["stream"].figure == max(figures)


class Crashing(Sound):
    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        if x.shape[2] > 1:
            raise ZeroDivisionError("by hand\nand a second line")
        return super().mix(x, before)


class Unsupported(Sound):
    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if x.dtype == torch.bfloat16:
            raise NotImplementedError('"slow_conv3d" not implemented for BFloat16')
        return super().run(x, ctx)


def test_crash_is_a_verdict_with_its_case() -> None:
    finding = found(subject(Crashing), "reach")["reach"]
    assert (finding.verdict, finding.message) == ("crashed", "ZeroDivisionError: by hand")
    assert finding.case == {"groups": 1, "seed": 0}
    assert finding.cases == 2


def test_other_laws_go_on_after_a_crash() -> None:
    findings = found(subject(Crashing), "reach", "empty", "parameters")
    assert [finding.verdict for finding in findings.values()] == ["crashed", "crashed", "crashed"]
    assert [finding.law for finding in findings.values()] == ["reach", "empty", "parameters"]


def test_missing_kernel_is_no_defect() -> None:
    findings = found(subject(Unsupported), "bfloat16", "batch")
    assert findings["bfloat16"].verdict == "not claimed"
    assert "torch cannot do it here" in findings["bfloat16"].message
    assert findings["batch"].verdict == "holds"


def test_model_of_others_is_fresh_for_every_law() -> None:
    class Worn(torch.nn.Module):
        """Gives nothing but zeros after its fortieth call."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * (self.calls < 40)

    worn = claimed_subject(Worn(), Claims((1, 2, 3, 4, 4)))
    before = worn.parts[0].module.calls
    assert found(worn, "batch")["batch"].verdict == "holds"
    assert worn.parts[0].module.calls == before


def test_measured_figure_is_no_verdict() -> None:
    def cases(part: Any, effort: Effort) -> Iterable[Case]:
        yield {}

    law = Law("measured", verify.check_tiled, lambda part: 0.5, lambda part: None, cases, lambda part: True)
    from vvae.verify import suite

    finding = suite._found(law, subject().parts[0], "layer", EFFORTS["quick"], None, lambda *_: None)
    assert (finding.verdict, finding.figure, finding.cases) == ("measured", 0.5, 1)


def test_laws_that_share_a_name_are_one() -> None:
    laws = all_laws()
    assert [law.states.__name__ for law in laws["stream"]] == ["check_stream", "check_model_stream"]
    assert [law.states.__name__ for law in laws["parameters"]] == ["check_parameters", "check_parameters"]
    assert all(law.name == name for name, group in laws.items() for law in group)


def test_layer_without_frames_or_parameters_keeps_what_applies() -> None:
    findings = found(layer_subject(SiLUSpec(), SIGNAL), *QUICK)
    assert {finding.verdict for finding in findings.values()} == {"holds", "not claimed"}
