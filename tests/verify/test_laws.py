"""Each law rejects a layer that breaks it, and that layer keeps the other laws (so that laws are told apart)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vvae import reach, verify
from vvae.context import WHOLE_CLIP, Context
from vvae.layers import BetweenKeyframesSpec, ChannelInterleaveSpec, GroupCausalConv3d, Layer, chain
from vvae.layers.layer import channels_first, channels_last
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify import LawError

SIGNAL = Signal(2, lead=1, group=2)
FRAMES = SIGNAL.frames(3)


class Sound(Layer):
    """The mean of a frame and the one before it: keeps every law."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((), 0.5))

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        past = ctx.recall(self)
        before = torch.cat([x[:, :, :1] if past is None else past[0], x[:, :, :-1]], 2)
        ctx.keep(self, x[:, :, -1:])
        return channels_first(channels_last(self.mix(x, before)).contiguous())

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return self.gain * x + 0.25 * before


class Forgetful(Sound):
    """Starts every chunk anew."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(x, WHOLE_CLIP)


class DetachedPast(Sound):
    """Lets no gradient through its state: values are right."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        past = ctx.recall(self)
        before = torch.cat([x[:, :, :1] if past is None else past[0].detach(), x[:, :, :-1]], 2)
        ctx.keep(self, x[:, :, -1:])
        return channels_first(channels_last(self.mix(x, before)).contiguous())


class FarSighted(Sound):
    """Sees one frame more than it declares."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) + 1e-3 * before.roll(1, 2)


class Blind(Sound):
    """Does not see the frame before, which it declares."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return self.gain * x


class Clairvoyant(Sound):
    """Sees the next frame, over the end of its group."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(x, ctx) + 0.1 * torch.cat([x[:, :, 1:], x[:, :, -1:]], 2)


class Hoarder(Sound):
    """Keeps the last clip on itself and adds it to the next one."""

    last: Tensor | None = None

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        y = super().mix(x, before)
        seen, self.last = self.last, x.detach()
        return y if seen is None or seen.shape != x.shape else y + 0.01 * seen


class Secretive(Sound):
    """Keeps a note of every call without using it."""

    calls = 0

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().mix(x, before)


class Shared(Sound):
    """Keeps the stream on itself, as many published layers do: two streams disturb each other."""

    past: Tensor | None = None

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if ctx is WHOLE_CLIP or ctx.recall(self) is None:
            self.past = x[:, :, :1]
        ctx.keep(self, x[:, :, :0])
        before = torch.cat([self.past, x[:, :, :-1]], 2)
        self.past = x[:, :, -1:].detach()
        return channels_first(channels_last(self.mix(x, before)).contiguous())


class CountsItsRuns(Sound):
    """Behaves differently when it is run again in the backward pass."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        again = torch._C._current_graph_task_id() != -1
        return super().mix(x, before) * (2.0 if again else 1.0) * self.gain


class SharedScratch(Sound):
    """Leaves what it works on lying on itself for a moment: nothing stays, but threads meet there."""

    scratch: Tensor | None = None

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        self.scratch = x
        time.sleep(0.01)
        y = super().forward(self.scratch, ctx)
        del self.scratch
        return y


