"""What OD-VAE's code offers beside what its releases use; github.com/PKU-YuanGroup/Open-Sora-Plan.

Its resamplers with attention over time see the clip behind copies of its first frame; linear attention takes images
only; and layers that work frame by frame give images back as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context, StreamStep
from vvae.errors import SpecError, StreamError
from vvae.layers.compose import ChainSpec, CompositeSpec, own_layers
from vvae.layers.layer import Layer, fold_frames, split_axis, unfold_frames
from vvae.layers.pad import pad_time
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, Layers, LayerSpec

BEFORE = 2  # copies of the first frame


class PaddedTemporalDownsample(nn.Module):
    """Layers on the clip behind two copies of its first frame, then a convolution over three frames at a stride of two.

    Shapes: `b c t h w` -> `b c (t-1)//2+1 h w`. Source: the learned branch of `TimeDownsampleResAdv2x`.
    """

    def __init__(self, layers: Mapping[str, nn.Module], channels: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.conv = nn.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        if isinstance(ctx, StreamStep):
            raise StreamError("PaddedTemporalDownsample must see the whole clip; give it whole, or in tiles")
        x = pad_time(x, BEFORE, 0, "replicate")
        for name, layer in own_layers(self).items():
            if name != "conv":
                x = layer(x, ctx)
        y: Tensor = self.conv(x)
        return y


class PaddedTemporalDownsampleSpec(CompositeSpec):
    """Layers that keep the clip's shape, on it behind two copies of its first frame; then half the frames."""

    kind: Literal["padded_temporal_downsample"] = "padded_temporal_downsample"
    layers: Layers

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        return ChainSpec(layers=self.layers).inputs(self._padded(signal))

    @staticmethod
    def _padded(signal: Signal) -> Signal:
        return signal.with_time(lead=signal.lead + BEFORE, group=1)

    def trace(self, signal: Signal) -> Signal:
        self.trace_children(signal)
        padded = self._padded(signal)
        if "conv" in self.layers:
            raise SpecError("'conv' names the convolution; choose another name for the layer")
        if signal.lead != 1 or signal.group % 2:
            raise SpecError(f"found lead {signal.lead} and groups of {signal.group}; give a lead of 1 and even groups")
        if (end := ChainSpec(layers=self.layers).trace(padded)) != padded:
            raise SpecError(f"its layers make {end} of {padded}; they must keep it")
        return signal.with_time(group=signal.group // 2)

    def frames(self, signal: Signal, frames: int) -> int:
        return (frames + 1) // 2

    def build(self, signal: Signal) -> PaddedTemporalDownsample:
        return PaddedTemporalDownsample(self.build_children(signal), signal.channels)

    def reach(self, signal: Signal, frames: int) -> Reach:
        inside = ChainSpec(layers=self.layers).reach(self._padded(signal), frames + BEFORE)
        taken = reach.window(frames + BEFORE, before=0, after=BEFORE, every=2)[: self.frames(signal, frames)]
        seen = reach.then(inside, taken)
        own = seen[:, BEFORE:]
        own[:, 0] |= seen[:, :BEFORE].any(1)
        return own

    def halo(self, signal: Signal) -> Fraction | None:
        inside = ChainSpec(layers=self.layers).halo(self._padded(signal))
        return None if inside is None else inside + 1

    def stream_limit(self, signal: Signal) -> str:
        return "its layers see the whole clip behind copies of its first frame"


class FrameLinearAttention(Layer):
    """Attention over the positions of a frame that is linear in them: softmax over the positions of the keys alone.

    No norm and no shortcut. Shape `b c t h w`, kept. Source: `LinearAttention`, and `LinAttnBlock` (one head).
    """

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * heads * width, 1, bias=False)
        self.out = nn.Conv2d(heads * width, channels, 1)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        frames = fold_frames(x)
        q, k, v = split_axis(self.qkv(frames).flatten(2), 1, 3, self.heads, -1).unbind(1)  # n heads width (h w)
        memory = torch.einsum("nhdp,nhep->nhde", k.softmax(3), v)
        y = torch.einsum("nhde,nhdp->nhep", memory, q).flatten(1, 2)
        read = split_axis(y, 2, *frames.shape[2:]).contiguous(memory_format=torch.channels_last)
        return unfold_frames(self.out(read), x.shape[0])


class FrameLinearAttentionSpec(FrameLayerSpec):
    """Linear attention over the positions of each frame, `width` channels a head."""

    kind: Literal["frame_linear_attention"] = "frame_linear_attention"
    heads: PositiveInt = 4
    width: PositiveInt = 32

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> FrameLinearAttention:
        return FrameLinearAttention(signal.channels, self.heads, self.width)


class ClipsOnly(nn.Module):
    """A layer for clips `b c t h w`; an image `b c h w` comes back as it went in, whatever the layer would make of it.

    Source: a defect of the wrapper around all layers that work frame by frame.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) if x.ndim == 5 else x
        return y


@torch.no_grad()
def start_as_mean(conv: nn.Conv3d) -> None:
    """Every output channel the mean of its own over the taps in time: `init_method="avg"` of `CausalConv3d`.

    For as many channels out as in, and a kernel of one cell.
    """
    taps = conv.kernel_size[0]
    conv.weight.copy_((torch.eye(conv.in_channels) / taps)[:, :, None, None, None].expand_as(conv.weight))
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


@torch.no_grad()
def start_at_zero(conv: nn.Conv3d) -> None:
    """Zeros: `init_method="zero"` of `CausalConv3d`."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


STARTS: Mapping[str, Callable[[nn.Conv3d], None]] = MappingProxyType({"avg": start_as_mean, "zero": start_at_zero})
