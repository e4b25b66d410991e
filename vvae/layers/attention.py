"""Attention between the positions of one frame."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, fold_frames, split_axis, unfold_frames
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec


class FrameAttention(Layer):
    """Self-attention over the h*w positions of each frame; no norm and no shortcut of its own, no positions.

    Nothing of size (h w) x (h w) is stored. Shape `b c t h w`, kept. Source: `AttentionBlock` of IV-VAE's code.
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames = fold_frames(x)
        count, channels, height, width = frames.shape
        # contiguous tokens n (h w) 3c: otherwise the kernel that never stores all pairs is not taken
        tokens = self.qkv(frames).flatten(2).transpose(1, 2).contiguous()
        split = split_axis(tokens, 2, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)  # n heads (h w) c/heads
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).reshape(count, height, width, channels).permute(0, 3, 1, 2)
        return unfold_frames(self.out(y), x.shape[0])


class FrameAttentionSpec(FrameLayerSpec):
    """Self-attention over the positions of each frame."""

    kind: Literal["frame_attention"] = "frame_attention"
    heads: PositiveInt = 1

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.heads:
            raise SpecError(f"{signal.channels} channels cannot be shared by {self.heads} heads; take a divisor")
        return signal

    def build(self, signal: Signal) -> FrameAttention:
        return FrameAttention(signal.channels, self.heads)
