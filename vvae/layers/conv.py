"""Convolutions over clips: per frame, causal, group causal."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import (
    Layer,
    blank_frame,
    channels_first,
    channels_last,
    fold_frames,
    join_frames,
    split_axis,
    unfold_frames,
)
from vvae.layers.pad import CausalPad, PadMode
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec

Triple: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]


def triple(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """Time, height, width from one number or three."""
    return (value, value, value) if isinstance(value, int) else value


def same_pad(kernel: int, dilation: int = 1) -> int:
    return dilation * (kernel - 1) // 2


class FrameConv2d(Layer, nn.Conv2d):
    """A 2D convolution of every frame, with as much zero padding as keeps the size (at stride 1, odd kernels).

    Shapes: `b in_channels t h w` -> `b out_channels t h/stride w/stride`.
    """

    unit = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, same_pad(kernel, dilation), dilation, bias=bias)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return unfold_frames(nn.Conv2d.forward(self, fold_frames(x)), x.shape[0])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        stride = self.stride[0]
        return self.out_channels, -(-height // stride), -(-width // stride)


class FrameConv2dSpec(FrameLayerSpec):
    """A 2D convolution of every frame; zero padding keeps the size."""

    kind: Literal["frame_conv2d"] = "frame_conv2d"
    channels: PositiveInt
    kernel: PositiveInt = 3
    dilation: PositiveInt = 1
    bias: bool = True

    def trace(self, signal: Signal) -> Signal:
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel {self.kernel} is even, so the size would change; take an odd kernel")
        return signal.with_channels(self.channels)

    def build(self, signal: Signal) -> FrameConv2d:
        return FrameConv2d(signal.channels, self.channels, self.kernel, dilation=self.dilation, bias=self.bias)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(same_pad(self.kernel, self.dilation))


class CausalConv3d(Layer, nn.Conv3d):
    """A 3D convolution that sees no later frame; `before` is what stands in front of the clip. Zero padding in space.

    With a stride in time every `stride` frames give one output, which stands at the last of them and sees all of them;
    behind a `lead` of 1, that frame gives one of its own. Shapes: `b in_channels t h w` -> `b out_channels
    lead+(t-lead)//stride h w`. A stream keeps the last (kernel-1)*dilation frames of its input.
    Source: CausalConv3d of Open-Sora 1.2 (zero) and OD-VAE (replicate).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int, int] = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        lead: int = 1,
        before: PadMode = "replicate",
        bias: bool = True,
    ) -> None:
        kt, kh, kw = triple(kernel)
        super().__init__(
            in_channels,
            out_channels,
            (kt, kh, kw),
            stride=(stride, 1, 1),
            padding=(0, same_pad(kh), same_pad(kw)),
            dilation=(dilation, 1, 1),
            bias=bias,
        )
        self.pad = CausalPad(kt, dilation, before)
        self.lead, self.unit, self.even = lead, stride, stride == 1

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        # a lead frame gives the first output; a chunk of whole groups gives its first one stride - 1 frames later
        skipped = 0 if self.leads(ctx) else self.stride[0] - 1
        known = self.pad(x, ctx)[:, :, skipped:]
        # a clip shorter than a stride gives nothing
        return nn.Conv3d.forward(self, known) if known.shape[2] > self.pad.before else self.empty(x)

    def leads(self, ctx: Context) -> int:
        return self.lead if ctx.recall(self.pad) is None else 0

    def given(self, frames: int, ctx: Context) -> int:
        lead = min(self.leads(ctx), frames)
        return lead + (frames - lead) // self.stride[0]

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class CausalConv3dSpec(LayerSpec):
    """A 3D convolution that sees no later frame, with a stride in time."""

    kind: Literal["causal_conv3d"] = "causal_conv3d"
    channels: PositiveInt
    kernel: PositiveInt | Triple = 3
    stride: PositiveInt = 1
    dilation: PositiveInt = 1
    before: PadMode = "replicate"
    bias: bool = True

    def trace(self, signal: Signal) -> Signal:
        _, kh, kw = triple(self.kernel)
        if not kh % 2 or not kw % 2:
            raise SpecError(f"kernel {self.kernel} is even in space, so the size would change; take odd ones")
        if self.stride > 1 and (signal.group % self.stride or signal.lead > 1):
            raise SpecError(
                f"stride {self.stride} in time needs a lead of 0 or 1 and groups that it divides; "
                f"found lead {signal.lead} and groups of {signal.group}"
            )
        return signal.with_channels(self.channels).with_time(group=signal.group // self.stride)

    def build(self, signal: Signal) -> CausalConv3d:
        return CausalConv3d(
            signal.channels,
            self.channels,
            triple(self.kernel),
            stride=self.stride,
            dilation=self.dilation,
            lead=signal.lead,
            before=self.before,
            bias=self.bias,
        )

    def frames(self, signal: Signal, frames: int) -> int:
        """Frames behind the last whole stride are dropped."""
        lead = min(signal.lead, frames)
        return lead + (frames - lead) // self.stride

    def reach(self, signal: Signal, frames: int) -> Reach:
        kt, start = triple(self.kernel)[0], 0 if signal.lead else self.stride - 1
        taps = [
            reach.window(frames, before=j * self.dilation, after=-j * self.dilation, every=self.stride, start=start)
            for j in range(kt)
        ]
        seen = reach.union(taps)
        if self.before == "replicate":  # a tap in front of the clip reads the first frame again
            seen[:, :1] |= np.arange(start, frames, self.stride)[:, None] < (kt - 1) * self.dilation
        return seen

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(max(same_pad(k) for k in triple(self.kernel)[1:]))


class GroupCausalConv3d(Layer, nn.Conv3d):
    """A 3D convolution causal between groups of frames, free inside one. Zero padding in space.

    A frame sees the frames before it, and `(kernel-1)//2` frames after it as far as they are of its own group: past
    the group's end stand zeros. `lead` (0 or 1) frames form a group of their own. `before` is what stands in front of
    the clip. `skip` leaves out the outputs for the lead and for the first `skip` frames of each group.

    Shapes: `b in_channels lead+n*group h w` -> `b out_channels lead+n*group h w` (without lead, n*(group-skip) where
    skip > 0). A stream keeps the last frames of its input that a later group sees: one for kernel 3.

    >>> GroupCausalConv3d(64, 128, group=4)(torch.zeros(1, 64, 9, 8, 8)).shape
    torch.Size([1, 128, 9, 8, 8])

    Source: IV-VAE, section 3.2; `Group_Causal_Conv3d` of its code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int, int] = 3,
        *,
        group: int,
        lead: int = 1,
        skip: int = 0,
        before: PadMode = "replicate",
        bias: bool = True,
    ) -> None:
        kt, kh, kw = triple(kernel)
        super().__init__(in_channels, out_channels, (kt, kh, kw), padding=(0, same_pad(kh), same_pad(kw)), bias=bias)
        self.group, self.lead, self.skip, self.before = group, lead, skip, before
        self.behind = kt - 1 - (kt - 1) // 2  # frames that a frame sees before itself
        self.ahead = (kt - 1) // 2
        self.past = max(0, self.behind - skip)  # frames that a group sees of what came before it
        self.unit = 0 if skip else 1 if kt == 1 else group

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if self.kernel_size[0] == 1 and not self.skip:  # every frame by itself
            y = F.conv2d(fold_frames(x), self.weight.squeeze(2), self.bias, padding=self.padding[1:])
            return unfold_frames(y, x.shape[0])
        kept = ctx.recall(self)
        first = kept is None
        lead, rest = (x[:, :, : self.lead], x[:, :, self.lead :]) if first else (x[:, :, :0], x)
        history = self._history(x, lead) if kept is None else kept[0]
        if self.past or self.lead:  # without either, a later chunk is no different from the first
            ctx.keep(self, join_frames(history, rest)[:, :, -self.past :] if self.past else x[:, :, :0])
        parts = []
        if lead.shape[2] and not self.skip:
            parts.append(self._alone(lead))
        if rest.shape[2] or not parts:
            parts.append(self._groups(rest, history) if rest.shape[2] else self.empty(x))
        return join_frames(*parts)

    def _history(self, x: Tensor, lead: Tensor) -> Tensor:
        """The `past` frames in front of the first group."""
        front = x[:, :, :1] if self.before == "replicate" else blank_frame(x)
        history = join_frames(front[:, :, :0], *[front] * self.past, lead)
        return history[:, :, history.shape[2] - self.past :]

    def _alone(self, lead: Tensor) -> Tensor:
        """The lead frame, with itself (or zeros) before it and nothing after it: the taps fold into a 2D kernel."""
        taps = self.weight[:, :, : self.behind + 1]
        # added one by one: several times faster than a sum over the axis
        kernel = reduce(torch.add, taps.unbind(2)) if self.before == "replicate" else taps[:, :, -1]
        return F.conv2d(lead.squeeze(2), kernel, self.bias, padding=self.padding[1:]).unsqueeze(2)

    def _groups(self, x: Tensor, history: Tensor) -> Tensor:
        """All groups at once, as batch entries of one convolution; memory is channels-last throughout."""
        batch, channels, frames, height, width = x.shape
        count, start = frames // self.group, self.skip - self.behind  # start < 0: frames of earlier groups
        length = self.group - self.skip + self.behind + self.ahead
        taps = x.new_empty(batch, count, length, height, width, channels)
        inside = split_axis(channels_last(x), 1, count, self.group)[:, :, max(start, 0) :]
        taps[:, :, self.past : length - self.ahead] = inside
        taps[:, :, length - self.ahead :] = 0
        for slot in range(self.past):
            self._fill_past(taps[:, :, slot], x, history, self.past - slot)
        y = F.conv3d(
            channels_first(taps.flatten(0, 1)), self.weight, self.bias, padding=self.padding
        )  # (b n) c group-skip h w
        return channels_first(split_axis(channels_last(y).contiguous(), 0, batch, count).flatten(1, 2))

    def _fill_past(self, taps: Tensor, x: Tensor, history: Tensor, back: int) -> None:
        """For every group the frame `back` frames before its first one: from the history, then from x itself."""
        count = taps.shape[1]
        early = min(-(-back // self.group), count)  # groups that start less than `back` frames into x
        old = history[:, :, self.past - back :: self.group][:, :, :early]
        taps.narrow(1, 0, early).copy_(channels_last(old))
        new = x[:, :, early * self.group - back :: self.group][:, :, : count - early]
        taps.narrow(1, early, count - early).copy_(channels_last(new))

    def leads(self, ctx: Context) -> int:
        return self.lead if ctx.recall(self) is None else 0

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class GroupCausalConv3dSpec(LayerSpec):
    """A 3D convolution causal between groups of frames. The group size comes with the signal unless `group` is set."""

    kind: Literal["group_causal_conv3d"] = "group_causal_conv3d"
    channels: PositiveInt
    kernel: PositiveInt | Triple = 3
    group: PositiveInt | None = None
    skip: int = Field(0, ge=0)
    before: PadMode = "replicate"
    bias: bool = True

    def trace(self, signal: Signal) -> Signal:
        group = self.group or signal.group
        if signal.lead > 1:
            raise SpecError(f"found a lead of {signal.lead} frames; group causal convolution needs a lead of 0 or 1")
        if signal.group % group:
            raise SpecError(f"groups of {group} do not divide the clip's groups of {signal.group}; take a divisor")
        if self.skip >= group:
            raise SpecError(f"skip {self.skip} leaves nothing of groups of {group}; it must be smaller")
        if not all(k % 2 for k in triple(self.kernel)[1:]):
            raise SpecError(f"kernel {self.kernel} is even in space, so the size would change; take odd ones")
        out = signal.with_channels(self.channels)
        if not self.skip:
            return out
        return out.with_time(lead=0, group=signal.group // group * (group - self.skip))

    def build(self, signal: Signal) -> GroupCausalConv3d:
        return GroupCausalConv3d(
            signal.channels,
            self.channels,
            triple(self.kernel),
            group=self.group or signal.group,
            lead=signal.lead,
            skip=self.skip,
            before=self.before,
            bias=self.bias,
        )

    def frames(self, signal: Signal, frames: int) -> int:
        return self.trace(signal).frames(self.whole_groups(signal, frames))

    def reach(self, signal: Signal, frames: int) -> Reach:
        self.frames(signal, frames)
        group, kt = self.group or signal.group, triple(self.kernel)[0]
        ahead = (kt - 1) // 2
        seen = reach.group_causal(frames, signal.lead, group, before=kt - 1 - ahead, after=ahead)
        if not self.skip:
            return seen
        kept = [t for t in range(signal.lead, frames) if (t - signal.lead) % group >= self.skip]
        return seen[kept]

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(max(same_pad(k) for k in triple(self.kernel)[1:]))
