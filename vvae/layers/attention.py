"""Attention between the positions of a frame, the frames of a pixel, or all positions of a clip."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, fold_frames, split_axis, unfold_frames
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec


class _Attention(Layer):
    """Self-attention over all positions of what `_images` makes one image; no norm and no shortcut, no positions.

    Nothing of the size positions x positions is stored.
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        images = self._images(x)
        count, channels, height, width = images.shape
        # contiguous tokens n (h w) 3c: otherwise the kernel that never stores all pairs is not taken
        tokens = self.qkv(images).flatten(2).transpose(1, 2)
        # compiled by torch 2.13 for the CPU, `contiguous` may be left out, and the kernel then gives wrong numbers
        compiling, plain = torch.compiler.is_compiling(), torch.contiguous_format
        tokens = tokens.clone(memory_format=plain) if compiling else tokens.contiguous()
        split = split_axis(tokens, 2, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)  # n heads (h w) c/heads
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).reshape(count, height, width, channels).permute(0, 3, 1, 2)
        return self._clip(self.out(y), x)

    def _images(self, x: Tensor) -> Tensor:
        """`b c t h w` -> `n c h w`: the positions of an image see each other."""
        raise NotImplementedError

    def _clip(self, images: Tensor, x: Tensor) -> Tensor:
        """Undoes `_images` for a clip of the shape of x."""
        raise NotImplementedError


class FrameAttention(_Attention):
    """Self-attention over the h*w positions of each frame; no norm and no shortcut of its own, no positions.

    Nothing of size (h w) x (h w) is stored. Shape `b c t h w`, kept. Source: `AttentionBlock` of IV-VAE's code.
    """

    def _images(self, x: Tensor) -> Tensor:
        return fold_frames(x)

    def _clip(self, images: Tensor, x: Tensor) -> Tensor:
        return unfold_frames(images, x.shape[0])


class ClipAttention(_Attention):
    """Self-attention over all t*h*w positions of a clip; no norm and no shortcut of its own, no positions.

    Every frame depends on every other, so that no stream is possible. Nothing of size (t h w) x (t h w) is stored.
    Shape `b c t h w`, kept. Source: `MemoryEfficientAttnBlock` of Reducio-VAE's code.
    """

    whole_clip = True

    def _images(self, x: Tensor) -> Tensor:
        return x.flatten(2, 3)

    def _clip(self, images: Tensor, x: Tensor) -> Tensor:
        return split_axis(images, 2, *x.shape[2:4])


class TemporalAttention(_Attention):
    """Self-attention over the t frames of each pixel; no norm and no shortcut of its own, no positions.

    Every frame depends on every other, so that no stream is possible. Shape `b c t h w`, kept.
    Source: `TemporalAttnBlock` of TAE's code.
    """

    whole_clip = True

    def _images(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (b h w) t c
        return pixels.unsqueeze(2).permute(0, 3, 1, 2)

    def _clip(self, images: Tensor, x: Tensor) -> Tensor:
        batch, _, _, height, width = x.shape
        return split_axis(images.squeeze(3), 0, batch, height, width).permute(0, 3, 4, 1, 2)


class _AttentionSpec(LayerSpec):
    heads: PositiveInt = 1

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.heads:
            raise SpecError(f"{signal.channels} channels cannot be shared by {self.heads} heads; take a divisor")
        return signal


class FrameAttentionSpec(_AttentionSpec, FrameLayerSpec):
    """Self-attention over the positions of each frame."""

    kind: Literal["frame_attention"] = "frame_attention"

    def build(self, signal: Signal) -> FrameAttention:
        return FrameAttention(signal.channels, self.heads)


class _AcrossFramesSpec(_AttentionSpec):
    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.whole_clip(frames)

    def stream_limit(self, signal: Signal) -> str:
        return "its attention is over the whole clip"


class ClipAttentionSpec(_AcrossFramesSpec):
    """Self-attention over the positions of all frames."""

    kind: Literal["clip_attention"] = "clip_attention"

    def build(self, signal: Signal) -> ClipAttention:
        return ClipAttention(signal.channels, self.heads)


class TemporalAttentionSpec(_AcrossFramesSpec):
    """Self-attention over the frames of each pixel."""

    kind: Literal["temporal_attention"] = "temporal_attention"

    def build(self, signal: Signal) -> TemporalAttention:
        return TemporalAttention(signal.channels, self.heads)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
