"""A convolution over time that looks ahead, and in a stream holds frames back until it has seen what follows them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.conv25 import TemporalConv, TemporalConvSpec, over_time
from vvae.layers.layer import join_frames
from vvae.layers.pad import PadMode, pad_time
from vvae.signal import Signal


class LookAheadConv(TemporalConv):
    """A `TemporalConv` that streams: of a whole clip both give the same.

    A stream gives whole groups of `group` frames of its input (the lead before them), each as soon as all that it sees
    has come; the last chunk gives the rest. It keeps the frames that wait, and the `before` in front of them.

    >>> LookAheadConv(64, 64, group=4)(torch.zeros(1, 64, 9, 8, 8)).shape
    torch.Size([1, 64, 9, 8, 8])
    """

    holds_back = True
    whole_clip = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        group: int,
        stride: int = 1,
        ahead: int | None = None,
        outside: PadMode = "replicate",
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, ahead=ahead, outside=outside, bias=bias)
        self.group = group

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        kept = ctx.recall(self)
        if kept is None and ctx.last and x.shape[2]:
            return super().run(x, ctx)
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


class LookAheadConvSpec(TemporalConvSpec):
    """A convolution over time at each pixel that looks ahead, past the ends of groups, and streams."""

    kind: Literal["look_ahead_conv"] = "look_ahead_conv"  # type: ignore[assignment]

    def trace(self, signal: Signal) -> Signal:
        if signal.lead > 1:
            raise SpecError(f"found a lead of {signal.lead} frames; a convolution that holds groups back needs 0 or 1")
        return super().trace(signal)

    def build(self, signal: Signal) -> LookAheadConv:
        return LookAheadConv(
            signal.channels,
            self.channels,
            self.kernel,
            group=signal.group,
            stride=self.stride,
            ahead=self.ahead,
            outside=self.outside,
            bias=self.bias,
        )

    def stream_limit(self, signal: Signal) -> None:  # type: ignore[override]
        return None
