"""Fewer frames, smaller frames and larger ones, where no frame sees a later one."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.conv import CausalConv3d, CausalConv3dSpec
from vvae.layers.layer import Layer, fold_frames, unfold_frames
from vvae.layers.pad import CausalPad
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec


class CausalDownsample3d(CausalConv3d):
    """Zeros to the right and below, then a causal convolution with a stride of `factor` in space, `stride` in time.

    A `lead` frame gives an output of its own. Shapes: `b in_channels t h w` -> `b out_channels lead+(t-lead)//stride
    h//factor w//factor`. In front of the clip stands its first frame again; frames behind the last whole stride are
    dropped. A stream keeps the last kernel-1 frames of its input.
    Source: `Spatial2xTime2x3DDownsample` (stride 2) and `Spatial2x3DDownsample` (stride 1) of OD-VAE's code.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, *, factor: int = 2, stride: int = 2, lead: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, lead=lead)
        self.stride, self.padding = (stride, factor, factor), (0, 0, 0)
        self.after = kernel - factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return super().run(F.pad(x, (0, self.after, 0, self.after)), ctx)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        factor = self.stride[1]
        return self.out_channels, height // factor, width // factor


class CausalAverage(Layer):
    """Every `stride`-th frame becomes the mean of itself and the kernel-1 frames before it.

    A `lead` frame has one of its own. Shapes: `b c t h w` -> `b c lead+(t-lead)//stride h w`. In front of the clip
    stands its first frame again; frames behind the last whole stride are dropped. A stream keeps the last kernel-1
    frames. Source: `TimeDownsample2x` of OD-VAE's code.
    """

    def __init__(self, kernel: int = 3, *, stride: int = 2, lead: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.pad = CausalPad(kernel)
        self.lead = lead

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        # as in CausalConv3d
        skipped = 0 if self.lead and ctx.recall(self.pad) is None else self.stride - 1
        known = self.pad(x, ctx)[:, :, skipped:]
        starts = known.shape[2] - self.kernel + 1
        taps = (known[:, :, tap : tap + starts : self.stride] for tap in range(self.kernel))
        total: Tensor = reduce(torch.add, taps)
        return total / self.kernel


class _CausalStrideSpec(LayerSpec):
    """What sees the frames that a causal convolution with that kernel and stride in time sees."""

    kernel: PositiveInt = 3
    stride: PositiveInt = 2

    @property
    def in_time(self) -> CausalConv3dSpec:
        return CausalConv3dSpec(channels=1, kernel=(self.kernel, 1, 1), stride=self.stride)

    def frames(self, signal: Signal, frames: int) -> int:
        return self.in_time.frames(signal, frames)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return self.in_time.reach(signal, frames)


class CausalDownsample3dSpec(_CausalStrideSpec):
    """Zeros to the right and below, then a causal convolution with a stride of `factor` in space, `stride` in time."""

    kind: Literal["causal_downsample3d"] = "causal_downsample3d"
    channels: PositiveInt
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        if self.kernel < self.factor:
            raise SpecError(f"kernel {self.kernel} skips cells at a stride of {self.factor}; it must be as large")
        out = self.in_time.trace(signal).with_channels(self.channels)
        return out.with_stride(signal.stride * self.factor)

    def build(self, signal: Signal) -> CausalDownsample3d:
        return CausalDownsample3d(
            signal.channels, self.channels, self.kernel, factor=self.factor, stride=self.stride, lead=signal.lead
        )

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.kernel - 1)


class CausalAverageSpec(_CausalStrideSpec):
    """Every `stride`-th frame becomes the mean of itself and the kernel-1 frames before it."""

    kind: Literal["causal_average"] = "causal_average"

    def trace(self, signal: Signal) -> Signal:
        return self.in_time.trace(signal).with_channels(signal.channels)

    def build(self, signal: Signal) -> CausalAverage:
        return CausalAverage(self.kernel, stride=self.stride, lead=signal.lead)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class SpatialLinearUpsample(Layer):
    """Per frame: `factor` x `factor` times the cells, linear in both directions between the centres of cells.

    Past the borders stand the cells at them. Shapes: `b c t h w` -> `b c t factor*h factor*w`.
    Source: the interpolation in `Spatial2x3DUpsample` of OD-VAE's code.
    """

    unit = 1

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        larger = F.interpolate(fold_frames(x), scale_factor=self.factor, mode="bilinear", align_corners=False)
        return unfold_frames(larger, x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height * self.factor, width * self.factor


class SpatialLinearUpsampleSpec(FrameLayerSpec):
    """Per frame: `factor` x `factor` times the cells, linear between their centres."""

    kind: Literal["spatial_linear_upsample"] = "spatial_linear_upsample"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return signal.with_stride(signal.stride / self.factor)

    def build(self, signal: Signal) -> SpatialLinearUpsample:
        return SpatialLinearUpsample(self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(1)
