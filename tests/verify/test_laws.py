"""Each law rejects a layer that breaks it, and that layer keeps the other laws (so that laws are told apart)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.verify import breakers
from tests.verify.breakers import SIGNAL, MoreChannelsSpec, Sound, SoundSpec
from vvae import StreamError, verify
from vvae.context import WHOLE_CLIP, Context
from vvae.layers import BetweenKeyframesSpec, ChannelInterleaveSpec, GroupCausalConv3d, chain
from vvae.signal import Signal
from vvae.verify import LawError, all_laws, layer_subject
from vvae.verify.of_parts import LAWS

FRAMES = SIGNAL.frames(3)
UNLED = Signal(2, lead=0, group=2)
UNSAID = {"before": "unsaid"}
ALL = {law.name for law in LAWS}
CRASH = {"stream": "crashed"}
"""Chunks of other heights cannot be put side by side."""


@dataclass(frozen=True)
class Broken:
    """A layer, the law that it is there for, and the verdicts of the other laws that it does not keep."""

    made: type[Sound]
    law: str
    also: dict[str, str] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)
    signal: Signal = SIGNAL
    spec: type[SoundSpec] = SoundSpec

    def verdicts(self, only: set[str]) -> dict[str, str]:
        """The laws that do not hold."""
        subject = layer_subject(self.spec(made=self.made.__name__, **self.says), self.signal)
        found = verify.verify(subject, only=sorted(only))
        return {finding.law: finding.verdict for finding in found if finding.verdict not in ("holds", "not claimed")}


def violated(*laws: str) -> dict[str, str]:
    return dict.fromkeys(laws, "violated")


FAR = violated("stream", "group_causal", "shift", "first_frame", "prefix")
AHEAD = violated("stream", "reach", "prefix", "first_frame", "padding")
MEMORY = violated("reach", "group_causal", "first_frame", "stream", "interleaved", "threads", "untouched", "batch")
BREAKERS = [
    Broken(breakers.OtherOnPaper, "traced"),
    Broken(breakers.CheapOnPaper, "traced"),
    Broken(Sound, "traced", violated("empty"), spec=MoreChannelsSpec),
    Broken(breakers.Blind, "reach"),
    Broken(breakers.Peeking, "reach"),
    Broken(breakers.FarSighted, "reach", FAR | violated("checkpointing")),
    Broken(breakers.Flinching, "group_causal"),
    Broken(breakers.Clairvoyant, "group_causal", AHEAD | violated("checkpointing")),
    Broken(breakers.CountingFrames, "shift", says=UNSAID),
    Broken(breakers.Image, "first_frame"),
    Broken(breakers.CountingLength, "prefix", says={**UNSAID, "streams": False}),
    Broken(breakers.ZeroFirst, "padding", signal=UNLED),
    Broken(breakers.Smearing, "halo"),
    Broken(breakers.Hasty, "stream"),
    Broken(breakers.Forgetful, "stream", violated("checkpointing")),
    Broken(breakers.DetachedPast, "stream", violated("checkpointing")),
    Broken(breakers.Startled, "empty"),
    Broken(breakers.OddWhenEmpty, "empty", CRASH),
    Broken(breakers.Clinging, "kept"),
    Broken(breakers.Scribbling, "kept", violated("empty")),
    Broken(breakers.OnePast, "interleaved"),
    Broken(breakers.SharedScratch, "threads"),
    Broken(breakers.Interrupted, "stateless"),
    Broken(breakers.Hoarding, "stateless", MEMORY | violated("checkpointing", "gradients", "empty")),
    Broken(breakers.Secretive, "untouched"),
    Broken(breakers.Sociable, "batch"),
    Broken(breakers.Scrambled, "layout"),
    Broken(breakers.CountingRuns, "checkpointing"),
    Broken(breakers.WrongSlope, "gradients"),
    Broken(breakers.Idle, "parameters"),
    Broken(breakers.CoarseInHalf, "bfloat16"),
    Broken(breakers.Underflowing, "bfloat16", violated("layout")),
    Broken(breakers.OtherWhenCompiled, "compiled"),
]


def named(broken: Broken) -> str:
    return f"{broken.law}-{broken.spec.__name__ if broken.spec is not SoundSpec else broken.made.__name__}"


def the_clip() -> Tensor:
    return verify.random_clip(SIGNAL, FRAMES, 3, 4)


@pytest.mark.parametrize("signal", [SIGNAL, UNLED], ids=["lead", "no lead"])
def test_laws_accept_a_sound_layer(signal: Signal) -> None:
    assert Broken(Sound, "none", signal=signal).verdicts(ALL) == {}


@pytest.mark.parametrize("broken", BREAKERS, ids=named)
def test_law_rejects_a_layer_that_breaks_it_and_others_do_not(broken: Broken) -> None:
    # compiling takes as long as all other laws together, so only its own breaker is compiled
    tried = ALL if broken.law == "compiled" else ALL - {"compiled"}
    assert broken.verdicts(tried) == {broken.law: "violated"} | broken.also


def test_every_law_of_layers_is_the_only_one_that_some_layer_breaks() -> None:
    assert {broken.law for broken in BREAKERS if not broken.also} == ALL


def test_law_tells_what_it_found() -> None:
    with pytest.raises(LawError, match="reach: output frames") as caught:
        verify.check_reach(breakers.Peeking().double(), SoundSpec().reach(SIGNAL, FRAMES), the_clip())
    assert caught.value.law == "reach"
    assert caught.value.where == {"output_frames": [1], "input_frame": 2}


@pytest.mark.parametrize("name", list(all_laws()))
def test_law_is_stated_as_a_formula_with_its_tolerance(name: str) -> None:
    for law in all_laws()[name]:
        assert any(sign in law.formula for sign in (" = ", " != ", " <= ", " => ")), law.formula
        assert "olerance" in (inspect.getdoc(law.states) or ""), f"{law.states.__name__} names no tolerance"
        assert law.states.__name__ in verify.__all__


def test_every_public_law_is_in_the_suite() -> None:
    held = {law.states.__name__ for laws in all_laws().values() for law in laws}
    assert {name for name in verify.__all__ if name.startswith("check_")} - held == {"check_restored"}


def test_stream_law_rejects_a_kernel_that_only_nearly_agrees() -> None:
    class Rounding(GroupCausalConv3d):
        def run(self, x: Tensor, ctx: Context) -> Tensor:
            return super().run(x, ctx) * (1 if ctx is WHOLE_CLIP else 1 + 1e-9)

    with pytest.raises(LawError, match="stream"):
        verify.check_stream(Rounding(2, 2, group=2).double(), SIGNAL, the_clip(), [[1, 1, 1]])


def test_stream_law_takes_a_clip_that_gives_no_frames() -> None:
    spec = chain(between=BetweenKeyframesSpec(), order=ChannelInterleaveSpec(outer=1, inner=2))
    verify.check_stream(spec.build(SIGNAL), SIGNAL, the_clip()[:, :, :1], [[0], [-1, 0]])


def test_untouched_law_sees_what_looks_private() -> None:
    with pytest.raises(LawError, match="_weight"):
        verify.check_untouched(breakers.Cached().double(), the_clip())


def test_shift_law_asks_for_a_clip_of_which_some_output_does_not_see_the_start() -> None:
    x = the_clip()[:, :, :3]
    with pytest.raises(LawError, match="take a longer clip"):
        verify.check_shift(Sound().double(), SIGNAL, x, SIGNAL, SoundSpec().reach(SIGNAL, 3))


def test_parameters_law_names_what_has_no_gradient() -> None:
    with pytest.raises(LawError, match="1 of 2 parameters have no gradient: bias") as caught:
        verify.check_parameters(breakers.Idle().double(), the_clip())
    assert caught.value.where == {"parameters": ["bias"]}


def test_gradients_law_names_the_parameter_that_is_off() -> None:
    class Halved(Sound):
        def mix(self, x: Tensor, before: Tensor) -> Tensor:
            return super().mix(x, before) + self.gain.detach() * x

    with pytest.raises(LawError, match="of gain"):
        verify.check_gradients(Halved().double(), the_clip())


def test_difference_is_absolute_and_part_of_the_largest_value() -> None:
    a, b = torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])
    assert verify.difference(a, b) == 0.25
    assert verify.difference(b * 0, b * 0) == 0
    assert verify.difference(b, b * 0) == float("inf")
    assert verify.difference(torch.full((2,), float("nan")), b) == float("inf")
    assert verify.difference(a, b[:1]) == float("inf")


def test_split_refuses_a_plan_that_does_not_cover_the_clip() -> None:
    with pytest.raises(StreamError, match="covers"):
        verify.split(the_clip(), SIGNAL, [1])


def test_stream_is_a_loop_over_chunks() -> None:
    module = nn.Identity()
    module.forward = lambda x, step: x * (2 if step.last else 1)  # type: ignore[method-assign]
    x = the_clip()
    given = verify.stream(module, verify.split(x, SIGNAL, [1, -1 + 1, 2]))
    assert [y.shape[2] for y in given] == [3, 0, 4]
    assert torch.equal(torch.cat(given, 2), torch.cat([x[:, :, :3], 2 * x[:, :, 3:]], 2))
