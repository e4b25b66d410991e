"""The contract of a layer, and the folding of frames into the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vvae.context import WHOLE_CLIP, Context, StreamStep
from vvae.errors import StreamError


class Layer(nn.Module):
    """`forward(x, ctx=WHOLE_CLIP)` for x of shape `b c t h w`.

    The contract: the outputs for the chunks of a stream, one after the other, are the output for the whole clip.
    A subclass gives `run`, which never sees zero frames, and `shape` where channels or size change. A layer that holds
    frames back until later ones have come sets `holds_back` and gets empty chunks too. One that cannot keep the
    contract, since it must see the whole clip, sets `whole_clip` and refuses chunks.

    A layer that also keeps it for the slices of `slices.py` sets `unit`, the frames that must stay together in them
    (behind the `leads`, frames in front that stand alone); `even` says that of each slice as many frames come as went
    in, else `given` says how many come of all.
    """

    holds_back: ClassVar[bool] = False
    whole_clip: bool = False
    unit: int = 0
    even: bool = True

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        self.check(ctx)
        if x.shape[2] == 0 and not self.holds_back:
            return self.empty(x)
        return self.run(x, ctx)

    def check(self, ctx: Context) -> None:
        """StreamError where this layer must see the whole clip, but is given a chunk."""
        if self.whole_clip and isinstance(ctx, StreamStep):
            raise StreamError(f"{type(self).__name__} must see the whole clip; give it whole, or in tiles")

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        raise NotImplementedError

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return channels, height, width

    def leads(self, ctx: Context) -> int:
        """Frames in front of the first unit that are still to come."""
        return 0

    def given(self, frames: int, ctx: Context) -> int:
        """How many frames come of so many more, asked before they pass."""
        return frames

    def empty(self, x: Tensor) -> Tensor:
        """Zero frames of what comes out for x."""
        channels, height, width = self.shape(x.shape[1], x.shape[3], x.shape[4])
        return x.new_empty(x.shape[0], channels, 0, height, width)


def split_axis(x: Tensor, axis: int, *sizes: int) -> Tensor:
    """One axis as several: `split_axis(x, 1, 2, c)` is `b (2 c) ...` -> `b 2 c ...`."""
    split: Tensor = x.unflatten(axis, sizes)
    return split


def fold_frames(x: Tensor) -> Tensor:
    """`b c t h w` -> `(b t) c h w`; a view where x is channels-last."""
    if x.stride(1) == 1:  # a single frame is then channels-last too, which its odd strides would hide
        return channels_last(x).flatten(0, 1).permute(0, 3, 1, 2)
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """`(b t) c h w` -> `b c t h w`; undoes `fold_frames`."""
    if x.stride(1) == 1:
        return channels_first(split_axis(x.permute(0, 2, 3, 1), 0, batch, x.shape[0] // batch))
    return split_axis(x, 0, batch, x.shape[0] // batch).transpose(1, 2)


def join_frames(*parts: Tensor) -> Tensor:
    """Clips one after the other in time, channels-last in memory; no copy where only one has frames."""
    filled = [part for part in parts if part.shape[2]]
    if len(filled) < 2:
        return (filled or parts)[0]
    return channels_first(torch.cat([channels_last(part) for part in filled], 1))


def join_channels(parts: Sequence[Tensor]) -> Tensor:
    """Clips one above the other in channels, channels-last in memory."""
    return channels_first(torch.cat([channels_last(part) for part in parts], -1))


def blank_frame(x: Tensor) -> Tensor:
    """One frame of zeros to stand beside those of x."""
    batch, channels, _, height, width = x.shape
    return channels_first(x.new_zeros(batch, 1, height, width, channels))


def channels_last(x: Tensor) -> Tensor:
    """`b c t h w` -> `b t h w c`, a view."""
    return x.permute(0, 2, 3, 4, 1)


def channels_first(x: Tensor) -> Tensor:
    """`b t h w c` -> `b c t h w`, a view; undoes `channels_last`."""
    return x.permute(0, 4, 1, 2, 3)
