"""Changes of size in space, and the reordering of channels."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from einops import rearrange
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, channels_first, channels_last, fold_frames, split_axis, unfold_frames
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec


class SpatialDownsample(Layer, nn.Conv2d):
    """Per frame: zeros to the right and below, then a convolution with a stride of `factor`.

    Shapes: `b in_channels t h w` -> `b out_channels t h//factor w//factor`, for kernel = factor + 1.
    Source: the downsampling of Stable Diffusion's VAE, used by IV-VAE, OD-VAE and TAE.
    """

    unit = 1

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, factor: int = 2) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=factor)
        self.after = kernel - factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        padded = F.pad(fold_frames(x), (0, self.after, 0, self.after))
        return unfold_frames(nn.Conv2d.forward(self, padded), x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        factor = self.stride[0]
        return self.out_channels, height // factor, width // factor


class SpatialDownsampleSpec(FrameLayerSpec):
    """Per frame: zeros to the right and below, then a convolution with a stride of `factor`."""

    kind: Literal["spatial_downsample"] = "spatial_downsample"
    channels: PositiveInt
    kernel: PositiveInt = 3
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        if self.kernel < self.factor:
            raise SpecError(f"kernel {self.kernel} skips cells at a stride of {self.factor}; it must be as large")
        return signal.with_channels(self.channels).with_stride(signal.stride * self.factor)

    def build(self, signal: Signal) -> SpatialDownsample:
        return SpatialDownsample(signal.channels, self.channels, self.kernel, factor=self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.kernel - 1)


class SpatialUpsample(Layer, nn.Conv2d):
    """Per frame: every cell `factor` x `factor` times, then a convolution with zero padding (odd kernel).

    Shapes: `b in_channels t h w` -> `b out_channels t factor*h factor*w`. Several taps of an output read the same
    cell; they are added up first, and each of the `factor` x `factor` outputs of a cell is a smaller convolution of
    the cells as they are: for kernel 3 and factor 2 four of 2x2, 4/9 of the work.
    """

    unit = 1

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, factor: int = 2) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames, f = fold_frames(x), self.factor
        first, taps = shared_taps(self.kernel_size[0], f)
        folded = x.new_tensor(taps)  # output of a cell, cell that it reads, tap
        count, _, height, width = frames.shape
        pad = max(-first[0], first[-1] + folded.shape[1] - 1)
        woven = x.new_empty(count, height, f, width, f, self.out_channels)
        for a, top in enumerate(first):
            for b, left in enumerate(first):
                weight = torch.einsum("ocjl,ij,ml->ocim", self.weight, folded[a], folded[b])
                own = F.conv2d(frames, weight, self.bias, padding=pad)[:, :, pad + top :, pad + left :]
                woven[:, :, a, :, b] = own[:, :, :height, :width].permute(0, 2, 3, 1)
        return unfold_frames(woven.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2), x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height * self.factor, width * self.factor


def shared_taps(kernel: int, factor: int) -> tuple[list[int], list[list[list[float]]]]:
    """For each output of a cell, in one dimension: the first cell that it reads (0: its own), and which of the cells
    from there on each tap reads, as a matrix `cells x taps` of zeros and ones.

    >>> shared_taps(3, 2)
    ([-1, 0], [[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    """
    read = [[(output + tap - kernel // 2) // factor for tap in range(kernel)] for output in range(factor)]
    most = max(cells[-1] - cells[0] + 1 for cells in read)
    taps = [[[float(cell - cells[0] == i) for cell in cells] for i in range(most)] for cells in read]
    return [cells[0] for cells in read], taps


class SpatialUpsampleSpec(FrameLayerSpec):
    """Per frame: every cell `factor` x `factor` times, then a convolution."""

    kind: Literal["spatial_upsample"] = "spatial_upsample"
    channels: PositiveInt
    kernel: PositiveInt = 3
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel {self.kernel} is even, so the size would not be a multiple; take an odd kernel")
        return signal.with_channels(self.channels).with_stride(signal.stride / self.factor)

    def build(self, signal: Signal) -> SpatialUpsample:
        return SpatialUpsample(signal.channels, self.channels, self.kernel, factor=self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.kernel // 2, self.factor)


class SpatialAverage(Layer):
    """Per frame: the mean of each `factor` x `factor` cells. Rows and columns left over at the end are dropped.

    Shapes: `b c t h w` -> `b c t h//factor w//factor`.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return unfold_frames(F.avg_pool2d(fold_frames(x), self.factor), x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height // self.factor, width // self.factor


class SpatialAverageSpec(FrameLayerSpec):
    """Per frame: the mean of each `factor` x `factor` cells."""

    kind: Literal["spatial_average"] = "spatial_average"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return signal.with_stride(signal.stride * self.factor)

    def build(self, signal: Signal) -> SpatialAverage:
        return SpatialAverage(self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.factor - 1)


class SpatialRepeat(Layer):
    """Per frame: every cell `factor` x `factor` times.

    Shapes: `b c t h w` -> `b c t factor*h factor*w`.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        repeated = F.interpolate(fold_frames(x), scale_factor=self.factor, mode="nearest")
        return unfold_frames(repeated, x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height * self.factor, width * self.factor


class SpatialRepeatSpec(FrameLayerSpec):
    """Per frame: every cell `factor` x `factor` times."""

    kind: Literal["spatial_repeat"] = "spatial_repeat"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return signal.with_stride(signal.stride / self.factor)

    def build(self, signal: Signal) -> SpatialRepeat:
        return SpatialRepeat(self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class SpaceToDepth(Layer):
    """`b c t (h factor) (w factor)` -> `b (c factor factor) t h w`; the row inside the cell before the column."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = rearrange(x, "b c t (h p) (w q) -> b t h w c p q", p=self.factor, q=self.factor)
        return channels_first(y.flatten(4))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels * self.factor**2, height // self.factor, width // self.factor


class SpaceToDepthSpec(FrameLayerSpec):
    """Cells of `factor` x `factor` pixels become channels. Undone by `depth_to_space`."""

    kind: Literal["space_to_depth"] = "space_to_depth"
    factor: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        out = signal.with_channels(signal.channels * self.factor**2)
        return out.with_stride(signal.stride * self.factor)

    def build(self, signal: Signal) -> SpaceToDepth:
        return SpaceToDepth(self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.factor - 1)


class DepthToSpace(Layer):
    """`b (c factor factor) t h w` -> `b c t (h factor) (w factor)`; undoes `SpaceToDepth`."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = rearrange(x, "b (c p q) t h w -> b t (h p) (w q) c", p=self.factor, q=self.factor)
        return channels_first(y)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels // self.factor**2, height * self.factor, width * self.factor


class DepthToSpaceSpec(FrameLayerSpec):
    """Channels become cells of `factor` x `factor` pixels."""

    kind: Literal["depth_to_space"] = "depth_to_space"
    factor: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        channels, rest = divmod(signal.channels, self.factor**2)
        if rest:
            raise SpecError(
                f"{signal.channels} channels are no multiple of {self.factor} x {self.factor}; make them one"
            )
        return signal.with_channels(channels).with_stride(signal.stride / self.factor)

    def build(self, signal: Signal) -> DepthToSpace:
        return DepthToSpace(self.factor)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class ChannelInterleave(Layer):
    """`b (outer inner c) t h w` -> `b (inner outer c) t h w`: the first share of every part, then the second"""

    def __init__(self, outer: int, inner: int) -> None:
        super().__init__()
        self.outer, self.inner = outer, inner

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        shares = split_axis(channels_last(x), 4, self.outer, self.inner, -1)
        return channels_first(shares.transpose(4, 5).flatten(4))


class ChannelInterleaveSpec(FrameLayerSpec):
    """The first share of each of `outer` parts of the channels, then the second, ... up to `inner` shares."""

    kind: Literal["channel_interleave"] = "channel_interleave"
    outer: PositiveInt
    inner: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % (self.outer * self.inner):
            raise SpecError(
                f"{signal.channels} channels are not {self.outer} parts of {self.inner} equal shares; make them so"
            )
        return signal

    def build(self, signal: Signal) -> ChannelInterleave:
        return ChannelInterleave(self.outer, self.inner)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
