"""How a clip reads what was made of its content image: attention to it, positions, and what stands where there is none.

A feature is `b c 1 h w`, beside the clip in the context, under the name that the layer's `content` gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError, VideoError
from vvae.layers.compose import Chain, ChainSpec, CompositeSpec
from vvae.layers.layer import Layer, channels_first, channels_last, split_axis
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, Layers, LayerSpec, nearest


def feature(signal: Signal, name: str) -> Signal:
    """The content feature of that name that stands beside the clip; SpecError where there is none."""
    if name not in signal.content:
        raise SpecError(f"content {nearest(name, signal.content)}; give the model's content a stage of that name")
    return signal.content[name]


def read(ctx: Context, name: str, x: Tensor) -> Tensor:
    """The feature of that name, `b c h w`, in the dtype of the clip x.

    Raises:
        VideoError: none, or not one image for each clip of x.
    """
    found = ctx.content.get(name)
    if found is None or found.ndim != 5 or found.shape[0] != x.shape[0] or found.shape[2] != 1:
        told = "none" if found is None else f"one of shape {tuple(found.shape)}"
        raise VideoError(f"a layer reads the content {name!r} and finds {told}; give `{x.shape[0]} c 1 h w`")
    return found.squeeze(2).to(x.dtype)


class ContentAttention(Layer):
    """Every pixel of every frame looks at all positions of a content feature, the same for all frames.

    `heads` heads of `head_width` channels; queries come from the clip, keys and values from the feature, once for the
    clip. No norm and no shortcut of its own, no positions. Nothing of the size (t h w) x (h w) is stored. `bias`: of
    queries and values. Shape `b channels t h w`, kept; the feature `b content_channels 1 h' w'` may have another size.
    Source: `CrossAttention` of Reducio-VAE's code.
    """

    def __init__(
        self,
        channels: int,
        content_channels: int,
        content: str,
        *,
        heads: int = 8,
        head_width: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.content, self.heads = content, heads
        inner = heads * head_width
        self.q = nn.Linear(channels, inner, bias=bias)
        self.k = nn.Linear(content_channels, inner, bias=False)
        self.v = nn.Linear(content_channels, inner, bias=bias)
        self.out = nn.Linear(inner, channels)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        content = read(ctx, self.content, x)
        pixels = self._look(channels_last(x).flatten(1, 3), content.flatten(2).transpose(1, 2))
        return channels_first(split_axis(pixels, 1, *x.shape[2:]))

    def _look(self, x: Tensor, content: Tensor) -> Tensor:
        """`n p channels` looks at `n q content_channels`: `n p channels`."""
        q, k, v = (self._headed(tokens) for tokens in (self.q(x), self.k(content), self.v(content)))
        y: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y

    def _headed(self, tokens: Tensor) -> Tensor:
        """`n p (heads c)` -> `n heads p c`."""
        return split_axis(tokens, 2, self.heads, -1).transpose(1, 2)


class ContentAttentionSpec(FrameLayerSpec):
    """Attention of every pixel to the content feature of that name."""

    kind: Literal["content_attention"] = "content_attention"
    content: str
    heads: PositiveInt = 8
    head_width: PositiveInt = 64
    bias: bool = False

    def trace(self, signal: Signal) -> Signal:
        feature(signal, self.content)
        return signal

    def build(self, signal: Signal) -> ContentAttention:
        return ContentAttention(
            signal.channels,
            feature(signal, self.content).channels,
            self.content,
            heads=self.heads,
            head_width=self.head_width,
            bias=self.bias,
        )

    def halo(self, signal: Signal) -> Fraction | None:
        return Fraction(0)

    def reads(self) -> frozenset[str]:
        return frozenset({self.content})


class WindowedContentAttention(ContentAttention):
    """The same in windows, where the feature has more than `window` x `window` positions and the clip as many.

    Feature and clip are filled with zeros to the right and below, up to whole windows; a window of the clip is as many
    times larger as the clip is, and looks at the window of the feature in the same place, filled positions included.

    Raises:
        VideoError: a clip and a feature that do not fall into equally many windows.

    Source: `CrossAttention` of Reducio-VAE's code, which takes windows of 128.
    """

    def __init__(
        self,
        channels: int,
        content_channels: int,
        content: str,
        *,
        window: tuple[int, int],
        heads: int = 8,
        head_width: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__(channels, content_channels, content, heads=heads, head_width=head_width, bias=bias)
        self.window = window

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        content, area = read(ctx, self.content, x), math.prod(self.window)
        if math.prod(content.shape[2:]) <= area or math.prod(x.shape[3:]) < area:
            return super().run(x, ctx)
        own = [
            -(-side * size // of) for side, size, of in zip(self.window, x.shape[3:], content.shape[2:], strict=True)
        ]
        seen, seeing = windows(content.unsqueeze(2), *self.window), windows(x, *own)
        if seen.shape[1:3] != seeing.shape[1:3]:
            raise VideoError(
                f"{tuple(seen.shape[1:3])} windows of the content {self.content!r} beside {tuple(seeing.shape[1:3])} "
                f"of the clip; give a content image of the clip's size"
            )
        y = self._look(seeing.flatten(0, 2).flatten(1, 3), seen.flatten(0, 2).flatten(1, 3))
        return unwindowed(split_axis(split_axis(y, 1, x.shape[2], *own), 0, *seeing.shape[:3]), x)


def windows(x: Tensor, rows: int, columns: int) -> Tensor:
    """`b c t h w`, filled with zeros right and below -> `b m n t rows columns c`, m x n windows."""
    x = F.pad(x, (0, -x.shape[4] % columns, 0, -x.shape[3] % rows))
    split = split_axis(split_axis(x, 4, -1, columns), 3, -1, rows)  # b c t m rows n columns
    return split.permute(0, 3, 5, 2, 4, 6, 1)


def unwindowed(split: Tensor, x: Tensor) -> Tensor:
    """Undoes `windows` for a clip of the size of x."""
    y = split.permute(0, 6, 3, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4)
    return y[..., : x.shape[3], : x.shape[4]].contiguous(memory_format=torch.channels_last_3d)


class WindowedContentAttentionSpec(ContentAttentionSpec):
    """Attention of every pixel to the content feature of that name, in windows where both are larger than one."""

    kind: Literal["windowed_content_attention"] = "windowed_content_attention"  # type: ignore[assignment]
    window: PositiveInt | tuple[PositiveInt, PositiveInt]

    def build(self, signal: Signal) -> WindowedContentAttention:
        return WindowedContentAttention(
            signal.channels,
            feature(signal, self.content).channels,
            self.content,
            window=(self.window, self.window) if isinstance(self.window, int) else self.window,
            heads=self.heads,
            head_width=self.head_width,
            bias=self.bias,
        )

    def halo(self, signal: Signal) -> None:
        return None


def sinusoids(rows: int, channels: int) -> Tensor:
    """Positions 0, 1, ... as sines (even channels) and cosines (odd ones): float64, `rows channels`.

    The angle of channel j is row / 10000^(2*floor(j/2)/channels). Source: arXiv 1706.03762.
    """
    channel = np.arange(channels)
    angles = np.arange(rows)[:, None] / 10000 ** (channel // 2 * 2 / channels)
    return torch.tensor(np.where(channel % 2 == 0, np.sin(angles), np.cos(angles)))


class TimePositions(Layer):
    """Adds to every pixel of a frame the row of its frame in a table of sinusoids, bound to clips of so many `frames`.

    Shape `b c t h w`, kept. The table is stored with the model (float32, or what the model is converted to), not
    trained.

    Raises:
        VideoError: a clip of another length.
    """

    whole_clip = True

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.register_buffer("table", sinusoids(frames, channels).float()[None, :, None])  # 1 t 1 c
        self.table: Tensor

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if x.shape[2] != self.frames:
            raise VideoError(f"{x.shape[2]} frames at a table of positions of {self.frames}; give that many")
        return channels_first(channels_last(x) + self.table[:, :, None].to(x.dtype))


class TimePositionsSpec(FrameLayerSpec):
    """A table of sinusoids, one row for each frame of a clip of so many `frames`."""

    kind: Literal["time_positions"] = "time_positions"
    length: PositiveInt

    def trace(self, signal: Signal) -> Signal:
        if signal.lead or self.length % signal.group:
            raise SpecError(
                f"a table of {self.length} positions does not fit a clip of lead {signal.lead} and groups of "
                f"{signal.group}; give one row for each frame of whole groups"
            )
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        if frames != self.length:
            raise SpecError(f"{frames} frames at a table of positions of {self.length}; it takes no other length")
        return frames

    def build(self, signal: Signal) -> TimePositions:
        return TimePositions(signal.channels, self.length)

    def numbers_frames(self) -> bool:
        return True

    def stream_limit(self, signal: Signal) -> str:
        return "its positions are bound to the whole clip"

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class WithContent(Chain):
    """`layers` one after the other; where no content stands beside the clip it passes as it is."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        return super().forward(x, ctx) if ctx.content else x


class WithContentSpec(CompositeSpec):
    """`layers` one after the other, which keep the signal; a clip without content passes by them."""

    kind: Literal["with_content"] = "with_content"
    layers: Layers

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        return self._chain.inputs(signal)

    def trace(self, signal: Signal) -> Signal:
        if (out := self._chain.trace(signal)) != signal:
            raise SpecError(f"gives {out} for {signal}; where content may be missing, layers must keep the signal")
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        return self._chain.frames(signal, frames)

    def build(self, signal: Signal) -> WithContent:
        return WithContent(self.build_children(signal))

    def reach(self, signal: Signal, frames: int) -> Reach:
        return self._chain.reach(signal, frames)

    def halo(self, signal: Signal) -> Fraction | None:
        return self._chain.halo(signal)

    @property
    def _chain(self) -> ChainSpec:
        return ChainSpec(layers=self.layers)
