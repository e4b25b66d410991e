"""More frames for a clip of any length, where the frames of both sides are seen."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.conv25 import over_time
from vvae.layers.layer import Layer, channels_first, channels_last
from vvae.layers.pad import PadMode, pad_time
from vvae.layers.space import shared_taps
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec

STRIP = 2**14  # pixels of the batch that pass at once, some rows of every frame: what is between stays in the cache


class TemporalConvUpsample(Layer, nn.Conv3d):
    """Every frame `factor` times, then a convolution over time at each pixel (odd kernel).

    Past both ends of the clip stand zeros, or its end frames again (`outside`). Several taps of a frame that comes out
    read the same frame; they are added up first: for kernel 3 and factor 2 that is 2/3 of the work.

    Shapes: `b in_channels t h w` -> `b out_channels factor*t h w`.
    Source: `TemporalUpsample` of TAE's code (mindone), which has zeros; Movie Gen, section 3.1.1, has end frames.
    """

    whole_clip = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, *, factor: int = 2, outside: PadMode = "zero"
    ) -> None:
        super().__init__(in_channels, out_channels, (kernel, 1, 1))
        self.factor = factor
        self.outside: PadMode = outside

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        first, taps = shared_taps(self.kernel_size[0], self.factor)
        cells, (batch, _, frames, height, width) = len(taps[0]), x.shape
        weight = torch.einsum("oitjk,fnt->foinjk", self.weight, x.new_tensor(taps))
        woven = x.new_empty(batch, frames, self.factor, height, width, self.out_channels)
        rows = max(1, STRIP // max(1, batch * frames * width))
        for top in range(0, height, rows):
            strip = slice(top, top + rows)
            padded = pad_time(x[:, :, :, strip], -first[0], first[-1] + cells - 1, self.outside)
            for number, start in enumerate(first):
                seen = padded.narrow(2, start - first[0], frames + cells - 1)
                woven[:, :, number, strip] = channels_last(over_time(seen, weight[number], self.bias))
        return channels_first(woven.flatten(1, 2))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class TemporalConvUpsampleSpec(LayerSpec):
    """Every frame `factor` times, then a convolution over time at each pixel."""

    kind: Literal["temporal_conv_upsample"] = "temporal_conv_upsample"
    channels: PositiveInt
    kernel: PositiveInt = 3
    factor: PositiveInt = 2
    outside: PadMode = "zero"

    def trace(self, signal: Signal) -> Signal:
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel {self.kernel} is even, so the length would not be a multiple; take an odd kernel")
        if signal.lead and self.factor > 1:
            raise SpecError(f"a lead of {signal.lead} would be repeated too; wrap it in after_lead")
        return signal.with_channels(self.channels).with_time(group=signal.group * self.factor)

    def frames(self, signal: Signal, frames: int) -> int:
        return frames * self.factor

    def build(self, signal: Signal) -> TemporalConvUpsample:
        return TemporalConvUpsample(
            signal.channels, self.channels, self.kernel, factor=self.factor, outside=self.outside
        )

    def reach(self, signal: Signal, frames: int) -> Reach:
        half = self.kernel // 2
        around = reach.window(frames * self.factor, before=half, after=half)
        return reach.then(reach.unfold(frames, self.factor), around)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)

    def stream_limit(self, signal: Signal) -> str:
        return "its convolution sees later frames without an end of a group between"
