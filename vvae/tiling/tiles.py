"""Runs whatever turns clips into clips over the tiles of a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from vvae.tiling.blend import join_chunks, join_tiles
from vvae.tiling.rules import SpaceTiles, Tiles

Place: TypeAlias = tuple[int, int]
"""Row and column of a tile."""
Run: TypeAlias = Callable[[Tensor, Place], Tensor]
"""What a tile `b c t h w` becomes, and where it stands."""


def in_tiles(run: Run, x: Tensor, rule: Tiles) -> Tensor:
    """What `run` gives for `x` tile by tile, joined as the rule says; in one call where the rule does not apply.

    Shapes: `b c t h w` -> `b c' t' h' w'`. Chunks in time come one after the other, in each its tiles row by row.
    """
    if not rule.applies(*x.shape[2:]):
        return run(x, (0, 0))
    if rule.time is None:
        return _frame_tiles(run, x, rule.space)
    chunks = (_frame_tiles(run, x[:, :, start:end], rule.space) for start, end in rule.time.windows(x.shape[2]))
    return join_chunks(chunks, rule.time)


def _frame_tiles(run: Run, x: Tensor, rule: SpaceTiles | None) -> Tensor:
    if rule is None:
        return run(x, (0, 0))
    rows, columns = (rule.windows(side) for side in x.shape[3:])
    tiles = (
        [run(x[..., top:bottom, left:right], (i, j)) for j, (left, right) in enumerate(columns)]
        for i, (top, bottom) in enumerate(rows)
    )
    return join_tiles(tiles, rule)
