"""Convolutions over time and space with zeros on all sides."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.conv import Triple, same_pad, triple
from vvae.layers.layer import Layer, blank_frame, join_frames
from vvae.layers.slices import SliceStep
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class Conv3d(Layer, nn.Conv3d):
    """A 3D convolution with as much zero padding on both sides, in time too, as keeps the size (odd kernels).

    A frame sees (kernel-1)//2 frames before and after it, so that no stream is possible unless the kernel is 1 in time.
    Shapes: `b in_channels t h w` -> `b out_channels t h w`.

    >>> Conv3d(64, 128)(torch.zeros(1, 64, 4, 8, 8)).shape
    torch.Size([1, 128, 4, 8, 8])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int | tuple[int, int, int] = 3, *, bias: bool = True
    ) -> None:
        kt, kh, kw = triple(kernel)
        padding = (same_pad(kt), same_pad(kh), same_pad(kw))
        super().__init__(in_channels, out_channels, (kt, kh, kw), padding=padding, bias=bias)
        self.whole_clip, self.unit, self.even = kt > 1, 1, kt == 1

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return self._slice(x, ctx) if isinstance(ctx, SliceStep) else nn.Conv3d.forward(self, x)

    def _slice(self, x: Tensor, ctx: Context) -> Tensor:
        """Some frames less than went in, until the last slice: they wait for those that they look ahead to."""
        kernel = self.kernel_size[0]
        past, outside = ctx.recall(self), [blank_frame(x)] * same_pad(kernel)
        front = outside if past is None else past
        known = join_frames(*front, x, *(outside if ctx.last else []))
        ctx.keep(self, known[:, :, max(known.shape[2] - kernel + 1, 0) :])
        if known.shape[2] < kernel:
            return self.empty(x)
        return F.conv3d(known, self.weight, self.bias, padding=(0, *self.padding[1:]))

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.out_channels, height, width


class Conv3dSpec(LayerSpec):
    """A 3D convolution that sees as far ahead as back; zero padding keeps the size."""

    kind: Literal["conv3d"] = "conv3d"
    channels: PositiveInt
    kernel: PositiveInt | Triple = 3
    bias: bool = True

    def trace(self, signal: Signal) -> Signal:
        if not all(k % 2 for k in triple(self.kernel)):
            raise SpecError(f"kernel {self.kernel} is even, so the size would change; take odd ones")
        return signal.with_channels(self.channels)

    def build(self, signal: Signal) -> Conv3d:
        return Conv3d(signal.channels, self.channels, triple(self.kernel), bias=self.bias)

    def reach(self, signal: Signal, frames: int) -> Reach:
        sight = same_pad(triple(self.kernel)[0])
        return reach.window(frames, before=sight, after=sight)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(max(same_pad(k) for k in triple(self.kernel)[1:]))

    def stream_limit(self, signal: Signal) -> str | None:
        ahead = same_pad(triple(self.kernel)[0])
        return f"its convolution looks {ahead} ahead, past the end of any chunk" if ahead else None
