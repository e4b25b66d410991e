"""Frames that stand before and after a clip."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from vvae.context import Context
from vvae.errors import StreamError
from vvae.layers.layer import Layer, blank_frame, join_frames

PadMode: TypeAlias = Literal["replicate", "zero"]


def pad_time(x: Tensor, before: int, after: int, mode: PadMode) -> Tensor:
    """`before` frames in front of the clip and `after` behind it: its end frames again, or zeros.

    >>> pad_time(torch.ones(1, 1, 3, 2, 2), 2, 1, "zero").shape
    torch.Size([1, 1, 6, 2, 2])
    """
    first, last = x[:, :, :1], x[:, :, -1:]
    if mode == "zero":
        first = last = blank_frame(x)
    return join_frames(*[first] * before, x, *[last] * after)


class TimePad(Layer):
    """Pads a clip in time, for a convolution behind it that does not. `replicate` or `zero`, on both sides.

    In a stream each chunk gets the `before` frames in front of it, so that the convolution gives exactly the chunk's
    frames. Padding behind the clip needs its end: with `after` > 0 a stream is refused.
    """

    def __init__(self, before: int, after: int = 0, mode: PadMode = "replicate") -> None:
        super().__init__()
        self.before, self.after, self.mode = before, after, mode

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        past = ctx.recall(self)
        if self.after and (past is not None or not ctx.last):
            raise StreamError(f"a pad of {self.after} frames behind the clip cannot stream; run the whole clip")
        padded = pad_time(x, self.before, self.after, self.mode) if past is None else join_frames(past[0], x)
        ctx.keep(self, padded[:, :, padded.shape[2] - self.before :])
        return padded

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}, mode={self.mode!r}"


class CausalPad(TimePad):
    """Pads in front only, for a convolution with that temporal kernel (and dilation)."""

    def __init__(self, kernel: int, dilation: int = 1, mode: PadMode = "replicate") -> None:
        super().__init__((kernel - 1) * dilation, 0, mode)
