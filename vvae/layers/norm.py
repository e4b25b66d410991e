"""Normalisation: over the channels of one pixel, over groups of channels of a frame or a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.activation import Activation
from vvae.layers.layer import Layer, channels_first, channels_last, fold_frames, split_axis, unfold_frames
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec

PIECE = 512  # pixels of a frame that are normed at a time: what is between the steps stays in the cache


class Norm(Layer):
    """What all norms share: where no gradients are kept, they go over a clip in pieces that stay in the cache.

    A subclass gives `normed`, and `measured` where a norm must see more than a piece before it can norm one.
    """

    unit = 1

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return self._run(x, ctx)

    def forward_then(self, x: Tensor, ctx: Context, act: Activation) -> Tensor:
        """`act(self(x, ctx), ctx)`, but each piece passes both in the cache: the clip between them is never there."""
        self.check(ctx)
        return self._run(x, ctx, act) if x.shape[2] else x

    def _run(self, x: Tensor, ctx: Context, act: Activation | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            y = self.differentiable(x)
            return y if act is None else act(y, ctx)
        known = ctx.recall(self) if self.whole_clip else None  # in a slice of a clip that was measured before
        found, out = self.measured(x) if known is None else known, torch.empty_like(x)
        # without values one piece takes as much memory as all, one after the other
        for piece in islice(pieces(x), 1 if x.is_meta else None):
            y = self.normed(x[piece], found)
            out[piece].copy_(y if act is None else act(y, ctx))
            del y  # else it is there beside the next one
        return out

    def measured(self, x: Tensor) -> list[Tensor]:
        """What of the clip must be known for a piece, each `b c t 1 1`."""
        return []

    def normed(self, x: Tensor, found: Sequence[Tensor]) -> Tensor:
        """A piece, normed; `found` is what was measured."""
        raise NotImplementedError

    def differentiable(self, x: Tensor) -> Tensor:
        """The same for a whole clip, in operators that autograd and compilers know well."""
        return self.normed(x, self.measured(x))


def pieces(x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Places of a clip, a few rows of every frame each, that together are all of it."""
    rows = max(1, PIECE // x.shape[4])
    for top in range(0, x.shape[3], rows):
        yield slice(None), slice(None), slice(None), slice(top, top + rows)


class ChannelRMSNorm(Norm):
    """Every pixel's channels, whole or in equal `parts`, scaled to a root mean square of 1, times a learned weight.

    Per part of n channels: x / max(|x|_2, 1e-12) * sqrt(n) * weight (+ bias). Computed in float32 or wider;
    an all-zero pixel stays zero. Source: `RMS_norm` and `Sep_RMS_norm` (2 parts) of IV-VAE's code.
    """

    def __init__(self, channels: int, parts: int = 1, *, bias: bool = False) -> None:
        super().__init__()
        self.parts = parts
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def normed(self, x: Tensor, found: Sequence[Tensor]) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        split = split_axis(x, 1, self.parts, x.shape[1] // self.parts)
        size = torch.linalg.vector_norm(split, dim=2, keepdim=True, dtype=wide)
        # an all-zero pixel has no direction: divided by infinity it stays zero, and so does its gradient
        size = torch.where(size > 0, size.clamp_min(1e-12), torch.inf)
        y = (split / size).flatten(1, 2) * _per_channel(self.weight.to(wide) * split.shape[2] ** 0.5)
        if self.bias is not None:
            y = y + _per_channel(self.bias.to(wide))
        return y.to(x.dtype)

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


class _GroupNorm(Norm, nn.GroupNorm):
    """Each of `groups` equal shares of the channels to mean 0 and variance 1, over the pixels of what `pooled` pools.

    (x - mean) / sqrt(variance + eps) * weight + bias, weight and bias per channel. Computed in float32 or wider.
    """

    def __init__(self, channels: int, groups: int = 32, *, eps: float = 1e-6) -> None:
        super().__init__(groups, channels, eps)

    def measured(self, x: Tensor) -> list[Tensor]:
        """The mean, and what x less its mean is multiplied by."""
        wide = torch.promote_types(x.dtype, torch.float32)
        own, variance = _over_pixels(x, wide)
        mean = self.pooled(own)
        deviation = (self.pooled(variance + (own - mean).square_()) + self.eps).rsqrt()
        return [mean, deviation * _per_channel(self.weight.to(wide))]

    def normed(self, x: Tensor, found: Sequence[Tensor]) -> Tensor:
        mean, factor = found
        y = (x - mean).mul_(factor).add_(_per_channel(self.bias.to(factor)))
        return y.to(x.dtype)

    def differentiable(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # a compiled group_norm refuses a clip whose channels lie together
            return self.normed(x, self.measured(x))
        wide = torch.promote_types(x.dtype, torch.float32)
        # of x less its mean the norm is the same, and so are its gradients; but torch's norm of x itself loses the
        # digits of a share whose mean is large beside its deviations
        means = channels_first(channels_last(x.detach()).flatten(2, 3).mean(2, dtype=wide)[:, :, None, None])
        images = self.images(x - self.pooled(means))
        normed = F.group_norm(images, self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps)
        return self.clip(normed.to(x.dtype), x)

    def pooled(self, values: Tensor) -> Tensor:
        """The mean of what is normed together, in the place of each: of numbers `b c t 1 1` for every frame."""
        raise NotImplementedError

    def images(self, x: Tensor) -> Tensor:
        """`b c t h w` -> `n c h w`: an image of all pixels that are normed together."""
        raise NotImplementedError

    def clip(self, images: Tensor, x: Tensor) -> Tensor:
        """Undoes `images` for a clip of the shape of x."""
        raise NotImplementedError


def _over_pixels(x: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance of each frame and channel over its pixels, `b c t 1 1`; the clip is read once.

    Of squares of deviations, not of x: where the mean is large beside them, those of x have no digits left for them.
    """
    means, squares, pixels = [], [], []
    for piece in islice(pieces(x), 1 if x.is_meta else None):
        # height and width as one axis: sixteen times faster than over both
        values = channels_last(x[piece].to(wide)).flatten(2, 3)
        mean = values.mean(2, keepdim=True)
        means.append(mean.squeeze(2))
        squares.append((values - mean).square_().sum(2))
        pixels.append(values.shape[2])
    share = torch.tensor(pixels, dtype=wide, device=x.device).div_(sum(pixels))[:, None, None, None]
    apart = torch.stack(means)
    mean = (apart * share).sum(0)
    variance = torch.stack(squares).sum(0).div_(sum(pixels)) + ((apart - mean).square_() * share).sum(0)
    return _at_pixels(mean), _at_pixels(variance)


def _at_pixels(values: Tensor) -> Tensor:
    """`b t c` -> `b c t 1 1`."""
    return channels_first(values[:, :, None, None])


class FrameGroupNorm(_GroupNorm):
    """Every frame by itself: each of `groups` equal shares of its channels to mean 0 and variance 1 over all pixels.

    Mean and variance over channels/groups, h and w. Shape `b c t h w`, kept. Source: `Normalize` of latent diffusion.
    """

    def pooled(self, values: Tensor) -> Tensor:
        shares = split_axis(values, 1, self.num_groups, -1)
        return shares.mean(2, keepdim=True).expand_as(shares).flatten(1, 2)

    def images(self, x: Tensor) -> Tensor:
        return fold_frames(x)

    def clip(self, images: Tensor, x: Tensor) -> Tensor:
        return unfold_frames(images, x.shape[0])


class ClipGroupNorm(_GroupNorm):
    """The whole clip: each of `groups` equal shares of its channels to mean 0 and variance 1 over all its pixels.

    Mean and variance over channels/groups, t, h and w, so that every frame depends on every other and no stream is
    possible. Shape `b c t h w`, kept. Source: torch's GroupNorm on clips, as OD-VAE, Open-Sora, Reducio and TAE use it.
    """

    whole_clip, unit = True, 0

    def pooled(self, values: Tensor) -> Tensor:
        shares = split_axis(values, 1, self.num_groups, -1)
        return shares.mean((2, 3), keepdim=True).expand_as(shares).flatten(1, 2)

    def images(self, x: Tensor) -> Tensor:
        return x.flatten(2, 3)

    def clip(self, images: Tensor, x: Tensor) -> Tensor:
        return split_axis(images, 2, *x.shape[2:4])


class _GroupNormSpec(LayerSpec):
    groups: PositiveInt = 32
    eps: PositiveFloat = 1e-6

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.groups:
            raise SpecError(f"{signal.channels} channels cannot be normed in {self.groups} groups; take a divisor")
        return signal


class FrameGroupNormSpec(_GroupNormSpec, FrameLayerSpec):
    """Norm of each of `groups` shares of the channels over all pixels of a frame; frames do not see each other."""

    kind: Literal["frame_group_norm"] = "frame_group_norm"

    def build(self, signal: Signal) -> FrameGroupNorm:
        return FrameGroupNorm(signal.channels, self.groups, eps=self.eps)


class ClipGroupNormSpec(_GroupNormSpec):
    """Norm of each of `groups` shares of the channels over all pixels of all frames."""

    kind: Literal["clip_group_norm"] = "clip_group_norm"

    def build(self, signal: Signal) -> ClipGroupNorm:
        return ClipGroupNorm(signal.channels, self.groups, eps=self.eps)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.whole_clip(frames)

    def stream_limit(self, signal: Signal) -> str:
        return "its norm is over the whole clip"


class ChannelLayerNorm(Layer, nn.LayerNorm):
    """Every pixel by itself: its channels to mean 0 and variance 1, times a weight, plus a bias, both per channel.

    (x - mean) / sqrt(variance + eps) * weight + bias. Computed in float32 or wider. Shape `b c t h w`, kept.
    """

    unit = 1

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        pixels = channels_last(x).to(wide)
        y = F.layer_norm(pixels, self.normalized_shape, self.weight.to(wide), self.bias.to(wide), self.eps)
        return channels_first(y.to(x.dtype))


class ChannelLayerNormSpec(FrameLayerSpec):
    """Norm over the channels of a pixel."""

    kind: Literal["channel_layer_norm"] = "channel_layer_norm"
    eps: PositiveFloat = 1e-5

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> ChannelLayerNorm:
        return ChannelLayerNorm(signal.channels, eps=self.eps)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
