"""Normalisation: over the channels of one pixel, over groups of channels of one frame."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, fold_frames, split_axis, unfold_frames
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
        x = x.contiguous(memory_format=torch.channels_last_3d)
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


class FrameGroupNorm(Layer, nn.GroupNorm):
    """Every frame by itself: each of `groups` equal shares of its channels to mean 0 and variance 1 over all pixels.

    (x - mean) / sqrt(variance + eps) * weight + bias; mean and variance over channels/groups, h and w, weight and bias
    per channel. Computed in float32 or wider. Shape `b c t h w`, kept. Source: `Normalize` of latent diffusion.
    """

    def __init__(self, channels: int, groups: int = 32, *, eps: float = 1e-6) -> None:
        super().__init__(groups, channels, eps)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames = fold_frames(x.contiguous(memory_format=torch.channels_last_3d))
        wide = torch.promote_types(x.dtype, torch.float32)
        # of x less its mean the norm is the same, and so are its gradients; but torch's norm of x itself loses the
        # digits of a share whose mean is large beside its deviations
        centred = frames - self._mean(frames.detach(), wide)
        normed = F.group_norm(centred, self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps)
        return unfold_frames(normed.to(x.dtype), x.shape[0])

    def _mean(self, frames: Tensor, dtype: torch.dtype) -> Tensor:
        """The mean of each share, for each of its channels: `n c h w` -> `n c 1 1`."""
        shares = split_axis(frames.mean((2, 3), dtype=dtype), 1, self.num_groups, -1)
        return shares.mean(2, keepdim=True).expand_as(shares).flatten(1)[..., None, None]


class FrameGroupNormSpec(FrameLayerSpec):
    """Norm of each of `groups` shares of the channels over all pixels of a frame; frames do not see each other."""

    kind: Literal["frame_group_norm"] = "frame_group_norm"
    groups: PositiveInt = 32
    eps: PositiveFloat = 1e-6

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.groups:
            raise SpecError(f"{signal.channels} channels cannot be normed in {self.groups} groups; take a divisor")
        return signal

    def build(self, signal: Signal) -> FrameGroupNorm:
        return FrameGroupNorm(signal.channels, self.groups, eps=self.eps)
