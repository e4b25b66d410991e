"""Other options of Reducio-VAE's code of which no release makes use: attention in windows, other ends in time."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.attention import FrameAttention, FrameAttentionSpec
from vvae.layers.content import unwindowed, windows
from vvae.layers.layer import Layer, split_axis
from vvae.layers.resample3d import Downsample3d, Downsample3dSpec
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class WindowedFrameAttention(FrameAttention):
    """Self-attention inside windows of a frame, which is filled with zeros to the right and below up to whole ones.

    Zeros take part like any other position. Shape `b c t h w`, kept. Source: `MemoryEfficientAttnBlock`.
    """

    def __init__(self, channels: int, heads: int = 1, *, window: tuple[int, int]) -> None:
        super().__init__(channels, heads)
        self.window = window

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        cut = windows(x, *self.window)  # b m n t rows columns c
        images = cut.flatten(0, 3).permute(0, 3, 1, 2).unsqueeze(2)
        seen = super().run(images, ctx).squeeze(2).permute(0, 2, 3, 1)
        return unwindowed(split_axis(seen, 0, *cut.shape[:4]), x)


class WindowedFrameAttentionSpec(FrameAttentionSpec):
    """Self-attention inside windows of a frame."""

    kind: Literal["windowed_frame_attention"] = "windowed_frame_attention"  # type: ignore[assignment]
    window: tuple[PositiveInt, PositiveInt]

    def build(self, signal: Signal) -> WindowedFrameAttention:
        return WindowedFrameAttention(signal.channels, self.heads, window=self.window)


class EarlyDownsample3d(Downsample3d):
    """As `Downsample3d`, but with the zeros in time before the first frame: a frame sees none past its own.

    Source: `Downsample` in mode "causal3d".
    """

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames, rows, columns = self.after
        padded = F.pad(x, (0, columns, 0, rows, frames, 0))
        return nn.Conv3d.forward(self, padded.contiguous(memory_format=torch.channels_last_3d))


class EarlyDownsample3dSpec(Downsample3dSpec):
    """A convolution with a stride, with zeros in time before the first frame."""

    kind: Literal["early_downsample3d"] = "early_downsample3d"  # type: ignore[assignment]

    def build(self, signal: Signal) -> EarlyDownsample3d:
        return EarlyDownsample3d(signal.channels, self.channels, self.kernel, time=self.time, space=self.space)

    def reach(self, signal: Signal, frames: int) -> Reach:
        ahead = self.time - 1
        seen = reach.window(frames, before=self.kernel - 1 - ahead, after=ahead, every=self.time)
        return seen[: self.frames(signal, frames)] if self.time > 1 else reach.same_frame(frames)


class SkipFrames(Layer):
    """Without the first `count` frames: `b c t h w` -> `b c t-count h w`."""

    whole_clip = True

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x[:, :, self.count :]


class SkipFramesSpec(LayerSpec):
    """Drops the first `count` frames."""

    kind: Literal["skip_frames"] = "skip_frames"
    count: NonNegativeInt

    def trace(self, signal: Signal) -> Signal:
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        if frames <= self.count:
            raise SpecError(f"nothing is left of {frames} frames without {self.count}; give more")
        return frames - self.count

    def build(self, signal: Signal) -> SkipFrames:
        return SkipFrames(self.count)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.same_frame(frames)[self.count :]

    def stream_limit(self, signal: Signal) -> str:
        return "it must know the start of the whole clip"
