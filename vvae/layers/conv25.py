"""Convolutions in time alone, and the pair of one in space and one in time that stands for a 3D convolution."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.compose import ChainSpec, chain
from vvae.layers.conv import FrameConv2dSpec
from vvae.layers.layer import Layer, channels_first, channels_last, join_frames, split_axis
from vvae.layers.pad import PadMode, pad_time
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


def over_time(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, zeros: int = 0) -> Tensor:
    """A kernel `o i t 1 1` over `b i t h w` with `zeros` frames of zeros on both sides."""
    if x.dtype.itemsize < 4:
        return F.conv3d(x, weight, bias, (stride, 1, 1), (zeros, 0, 0))
    # height and width as one axis of a 2D convolution: faster than 3D ones, on CPUs, but for two-byte numbers
    lines = channels_last(x).flatten(2, 3).permute(0, 3, 1, 2)  # of one clip x.flatten(3) would lose its layout
    y = F.conv2d(lines, weight.squeeze(4), bias, (stride, 1), (zeros, 0))
    return channels_first(split_axis(y.permute(0, 2, 3, 1), 2, *x.shape[3:]))


class TemporalConv(Layer, nn.Conv3d):
    """A convolution over time at each pixel, frames of both sides alike.

    Frame j of what comes out sees the `kernel` frames of which the last is `ahead` frames after frame j*stride (by
    default that is the middle one). Past both ends of the clip stand its end frames again, or zeros (`outside`).

    Shapes: `b in_channels t h w` -> `b out_channels ceil(t/stride) h w`, any t.

    >>> TemporalConv(64, 64, stride=2)(torch.zeros(1, 64, 9, 8, 8)).shape
    torch.Size([1, 64, 5, 8, 8])

    Source: `conv_temp` of `Conv2_5d` and `TemporalDownsample` of TAE's code (mindone).
    """

    whole_clip, even = True, False
    group = 1  # frames that leave together where the clip comes in parts; of slices each as soon as it is ready

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        ahead: int | None = None,
        outside: PadMode = "replicate",
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, (kernel, 1, 1), stride=(stride, 1, 1), bias=bias)
        self.ahead = kernel // 2 if ahead is None else ahead
        self.before = kernel - 1 - self.ahead
        self.outside: PadMode = outside
        self.unit = 1 if stride == 1 else 0

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        kept = ctx.recall(self)
        if kept is None and ctx.last and x.shape[2]:
            return self._whole(x)
        # some frames of the clip: those that look ahead past them wait for the next ones
        if kept is None and not x.shape[2]:
            return self.empty(x)
        known = pad_time(x, self.before, 0, self.outside) if kept is None else join_frames(kept[0], x)
        waiting = known.shape[2] - self.before
        done = waiting if ctx.last else self._ready(waiting)
        ctx.keep(self, known[:, :, done:])
        if not done:
            return self.empty(x)
        stride = self.stride[0]
        if ctx.last:
            known = pad_time(known, 0, self.ahead, self.outside)
        seen = (-(-done // stride) - 1) * stride + self.kernel_size[0]
        return over_time(known[:, :, :seen], self.weight, self.bias, stride=stride)

    def _ready(self, waiting: int) -> int:
        """The frames, of so many that wait, that see no frame still to come: whole groups, and the lead if it waits."""
        lead = waiting % self.group  # what has come and what has gone are whole groups, but for the lead
        ready = min(waiting, waiting - self.ahead + self.stride[0] - 1)
        return 0 if ready < lead else lead + (ready - lead) // self.group * self.group

    def _whole(self, x: Tensor) -> Tensor:
        stride = self.stride[0]
        if self.before != self.ahead:
            padded = pad_time(x, self.before, self.ahead, self.outside)
            return over_time(padded, self.weight, self.bias, stride=stride)
        y = over_time(x, self.weight, self.bias, stride=stride, zeros=self.ahead)
        if self.outside == "replicate":
            self._add_ends(y, x)
        return y

    def _add_ends(self, y: Tensor, x: Tensor) -> None:
        """What the end frames would have given in the place of the zeros: no copy of the clip with more frames."""
        kernel, stride, frames = self.kernel_size[0], self.stride[0], x.shape[2]
        for j in range(y.shape[2]):
            front = self.before - j * stride  # taps of output j in front of the clip
            behind = j * stride + self.ahead - (frames - 1)
            if front > 0:
                y[:, :, j] += self._at_end(x[:, :, 0], range(front))
            if behind > 0:
                y[:, :, j] += self._at_end(x[:, :, -1], range(kernel - behind, kernel))

    def _at_end(self, frame: Tensor, taps: range) -> Tensor:
        """Several taps on one frame. `b c h w`"""
        weight = reduce(torch.add, [self.weight[:, :, tap, 0, 0] for tap in taps])
        return F.linear(frame.movedim(1, 3), weight).movedim(3, 1)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class TemporalConvSpec(LayerSpec):
    """A convolution over time at each pixel; with a stride, a ragged end still gives a frame."""

    kind: Literal["temporal_conv"] = "temporal_conv"
    channels: PositiveInt
    kernel: PositiveInt = 3
    stride: PositiveInt = 1
    ahead: NonNegativeInt | None = None
    outside: PadMode = "replicate"
    bias: bool = True

    def trace(self, signal: Signal) -> Signal:
        if self.kernel == 1:
            raise SpecError("kernel 1 sees no other frame; take frame_conv2d of kernel 1, or a larger kernel")
        if self._ahead >= self.kernel:
            raise SpecError(
                f"kernel {self.kernel} cannot see its own frame and {self._ahead} ahead; take {self.kernel - 1} at most"
            )
        if self.stride > 1 and (signal.lead or signal.group % self.stride):
            raise SpecError(
                f"lead {signal.lead} and groups of {signal.group} cannot be made {self.stride} times shorter; "
                f"take a lead of 0, and a stride that divides the group"
            )
        return signal.with_channels(self.channels).with_time(group=signal.group // self.stride)

    @property
    def _ahead(self) -> int:
        return self.kernel // 2 if self.ahead is None else self.ahead

    def frames(self, signal: Signal, frames: int) -> int:
        return -(-frames // self.stride)

    def build(self, signal: Signal) -> TemporalConv:
        return TemporalConv(
            signal.channels,
            self.channels,
            self.kernel,
            stride=self.stride,
            ahead=self.ahead,
            outside=self.outside,
            bias=self.bias,
        )

    def reach(self, signal: Signal, frames: int) -> Reach:
        # an end frame that stands past its end is seen in its own place, too
        return reach.window(frames, before=self.kernel - 1 - self._ahead, after=self._ahead, every=self.stride)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)

    def stream_limit(self, signal: Signal) -> str:
        return "its convolution sees later frames without an end of a group between"


def conv25d(channels: int, kernel: int = 3) -> ChainSpec:
    """A 2D convolution of every frame and, directly behind it, one over time at each pixel; kernel 1: two linear maps.

    Zeros stand around a frame, the end frames again past the ends of the clip.
    Source: Movie Gen, section 3.1.1; `Conv2_5d` of TAE's code (mindone).
    """
    space = FrameConv2dSpec(channels=channels, kernel=kernel)
    return chain(space=space, time=TemporalConvSpec(channels=channels, kernel=kernel) if kernel > 1 else space)
