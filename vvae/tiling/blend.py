"""How what comes of tiles and chunks is joined. Nothing is written into what a model gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from vvae.layers.layer import join_frames
from vvae.tiling.rules import SpaceTiles, TimeTiles

TIME, ROWS, COLUMNS = 2, 3, 4


def ramp(before: Tensor, after: Tensor, extent: int, axis: int) -> Tensor:
    """`after`, of which the first `extent` along `axis` fade in from the last of `before`; fewer where one is shorter.

    The weight of `after` grows from 0 in steps of 1 / extent; both weights add up to one.
    """
    extent = min(extent, before.shape[axis], after.shape[axis])
    if extent < 1:
        return after
    wide = torch.promote_types(after.dtype, torch.float32)
    grows = (torch.arange(extent, dtype=wide, device=after.device) / extent).view(-1, *[1] * (after.ndim - axis - 1))
    fades = before.narrow(axis, before.shape[axis] - extent, extent)
    blended = fades * (1 - grows) + after.narrow(axis, 0, extent) * grows
    return torch.cat([blended.to(after.dtype), after.narrow(axis, extent, after.shape[axis] - extent)], axis)


def blended_rows(rows: Iterable[list[Tensor]], extent: Callable[[int], int]) -> Iterator[list[Tensor]]:
    """Rows of tiles, each tile blended with the one above, then with the one to the left, both blended already.

    `extent` gives how far, from the length of that neighbour.
    """
    above: list[Tensor] | None = None
    for row in rows:
        done: list[Tensor] = []
        for column, tile in enumerate(row):
            if above is not None:
                tile = ramp(above[column], tile, extent(above[column].shape[ROWS]), ROWS)
            if done:
                tile = ramp(done[-1], tile, extent(done[-1].shape[COLUMNS]), COLUMNS)
            done.append(tile)
        yield done
        above = done


def join_tiles(rows: Iterable[list[Tensor]], rule: SpaceTiles) -> Tensor:
    """Rows of tiles as one clip."""
    kept = (
        torch.cat([tile[..., : rule.keep, : rule.keep] for tile in row], COLUMNS)
        for row in blended_rows(rows, lambda length: rule.blend)
    )
    return torch.cat(list(kept), ROWS)


def join_chunks(chunks: Iterable[Tensor], rule: TimeTiles) -> Tensor:
    """Chunks as one clip."""
    first, *later = chunks
    if rule.join == "drop":
        return join_frames(first, *(chunk[:, :, rule.shared :] for chunk in later))
    return (_ramped if rule.join == "ramp" else _mean)([first, *later], rule.shared)


def _ramped(chunks: list[Tensor], shared: int) -> Tensor:
    joined = chunks[0]
    for chunk in chunks[1:]:
        ready = joined.narrow(TIME, 0, joined.shape[TIME] - shared)
        joined = join_frames(ready, ramp(joined, chunk, shared, TIME))
    return joined


def _mean(chunks: list[Tensor], shared: int) -> Tensor:
    lengths = [chunk.shape[TIME] for chunk in chunks]
    starts = [sum(lengths[:i]) - i * shared for i in range(len(chunks))]
    wide = torch.promote_types(chunks[0].dtype, torch.float32)
    batch, channels, _, *frame = chunks[0].shape
    total = chunks[0].new_zeros(batch, channels, starts[-1] + lengths[-1], *frame, dtype=wide)
    count = total.new_zeros(total.shape[TIME], 1, 1)
    for start, chunk in zip(starts, chunks, strict=True):
        total.narrow(TIME, start, chunk.shape[TIME]).add_(chunk)
        count.narrow(0, start, chunk.shape[TIME]).add_(1)
    return (total / count).to(chunks[0].dtype)
