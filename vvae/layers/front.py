"""Frames that complete a clip in front, and their removal: the groups of such a clip end where it ends."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from torch import Tensor

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError, StreamError
from vvae.layers.layer import Layer
from vvae.layers.pad import pad_time
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec


class FillFront(Layer):
    """As many zero frames in front of the clip as complete its first group.

    Shapes: `b c t h w` -> `b c ceil(t/group)*group h w`. The first chunk of a stream tells how many are missing, so it
    must begin with the clip's broken group (if it has one); every other chunk is whole groups.

    Raises:
        StreamError: a later chunk ends inside a group.

    Source: `VAE_Temporal.encode` of Open-Sora 1.2.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        missing = -x.shape[2] % self.group
        if ctx.recall(self) is None:
            ctx.keep(self, x[:, :, :0])  # the mark that the clip has begun
            return pad_time(x, missing, 0, "zero")
        if missing:
            raise StreamError(
                f"a chunk of {x.shape[2]} frames follows, but only the start of this clip can be a broken group, which "
                f"is completed: give (frames - 1) % {self.group} + 1 frames first, then whole groups of {self.group}"
            )
        return x

    def extra_repr(self) -> str:
        return f"group={self.group}"


class _FrontSpec(LayerSpec):
    """What filling and dropping share: they know groups only, and nothing around a cell."""

    def trace(self, signal: Signal) -> Signal:
        if signal.lead:
            raise SpecError(f"found a lead of {signal.lead} frames; a clip that is completed in front must have none")
        return signal

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class FillFrontSpec(_FrontSpec):
    """Zero frames in front of a clip of any length, until it is whole groups."""

    kind: Literal["fill_front"] = "fill_front"

    def build(self, signal: Signal) -> FillFront:
        return FillFront(signal.group)

    def frames(self, signal: Signal, frames: int) -> int:
        return -(-frames // signal.group) * signal.group

    def reach(self, signal: Signal, frames: int) -> Reach:
        filled = reach.same_frame(-frames % signal.group)[:, :0]
        return reach.beside(filled, reach.same_frame(frames))


class DropFront(Layer):
    """Without the frames in front that completed the first group of a clip of `ctx.frames` frames: undoes `FillFront`.

    Shapes: `b c n*group h w` -> `b c n*group-(-ctx.frames % group) h w`; without `ctx.frames` all frames stay.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if ctx.recall(self) is not None:
            return x
        ctx.keep(self, x[:, :, :0])  # the mark that the clip has begun
        return x if ctx.frames is None else x[:, :, -ctx.frames % self.group :]

    def extra_repr(self) -> str:
        return f"group={self.group}"


class DropFrontSpec(_FrontSpec, FrameLayerSpec):
    """Drops the frames in front that are none of the clip's; how many, the clip that passes tells."""

    kind: Literal["drop_front"] = "drop_front"

    def build(self, signal: Signal) -> DropFront:
        return DropFront(signal.group)
