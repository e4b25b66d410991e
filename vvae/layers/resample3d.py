"""Changes of size in time and space at once."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.conv import same_pad
from vvae.layers.layer import Layer, channels_first, channels_last, fold_frames, split_axis, unfold_frames
from vvae.layers.space import shared_taps
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class _ShrinkSpec(LayerSpec):
    """`time` times fewer frames, `space` times fewer rows and columns; what is left over at the end gives nothing."""

    time: PositiveInt = 2
    space: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        if self.time > 1 and (signal.lead or signal.group % self.time):
            raise SpecError(
                f"lead {signal.lead} and groups of {signal.group} cannot be made {self.time} times shorter; take a "
                f"clip without lead, in groups of a multiple of {self.time}"
            )
        return signal.with_time(group=signal.group // self.time).with_stride(signal.stride * self.space)

    def frames(self, signal: Signal, frames: int) -> int:
        if 0 < frames < self.time:
            raise SpecError(f"{frames} frames give none at {self.time} times fewer; give at least {self.time}")
        return frames // self.time


class Downsample3d(Layer, nn.Conv3d):
    """Zeros behind the last frame, right and below, then a convolution with a stride of `time` and `space`.

    The kernel is `kernel` on the axes that shrink and 1 on the others. Frames, rows and columns that are left over at
    the end are seen, but give nothing. A frame sees kernel-time frames past its own, so no stream is possible.
    Shapes: `b in_channels t h w` -> `b out_channels t//time h//space w//space`, for a kernel of one more.

    >>> Downsample3d(4, 6)(torch.zeros(1, 4, 5, 6, 7)).shape
    torch.Size([1, 6, 2, 3, 3])

    Source: `Downsample` of Reducio-VAE's code.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, time: int = 2, space: int = 2) -> None:
        kt, ks = (1 if stride == 1 else kernel for stride in (time, space))
        super().__init__(in_channels, out_channels, (kt, ks, ks), stride=(time, space, space))
        self.after = (kt - time, ks - space, ks - space)
        self.whole_clip = self.after[0] > 0

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames, rows, columns = self.after
        padded = F.pad(x, (0, columns, 0, rows, 0, frames))
        return nn.Conv3d.forward(self, padded.contiguous(memory_format=torch.channels_last_3d))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height // self.stride[1], width // self.stride[2]


class Downsample3dSpec(_ShrinkSpec):
    """Zeros at the end of each axis that shrinks, then a convolution with a stride."""

    kind: Literal["downsample3d"] = "downsample3d"
    channels: PositiveInt
    kernel: PositiveInt = 3

    def trace(self, signal: Signal) -> Signal:
        if self.kernel < max(self.time, self.space):
            most = max(self.time, self.space)
            raise SpecError(f"kernel {self.kernel} skips cells at a stride of {most}; it must be as large")
        return super().trace(signal).with_channels(self.channels)

    def build(self, signal: Signal) -> Downsample3d:
        return Downsample3d(signal.channels, self.channels, self.kernel, time=self.time, space=self.space)

    def reach(self, signal: Signal, frames: int) -> Reach:
        after = 0 if self.time == 1 else self.kernel - 1
        return reach.window(frames, before=0, after=after, every=self.time)[: self.frames(signal, frames)]

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0 if self.space == 1 else self.kernel - 1)

    def stream_limit(self, signal: Signal) -> str | None:
        ahead = 0 if self.time == 1 else self.kernel - self.time
        return f"its convolution looks {ahead} ahead, past the end of any chunk" if ahead else None


