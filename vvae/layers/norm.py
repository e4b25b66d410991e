"""Normalisation over the channels of one pixel, and the activation that follows it."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, channels_first, channels_last, split_axis
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec

PIECE = 512  # pixels of every frame that are normed at a time: what is between the steps stays in the cache


class ChannelRMSNorm(Layer):
    """Every pixel's channels, whole or in equal `parts`, scaled to a root mean square of 1, times a learned weight.

    Per part of n channels: x / max(|x|_2, 1e-12) * sqrt(n) * weight (+ bias). Computed in float32 or wider; an
    all-zero pixel stays zero. Source: `RMS_norm` and `Sep_RMS_norm` (2 parts) of IV-VAE's code.
    """

    def __init__(self, channels: int, parts: int = 1, *, bias: bool = False) -> None:
        super().__init__()
        self.parts = parts
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        x = channels_first(channels_last(x).contiguous())
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._normed(x)
        normed = torch.empty_like(x)
        rows = max(1, PIECE // x.shape[4])
        pieces = zip(x.split(rows, 3), normed.split(rows, 3), strict=True)
        # without values one piece takes as much memory as all, one after the other
        for piece, place in islice(pieces, 1 if x.is_meta else None):
            place.copy_(self._normed(piece))
        return normed

    def _normed(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        split = split_axis(x, 1, self.parts, x.shape[1] // self.parts)
        size = torch.linalg.vector_norm(split, dim=2, keepdim=True, dtype=wide)
        # an all-zero pixel has no direction: divided by infinity it stays zero, and so does its gradient
        size = torch.where(size > 0, size.clamp_min(1e-12), torch.inf)
        y = (split / size).flatten(1, 2) * _per_channel(self.weight.to(wide) * split.shape[2] ** 0.5)
        if self.bias is not None:
            y = y + _per_channel(self.bias.to(wide))
        normed: Tensor = y.to(x.dtype)
        return normed

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, parts={self.parts}"


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]


class ChannelRMSNormSpec(FrameLayerSpec):
    """Root-mean-square norm over channels, whole or in equal parts."""

    kind: Literal["channel_rms_norm"] = "channel_rms_norm"
    parts: PositiveInt = 1
    bias: bool = False

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.parts:
            raise SpecError(f"{signal.channels} channels cannot be normed in {self.parts} equal parts; take a divisor")
        return signal

    def build(self, signal: Signal) -> ChannelRMSNorm:
        return ChannelRMSNorm(signal.channels, self.parts, bias=self.bias)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class SiLU(Layer):
    """x * sigmoid(x)."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return F.silu(x)


class SiLUSpec(FrameLayerSpec):
    """x * sigmoid(x)."""

    kind: Literal["silu"] = "silu"

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> SiLU:
        return SiLU()

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
