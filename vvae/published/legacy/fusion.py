"""Ways in which Reducio-VAE's code can bring content into a clip, of which no release makes use.

Sum and mix start from zero in the published code, norm included, so that their gradients are zero but for one bias and
content never gets in; here they start as torch's layers do.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError, VideoError
from vvae.layers.content import feature, read, sinusoids
from vvae.layers.layer import Layer, channels_first, channels_last, split_axis
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec


def _checked(x: Tensor, frames: int) -> None:
    if x.shape[2] != frames:
        raise VideoError(f"{x.shape[2]} frames at a layer built for {frames}; give that many")


class _BoundSpec(LayerSpec):
    """A layer for clips of `length` frames that reads a content feature."""

    content: str
    length: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        beside = feature(signal, self.content)
        if beside.stride != signal.stride:
            raise SpecError(
                f"content {self.content!r} has cells of {beside.stride} pixels, the clip of {signal.stride}; give a "
                f"stage of the same size"
            )
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        if frames != self.length:
            raise SpecError(f"{frames} frames at a layer built for {self.length}; it takes no other length")
        return frames

    def stream_limit(self, signal: Signal) -> str:
        return "its weights are bound to the whole clip"

    def reads(self) -> frozenset[str]:
        return frozenset({self.content})

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(1)


class ContentSum(Layer):
    """The clip plus a 3x3 convolution of the content feature, plus a table: a number for each channel and frame.

    Shape `b channels t h w`, kept; the feature is `b content_channels 1 h w`. Source: `AddFusion` of Reducio-VAE.
    """

    whole_clip = True

    def __init__(self, channels: int, content_channels: int, content: str, frames: int) -> None:
        super().__init__()
        self.content, self.frames = content, frames
        self.conv = nn.Conv2d(content_channels, channels, 3, padding=1)
        self.table = nn.Parameter(torch.zeros(1, channels, frames, 1, 1))

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        _checked(x, self.frames)
        y: Tensor = x + self.conv(read(ctx, self.content, x)).unsqueeze(2) + self.table
        return y


class ContentSumSpec(_BoundSpec):
    """Adds a convolution of the content feature, and a table of one number for each channel and frame."""

    kind: Literal["content_sum"] = "content_sum"

    def build(self, signal: Signal) -> ContentSum:
        return ContentSum(signal.channels, feature(signal, self.content).channels, self.content, self.length)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.same_frame(frames)


class ContentMix(Layer):
    """A 3x3 convolution of the content feature as one more frame, and every frame a weighted sum of all of them.

    The same weights at all pixels and channels. Shape `b channels t h w`, kept; the feature is `b content_channels 1 h
    w`. Source: `LinearFusion` of Reducio-VAE's code.
    """

    whole_clip = True

    def __init__(self, channels: int, content_channels: int, content: str, frames: int) -> None:
        super().__init__()
        self.content, self.frames = content, frames
        self.conv = nn.Conv2d(content_channels, channels, 3, padding=1)
        mix = nn.Linear(frames + 1, frames)
        self.weight, self.bias = mix.weight, mix.bias

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        _checked(x, self.frames)
        frames = torch.cat([x, self.conv(read(ctx, self.content, x)).unsqueeze(2)], 2)
        mixed = torch.einsum("bcshw,ts->bthwc", frames, self.weight) + self.bias[:, None, None, None]
        return channels_first(mixed.contiguous())


class ContentMixSpec(_BoundSpec):
    """Every frame becomes a weighted sum of all frames and of a convolution of the content feature."""

    kind: Literal["content_mix"] = "content_mix"

    def build(self, signal: Signal) -> ContentMix:
        return ContentMix(signal.channels, feature(signal, self.content).channels, self.content, self.length)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.whole_clip(frames)


class ClipPositions(Layer):
    """Adds a table of sinusoids with a row for every pixel of every frame, in the order of `t h w`.

    Only the number of pixels is compared: a clip of another shape with as many passes, and its positions mean nothing.
    Shape `b c t h w`, kept. Source: positions "thw" of Reducio-VAE's code.
    """

    whole_clip = True

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(rows, channels).float()[None])  # 1 (t h w) c
        self.table: Tensor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        pixels = channels_last(x).flatten(1, 3)
        if pixels.shape[1] != self.table.shape[1]:
            raise VideoError(f"{pixels.shape[1]} pixels at a table of positions of {self.table.shape[1]}; give as many")
        return channels_first(split_axis(pixels + self.table.to(x.dtype), 1, *x.shape[2:]))


class ClipPositionsSpec(FrameLayerSpec):
    """A table of sinusoids with a row for every pixel of a clip of `length` frames of `side` x `side`."""

    kind: Literal["clip_positions"] = "clip_positions"
    length: PositiveInt
    side: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        if frames != self.length:
            raise SpecError(f"{frames} frames at a table of positions of {self.length}; it takes no other length")
        return frames

    def build(self, signal: Signal) -> ClipPositions:
        return ClipPositions(signal.channels, self.length * self.side**2)

    def stream_limit(self, signal: Signal) -> str:
        return "its positions are bound to the whole clip"


class ChannelGate(Layer):
    """Every channel times a learned number. Shape `b c t h w`, kept."""

    def __init__(self, channels: int, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x * self.weight[:, None, None, None]


class ChannelGateSpec(FrameLayerSpec):
    """Every channel times a learned number, which is `start` at first."""

    kind: Literal["channel_gate"] = "channel_gate"
    start: float = 0.0

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> ChannelGate:
        return ChannelGate(signal.channels, self.start)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class StoredNorm(Layer):
    """(x - mean) / sqrt(variance + eps) * weight + bias, all per channel and stored: a batch norm in evaluation.

    Shape `b c t h w`, kept.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class StoredNormSpec(FrameLayerSpec):
    """Batch norm in evaluation."""

    kind: Literal["stored_norm"] = "stored_norm"
    eps: PositiveFloat = 1e-5

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> StoredNorm:
        return StoredNorm(signal.channels, eps=self.eps)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
