"""A layer that keeps every law, and for each law layers that break it, as they go wrong in practice."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context, StreamStep
from vvae.layers import Layer
from vvae.layers.layer import channels_first, channels_last
from vvae.signal import Signal
from vvae.spec import LayerSpec

SIGNAL = Signal(2, lead=1, group=2)


class Sound(Layer):
    """A part of each frame and of the one before it; the first frame stands before the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((), 0.5))
        self.inside = nn.Identity()

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        past = ctx.recall(self)
        before = torch.cat([self.first(x) if past is None else past[0], x[:, :, :-1]], 2)
        ctx.keep(self, x[:, :, -1:])
        return channels_first(channels_last(self.mix(x, before)).contiguous())

    def first(self, x: Tensor) -> Tensor:
        return x[:, :, :1]

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return self.gain * self.inside(x) + 0.25 * before


class SoundSpec(LayerSpec):
    """What `Sound` is. `made` names the class of the module, `before` says what stands before the clip."""

    kind: Literal["tests.sound"] = "tests.sound"
    made: str = "Sound"
    before: str = "replicate"
    streams: bool = True

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> nn.Module:
        found: nn.Module = globals()[self.made]()
        return found

    def reach(self, signal: Signal, frames: int) -> reach.Reach:
        return reach.window(frames, before=1, after=0)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)

    def stream_limit(self, signal: Signal) -> str | None:
        return None if self.streams else "it counts the frames of the whole clip"


class MoreChannelsSpec(SoundSpec):
    """Says that it doubles the channels."""

    kind: Literal["tests.more_channels"] = "tests.more_channels"  # type: ignore[assignment]

    def trace(self, signal: Signal) -> Signal:
        return signal.with_channels(2 * signal.channels)


# --------------------------------------------------------------------------- time


class Blind(Sound):
    """Does not see the frame before, which it declares."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return self.gain * self.inside(x)


class Peeking(Sound):
    """Sees the next frame of its own group, which it does not declare."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        led = x.shape[2] % 2
        groups = x[:, :, led:].unflatten(2, (-1, 2))
        other = torch.cat([x[:, :, :led], groups[:, :, :, 1:].repeat(1, 1, 1, 2, 1, 1).flatten(2, 3)], 2)
        return super().mix(x, before) + 1e-3 * other


class FarSighted(Sound):
    """Sees two frames back, and declares one."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) + 1e-3 * before.roll(1, 2)


class Clairvoyant(Sound):
    """Sees the next frame, over the end of its group."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(x, ctx) + 0.1 * torch.cat([x[:, :, 1:], x[:, :, -1:]], 2)


class Flinching(Sound):
    """Changes its first frame where all that follows is loud: to be seen only by exchanging it all."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        y, later = super().mix(x, before), x[:, :, 1:].square().flatten(3).mean(3).amax(1)
        loud = (later > 3).all(1) if x.shape[2] > 2 else later.new_zeros(len(x), dtype=torch.bool)
        return torch.cat([y[:, :, :1] * torch.where(loud, 1.001, 1.0)[:, None, None, None, None], y[:, :, 1:]], 2)


class CountingFrames(Sound):
    """Adds the number of the frame, which it keeps in a stream."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        past = ctx.recall(self)
        at = x.new_zeros(1) if past is None else past[1]
        before = torch.cat([x[:, :, :1] if past is None else past[0], x[:, :, :-1]], 2)
        ctx.keep(self, x[:, :, -1:], at + x.shape[2])
        numbers = at + torch.arange(x.shape[2], dtype=x.dtype, device=x.device)
        return channels_first(channels_last(self.mix(x, before) + 0.1 * numbers[:, None, None]).contiguous())


class Image(Sound):
    """Has a way of its own for a clip of one frame."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        alone = x.shape[2] == 1 and not isinstance(ctx, StreamStep)
        return super().run(x, ctx) * (1.001 if alone else 1.0)


class CountingLength(Sound):
    """Weighs a frame by the length of the clip."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        weights = torch.ones(x.shape[2], dtype=x.dtype, device=x.device)
        weights[1:2] += 1e-3 / x.shape[2]
        return super().mix(x, before) * weights[:, None, None]


class ZeroFirst(Sound):
    """Has zeros before the clip, and says that it has the first frame."""

    def first(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :1])


# --------------------------------------------------------------------------- space and sizes


class Smearing(Sound):
    """Sees the row above, and declares no cell around."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) + 1e-3 * x.roll(1, 3)


class OtherOnPaper(Sound):
    """Has another parameter where it is built without numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((), 0.5) if torch.get_default_device().type == "cpu" else torch.ones(3))


