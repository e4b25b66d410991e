"""Changes of the frame rate inside groups. A lead frame is not theirs: put them behind it with `AfterLead`."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, channels_first, channels_last, join_frames, split_axis
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class _TimeSpec(LayerSpec):
    """What all changes of the frame rate share: they know groups only, and nothing around a cell."""

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)

    def _fewer(self, signal: Signal, factor: int) -> Signal:
        if signal.lead or signal.group % factor:
            raise SpecError(
                f"lead {signal.lead} and groups of {signal.group} cannot be made {factor} times shorter; "
                f"wrap it in after_lead, and take a factor that divides the group"
            )
        return signal.with_time(group=signal.group // factor)

    def _more(self, signal: Signal, factor: int) -> Signal:
        if signal.lead:
            raise SpecError(f"a lead of {signal.lead} would be repeated too; wrap it in after_lead")
        return signal.with_time(group=signal.group * factor)


class TemporalSubsample(Layer):
    """The first of every `factor` frames: `b c t h w` -> `b c t/factor h w`."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x[:, :, :: self.factor]


class TemporalSubsampleSpec(_TimeSpec):
    """The first of every `factor` frames."""

    kind: Literal["temporal_subsample"] = "temporal_subsample"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return self._fewer(signal, self.factor)

    def build(self, signal: Signal) -> TemporalSubsample:
        return TemporalSubsample(self.factor)

    def reach(self, signal: Signal, frames: int) -> Reach:
        self.frames(signal, frames)
        return reach.fold(frames, self.factor, seen=1)


class TemporalDownsample(Layer, nn.Conv3d):
    """Every `factor` frames become one, by a linear map of their channels at each pixel.

    Shapes: `b in_channels t h w` -> `b out_channels t/factor h w`. Source: `time_conv` of IV-VAE's code.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(in_channels, out_channels, (factor, 1, 1), stride=(factor, 1, 1))

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return nn.Conv3d.forward(self, x)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class TemporalDownsampleSpec(_TimeSpec):
    """Every `factor` frames become one, by a linear map at each pixel."""

    kind: Literal["temporal_downsample"] = "temporal_downsample"
    channels: PositiveInt
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return self._fewer(signal, self.factor).with_channels(self.channels)

    def build(self, signal: Signal) -> TemporalDownsample:
        return TemporalDownsample(signal.channels, self.channels, self.factor)

    def reach(self, signal: Signal, frames: int) -> Reach:
        self.frames(signal, frames)
        return reach.fold(frames, self.factor)


class TemporalRepeat(Layer):
    """Every frame `factor` times: `b c t h w` -> `b c factor*t h w`."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return channels_first(channels_last(x).repeat_interleave(self.factor, 1))


class TemporalRepeatSpec(_TimeSpec):
    """Every frame `factor` times."""

    kind: Literal["temporal_repeat"] = "temporal_repeat"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return self._more(signal, self.factor)

    def build(self, signal: Signal) -> TemporalRepeat:
        return TemporalRepeat(self.factor)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.unfold(frames, self.factor)


class TemporalUpsample(Layer, nn.Conv3d):
    """Every frame becomes `factor` frames, each by its own linear map of the channels at each pixel.

    Shapes: `b in_channels t h w` -> `b out_channels factor*t h w`; the maps stand one after the other in the weight.
    Source: `time_conv` of IV-VAE's code.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(in_channels, out_channels * factor, 1)
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = split_axis(nn.Conv3d.forward(self, x), 1, self.factor, -1)  # b f c t h w
        return channels_first(y.permute(0, 3, 1, 4, 5, 2).clone(memory_format=torch.contiguous_format).flatten(1, 2))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels // self.factor, height, width


class TemporalUpsampleSpec(_TimeSpec):
    """Every frame becomes `factor` frames, each by its own linear map."""

    kind: Literal["temporal_upsample"] = "temporal_upsample"
    channels: PositiveInt
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        return self._more(signal, self.factor).with_channels(self.channels)

    def build(self, signal: Signal) -> TemporalUpsample:
        return TemporalUpsample(signal.channels, self.channels, self.factor)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.unfold(frames, self.factor)


class ChannelToTime(Layer):
    """Channels become frames; which of `factor` frames a channel is for is the fastest part of its number.

    Shapes: `b (c factor) t h w` -> `b c (t factor) h w`; frame factor*t+s of channel c is channel factor*c+s of
    frame t.

    Source: the decoder of `VAE_Temporal` of Open-Sora 1.2.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        y = split_axis(channels_last(x), 4, -1, self.factor)  # b t h w c f
        y = y.permute(0, 1, 5, 2, 3, 4).clone(memory_format=torch.contiguous_format)
        return channels_first(y.flatten(1, 2))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels // self.factor, height, width


