"""How what comes of tiles and chunks is joined. Nothing is written into what a model gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from vvae.tiling.layout import Axis

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
    blended = tail(before, extent, axis) * (1 - grows) + after.narrow(axis, 0, extent) * grows
    return torch.cat([blended.to(after.dtype), after.narrow(axis, extent, after.shape[axis] - extent)], axis)


def tail(x: Tensor, extent: int, axis: int) -> Tensor:
    """The last `extent` along an axis, a view."""
    return x.narrow(axis, x.shape[axis] - extent, extent)


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


class Chunks:
    """Chunks of a clip one after the other: those that share frames wait with these for the next one."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self._number = 0
        self._waits: Tensor | None = None
        self._count: Tensor | None = None

    def add(self, chunk: Tensor) -> Tensor:
        """The frames that are ready after the next chunk."""
        span, waiting = self.axis.spans[self._number], self.axis.overhang(self._number)
        self._number += 1
        if not span.fade and not waiting:
            return chunk
        return (self._mean if self.axis.join == "mean" else self._ramp)(chunk, span.fade, waiting)

    def _ramp(self, chunk: Tensor, fade: int, waiting: int) -> Tensor:
        if self._waits is not None:
            chunk = ramp(self._waits, chunk, fade, TIME)
        ready = chunk.shape[TIME] - waiting
        self._waits = chunk[:, :, ready:].clone()
        return chunk[:, :, :ready]

    def _mean(self, chunk: Tensor, fade: int, waiting: int) -> Tensor:
        total = chunk.to(torch.promote_types(chunk.dtype, torch.float32), copy=True)
        count = total.new_ones(total.shape[TIME], 1, 1)
        if self._waits is not None and self._count is not None:
            total[:, :, :fade] += self._waits
            count[:fade] += self._count
        ready = chunk.shape[TIME] - waiting
        self._waits, self._count = total[:, :, ready:].clone(), count[ready:]
        return (total[:, :, :ready] / count[:ready]).to(chunk.dtype)