class Average3d(Layer):
    """The mean of each `time` x `space` x `space` cells. What is left over at the end of an axis is dropped.

    Shapes: `b c t h w` -> `b c t//time h//space w//space`.
    """

    def __init__(self, time: int = 2, space: int = 2) -> None:
        super().__init__()
        self.time, self.space = time, space

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        whole = x[:, :, : x.shape[2] // self.time * self.time]
        if not whole.shape[2]:  # the broken end of a stream
            return self.empty(x)
        frames = unfold_frames(F.avg_pool2d(fold_frames(whole), self.space), x.shape[0])
        return channels_first(split_axis(channels_last(frames), 1, -1, self.time).mean(2))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height // self.space, width // self.space


class Average3dSpec(_ShrinkSpec):
    """The mean of each `time` x `space` x `space` cells."""

    kind: Literal["average3d"] = "average3d"

    def build(self, signal: Signal) -> Average3d:
        return Average3d(self.time, self.space)

    def reach(self, signal: Signal, frames: int) -> Reach:
        seen = reach.window(frames, before=0, after=self.time - 1, every=self.time)
        return seen[: self.frames(signal, frames)]

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(self.space - 1)


class Upsample3d(Layer, nn.Conv3d):
    """Every frame `time` times, every cell `space` x `space` times, then a convolution with zero padding (odd kernel).

    Shapes: `b in_channels t h w` -> `b out_channels time*t space*h space*w`. Several taps of an output read the same
    cell; they are added up first, and each of the outputs of a cell is a smaller convolution of the cells as they are:
    for kernel 3 and all axes doubled eight of 2x2x2, 8/27 of the work. The kernel looks ahead in time, so that no
    stream is possible. Source: `Upsample` of Reducio-VAE's code.

    >>> Upsample3d(4, 6, time=1)(torch.zeros(1, 4, 3, 5, 5)).shape
    torch.Size([1, 6, 3, 10, 10])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, time: int = 2, space: int = 2) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=same_pad(kernel))
        self.factors = (time, space, space)
        self.whole_clip = kernel > 1

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        firsts, taps = zip(*(shared_taps(self.kernel_size[0], factor) for factor in self.factors), strict=True)
        folded = [x.new_tensor(cells) for cells in taps]  # per axis: output of a cell, cell that it reads, tap
        sizes = [cells.shape[1] for cells in folded]
        pads = [max(-first[0], first[-1] + size - 1) for first, size in zip(firsts, sizes, strict=True)]
        (t, h, w), (f_t, f_h, f_w) = x.shape[2:], self.factors
        woven = x.new_empty(x.shape[0], t, f_t, h, f_h, w, f_w, self.out_channels)
        for d, e, f in product(*map(range, self.factors)):
            weight = torch.einsum("ocxyz,ix,jy,kz->ocijk", self.weight, folded[0][d], folded[1][e], folded[2][f])
            weight = weight.contiguous(memory_format=torch.channels_last_3d)
            own = F.conv3d(x, weight, self.bias, padding=pads)
            start = [pad + first[i] for pad, first, i in zip(pads, firsts, (d, e, f), strict=True)]
            own = own[:, :, start[0] :, start[1] :, start[2] :][:, :, :t, :h, :w]
            woven[:, :, d, :, e, :, f] = channels_last(own)
        return channels_first(woven.flatten(5, 6).flatten(3, 4).flatten(1, 2))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height * self.factors[1], width * self.factors[2]


class Upsample3dSpec(LayerSpec):
    """Every frame `time` times, every cell `space` x `space` times, then a convolution."""

    kind: Literal["upsample3d"] = "upsample3d"
    channels: PositiveInt
    kernel: PositiveInt = 3
    time: PositiveInt = 2
    space: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel {self.kernel} is even, so the size would not be a multiple; take an odd kernel")
        if self.time > 1 and signal.lead:
            raise SpecError(f"a lead of {signal.lead} would be repeated too; wrap it in after_lead")
        out = signal.with_time(group=signal.group * self.time).with_channels(self.channels)
        return out.with_stride(signal.stride / self.space)

    def build(self, signal: Signal) -> Upsample3d:
        return Upsample3d(signal.channels, self.channels, self.kernel, time=self.time, space=self.space)

    def frames(self, signal: Signal, frames: int) -> int:
        return frames * self.time

    def reach(self, signal: Signal, frames: int) -> Reach:
        sight = same_pad(self.kernel)
        seen = reach.window(frames * self.time, before=sight, after=sight)
        return reach.then(reach.unfold(frames, self.time), seen)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(same_pad(self.kernel), self.space)

    def stream_limit(self, signal: Signal) -> str | None:
        ahead = same_pad(self.kernel)
        return f"its convolution looks {ahead} ahead, past the end of any chunk" if ahead else None