class ChannelToTimeSpec(_TimeSpec):
    """Channels become frames, `factor` of each."""

    kind: Literal["channel_to_time"] = "channel_to_time"
    factor: PositiveInt = 2

    def trace(self, signal: Signal) -> Signal:
        channels, rest = divmod(signal.channels, self.factor)
        if rest:
            raise SpecError(f"{signal.channels} channels cannot become {self.factor} frames each; make them a multiple")
        return self._more(signal, self.factor).with_channels(channels)

    def build(self, signal: Signal) -> ChannelToTime:
        return ChannelToTime(self.factor)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.unfold(frames, self.factor)


class LinearTemporalUpsample(Layer):
    """`factor` times the frames, linear in time between frame centres; past both ends stands the end frame.

    Looks one frame ahead: a stream holds the last group back until a frame after it has come, or nothing follows.
    Source: `TimeUpsample2x` of OD-VAE (factor 2: new[2j] = .75 x[j] + .25 x[j-1], new[2j+1] = .75 x[j] + .25 x[j+1]).
    """

    holds_back = True

    def __init__(self, factor: int = 2, *, group: int = 1) -> None:
        super().__init__()
        self.factor, self.group = factor, group

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        kept = ctx.recall(self)
        if kept is None and not x.shape[2]:
            return x
        # one frame that is out already (at the start: the first one again), then those that wait
        known = torch.cat([x[:, :, :1] if kept is None else kept[0], x], 2)
        waiting = known.shape[2] - 1
        out = waiting if ctx.last else max(waiting - 1, 0) // self.group * self.group
        ctx.keep(self, known[:, :, out:])
        if not out:
            return x[:, :, :0]
        if ctx.last:
            known = join_frames(known, known[:, :, -1:])
        return self._between(known[:, :, :out], known[:, :, 1 : out + 1], known[:, :, 2 : out + 2])

    def _between(self, before: Tensor, here: Tensor, after: Tensor) -> Tensor:
        steps = []
        for index in range(self.factor):
            offset = (index + 0.5) / self.factor - 0.5
            steps.append(here.lerp(before if offset < 0 else after, abs(offset)))
        return channels_first(torch.stack([channels_last(step) for step in steps], 2).flatten(1, 2))


class LinearTemporalUpsampleSpec(_TimeSpec):
    """`factor` times the frames, linear in time; looks one frame ahead."""

    kind: Literal["linear_temporal_upsample"] = "linear_temporal_upsample"
    factor: int = Field(2, gt=1)

    def trace(self, signal: Signal) -> Signal:
        return self._more(signal, self.factor)

    def build(self, signal: Signal) -> LinearTemporalUpsample:
        return LinearTemporalUpsample(self.factor, group=signal.group)

    def reach(self, signal: Signal, frames: int) -> Reach:
        offset = (torch.arange(self.factor).numpy() + 0.5) / self.factor - 0.5
        behind, ahead = reach.window(frames, before=1, after=0), reach.window(frames, before=0, after=1)
        seen = reach.unfold(frames, self.factor)
        for index, step in enumerate(offset):
            if step:
                seen[index :: self.factor] |= behind if step < 0 else ahead
        return seen