class CheapOnPaper(Sound):
    """Does more work than where it runs without numbers."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        if x.device.type == "cpu":
            torch.ones(2, 2) @ torch.ones(2, 2)
        return super().mix(x, before)


# --------------------------------------------------------------------------- streams


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


class Hasty(Sound):
    """Keeps the first frame of the last group, not the last one, where a chunk has several groups."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = super().run(x, ctx)
        if isinstance(ctx, StreamStep) and ctx.open and x.shape[2] > 3:
            ctx.after[ctx.names[self]] = (x[:, :, -2:-1].clone(),)
        return y


class Startled(Sound):
    """Counts the chunks that were empty."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        past = ctx.recall(self)
        if not x.shape[2] and past is not None:
            ctx.keep(self, past[0], x.new_ones(1))
        return super().forward(x, ctx)


class OddWhenEmpty(Sound):
    """Gives one row less for an empty chunk."""

    def empty(self, x: Tensor) -> Tensor:
        return x[:, :, :, 1:]


class Clinging(Sound):
    """Keeps a view, which holds the whole chunk in memory."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = super().run(x, ctx)
        if isinstance(ctx, StreamStep) and ctx.open:
            ctx.after[ctx.names[self]] = (x[:, :, -1:],)
        return y


class Scribbling(Sound):
    """Uses up what it kept."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = super().run(x, ctx)
        if (past := ctx.recall(self)) is not None:
            past[0].data.zero_()
        return y


class OnePast(Sound):
    """Keeps the past of the stream on itself while it lasts: there may be one only."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        y = super().forward(x, ctx)
        if ctx.last:
            vars(self).pop("past", None)
        return y

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if not isinstance(ctx, StreamStep):
            return super().run(x, ctx)
        past = vars(self).pop("past", None) if ctx.recall(self) is not None else None
        ctx.keep(self, x.new_zeros(1))
        before = torch.cat([x[:, :, :1] if past is None else past, x[:, :, :-1]], 2)
        self.past = x[:, :, -1:]
        return channels_first(channels_last(self.mix(x, before)).contiguous())


# --------------------------------------------------------------------------- calls


class SharedScratch(Sound):
    """Leaves what it works on lying on itself for a moment: nothing stays, but threads meet there."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        self.scratch = x
        self.inside(x)
        found = super().mix(self.scratch, before)
        vars(self).pop("scratch", None)
        return found


class Hoarding(Sound):
    """Keeps the last clip on itself and adds it to the next one of its shape."""

    last: Tensor | None = None

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        y = super().mix(x, before)
        seen, self.last = self.last, x.detach()
        return y if seen is None or seen.shape != x.shape else y + 0.01 * seen


class Interrupted(Sound):
    """A call that fails leaves its frames behind, to the next one of the same thread."""

    begun = threading.local()

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        left = vars(self.begun).pop("clip", None)
        self.begun.clip = x.detach()
        self.inside(x)
        del self.begun.clip
        y = super().mix(x, before)
        return y if left is None or left.shape != x.shape else y + 0.01 * left


class Secretive(Sound):
    """Keeps a note of every call without using it."""

    calls = 0

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().mix(x, before)


class Cached(Sound):
    """Computes something once and keeps it, under a name that looks private."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        if "_weight" not in vars(self):
            self._weight = torch.ones((), dtype=x.dtype)
        return super().mix(x, before)


class Sociable(Sound):
    """Looks at the other clips of the batch."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) + 0.01 * (x - x.mean(0, keepdim=True))


class Scrambled(Sound):
    """Gives contiguous memory for channels-last memory."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(x, ctx).contiguous()


class Underflowing(Sound):
    """Divides by what bfloat16 rounds to zero."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        tiny = self.gain * 1e-42
        return super().mix(x, before) * (tiny / tiny)


class CoarseInHalf(Sound):
    """A kernel for bfloat16 that leaves out half of the sum."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        y = super().mix(x, before)
        return y / 2 if x.dtype == torch.bfloat16 else y


class OtherWhenCompiled(Sound):
    """Takes a shorter way where it is compiled."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        y = super().mix(x, before)
        return y * 1.001 if torch.compiler.is_compiling() else y


# --------------------------------------------------------------------------- learning


class CountingRuns(Sound):
    """Gives other gradients where it is run again in the backward pass."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        again = torch._C._current_graph_task_id() != -1
        return super().mix(x, before) * (2.0 if again else 1.0) * self.gain


class Trained(Sound):
    """Gives more in training where no gradients are kept."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(x, before) * (1.01 if self.training and not torch.is_grad_enabled() else 1.0)


class _Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


class WrongSlope(Sound):
    """A backward pass by hand that is off by a factor."""

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return super().mix(_Doubling.apply(x), before)


class Idle(Sound):
    """Carries a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))


# --------------------------------------------------------------------------- files


class Unsaved(Sound):
    """Weighs by what is made anew each time, and is in no file."""

    made = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.weight = 1 + 1e-3 * next(self.made)

    def mix(self, x: Tensor, before: Tensor) -> Tensor:
        return self.weight * super().mix(x, before)
