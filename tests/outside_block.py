"""A block defined outside the package, with a state of its own, as a user would write it."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vvae import Context, LayerSpec, Signal
from vvae.layers import Layer
from vvae.reach import Reach, window


class MovingAverage(Layer):
    """The weighted mean of each frame and the `length - 1` before it (fewer at the start), by channel and age.

    Shape `b c t h w`, kept. A stream keeps the last `length - 1` frames of its input.
    """

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.weight = nn.Parameter(torch.rand(channels, length) + 0.5)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        kept = ctx.recall(self)
        past = x[:, :, :0] if kept is None else kept[0]
        known = torch.cat([past, x], 2)
        ctx.keep(self, known[:, :, max(0, known.shape[2] - self.length + 1) :])
        return torch.cat([self._mean(known, past.shape[2] + t) for t in range(x.shape[2])], 2)

    def _mean(self, known: Tensor, at: int) -> Tensor:
        frames = known[:, :, max(0, at - self.length + 1) : at + 1]
        weights = self.weight[:, self.length - frames.shape[2] :]
        shares = weights / weights.sum(1, keepdim=True)
        return (frames * shares[:, :, None, None]).sum(2, keepdim=True)


class MovingAverageSpec(LayerSpec):
    """A causal moving average in time."""

    kind: Literal["tests.moving_average"] = "tests.moving_average"
    length: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> MovingAverage:
        return MovingAverage(signal.channels, self.length)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return window(frames, before=self.length - 1, after=0)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