class Scrambled(Sound):
    """Gives contiguous memory for channels-last memory."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(x, ctx).contiguous()


class Startled(Sound):
    """Forgets its state when a chunk is empty."""

    def empty(self, x: Tensor) -> Tensor:
        return x[:, :1]


def plans() -> list[list[int]]:
    return [[1, 1, 1], [0, 3]]


def declared() -> reach.Reach:
    return reach.window(FRAMES, before=1, after=0)


def the_clip() -> Tensor:
    return verify.random_clip(SIGNAL, FRAMES, 3, 4)


def streamed(module: nn.Module, clip: Tensor) -> Tensor:
    return torch.cat(verify.stream(module, verify.split(clip, SIGNAL, [1, 1, 1])), 2)


LAWS: dict[str, Callable[[nn.Module], None]] = {
    "stream": lambda m: verify.check_stream(m, SIGNAL, the_clip(), plans()),
    "reach": lambda m: verify.check_reach(m, declared(), the_clip()),
    "group causality": lambda m: verify.check_group_causal(m, SIGNAL, the_clip(), SIGNAL),
    "prefix": lambda m: verify.check_prefix(m, SIGNAL, the_clip(), SIGNAL),
    "state": lambda m: verify.check_stateless(m, the_clip()),
    "interleaving": lambda m: verify.check_interleaved(m, SIGNAL, the_clip(), the_clip().flip(2), [1, 1, 1]),
    "threads": lambda m: verify.check_threads(m, [partial(streamed, m, the_clip()), partial(streamed, m, -the_clip())]),
    "checkpointing": lambda m: verify.check_checkpointing(m, SIGNAL, the_clip(), [1, 1, 1]),
    "layout": lambda m: verify.check_layout(m, the_clip()),
    "empty chunk": lambda m: verify.check_empty(m, SIGNAL, the_clip(), SIGNAL),
}

ALL = set(LAWS)
BREAKERS: list[tuple[type[Sound], str, set[str]]] = [
    (Forgetful, "stream", {"interleaving", "checkpointing"}),
    (DetachedPast, "stream", {"checkpointing"}),
    (FarSighted, "reach", {"stream", "group causality", "prefix", "checkpointing"}),
    (Blind, "reach", set()),
    (Clairvoyant, "group causality", {"stream", "reach", "prefix", "checkpointing"}),
    (Clairvoyant, "prefix", {"stream", "reach", "group causality", "checkpointing"}),
    (
        Hoarder,
        "state",
        {"stream", "reach", "group causality", "prefix", "checkpointing", "layout", "interleaving", "threads"},
    ),
    (Secretive, "state", set()),
    (Shared, "interleaving", {"stream", "state", "checkpointing", "threads"}),
    (SharedScratch, "threads", set()),
    (CountsItsRuns, "checkpointing", set()),
    (Scrambled, "layout", set()),
    (Startled, "empty chunk", set()),
]


@pytest.mark.parametrize("law", list(LAWS))
def test_law_accepts_a_sound_layer(law: str) -> None:
    LAWS[law](Sound().double())


@pytest.mark.parametrize(("broken", "law", "also"), BREAKERS, ids=[f"{b.__name__}-{law}" for b, law, _ in BREAKERS])
def test_law_rejects_a_layer_that_breaks_it_and_others_do_not(broken: type[Sound], law: str, also: set[str]) -> None:
    with pytest.raises(LawError, match=law):
        LAWS[law](broken().double())
    for other in LAWS.keys() - {law} - also:
        LAWS[other](broken().double())


class WrongShapeSpec(LayerSpec):
    """Says that it doubles the channels; its module does not."""

    kind: str = "abstract"

    def trace(self, signal: Signal) -> Signal:
        return signal.with_channels(2 * signal.channels)

    def build(self, signal: Signal) -> nn.Module:
        return Sound()

    def reach(self, signal: Signal, frames: int) -> reach.Reach:
        return reach.same_frame(frames)


def test_shape_law_rejects_a_wrong_trace() -> None:
    with pytest.raises(LawError, match="traced"):
        verify.check_shape(WrongShapeSpec(), SIGNAL, [(FRAMES, 4, 4)])


def test_stream_law_rejects_a_kernel_that_only_nearly_agrees() -> None:
    class Rounding(GroupCausalConv3d):
        def run(self, x: Tensor, ctx: Context) -> Tensor:
            return super().run(x, ctx) * (1 if ctx is WHOLE_CLIP else 1 + 1e-9)

    with pytest.raises(LawError, match="stream"):
        verify.check_stream(Rounding(2, 2, group=2).double(), SIGNAL, the_clip(), plans())


def test_stream_law_takes_a_clip_that_gives_no_frames() -> None:
    spec = chain(between=BetweenKeyframesSpec(), order=ChannelInterleaveSpec(outer=1, inner=2))
    verify.check_stream(spec.build(SIGNAL), SIGNAL, the_clip()[:, :, :1], [[0], [-1, 0]])


def test_difference_is_absolute_and_part_of_the_largest_value() -> None:
    a, b = torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])
    assert verify.difference(a, b) == 0.25
    assert verify.difference(b * 0, b * 0) == 0
    assert verify.difference(b, b * 0) == float("inf")
    assert verify.difference(torch.full((2,), float("nan")), b) == float("inf")
    with pytest.raises(LawError, match="shapes differ"):
        verify.difference(a, b[:1])


def test_split_refuses_a_plan_that_does_not_cover_the_clip() -> None:
    with pytest.raises(LawError, match="covers"):
        verify.split(the_clip(), SIGNAL, [1])
