"""A convolution over time that looks ahead, and in a stream holds frames back until it has seen what follows them."""

from __future__ import annotations

from typing import Literal

from vvae.errors import SpecError
from vvae.layers.conv25 import TemporalConv, TemporalConvSpec
from vvae.layers.pad import PadMode
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
        self.group, self.unit = group, 0


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
