"""Runs whatever turns clips into clips over the tiles of a plan, and lays what comes of them into one tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from vvae.errors import TileError
from vvae.tiling.blend import COLUMNS, ROWS, Chunks, ramp, tail
from vvae.tiling.layout import Span, TilePlan

Place: TypeAlias = tuple[int, int]
"""Row and column of a tile."""
Sides: TypeAlias = Mapping[str, Tensor]
"""What a function reads beside the clip, by name, `b c t h w` of any resolution; of one frame: that for all frames."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called after each tile with the tiles that are done, and all of them."""
Room: TypeAlias = Callable[[Tensor, int, int, int], Tensor]
Box: TypeAlias = tuple[slice, slice, slice]

Run: TypeAlias = Callable[..., Tensor]
"""What a tile `b c t h w` becomes, and where it stands: `run(tile, place)`; side inputs come by name, cut alike."""


def in_tiles(
    run: Run,
    x: Tensor,
    plan: TilePlan,
    *,
    sides: Sides | None = None,
    into: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """What `run` gives for `x` tile by tile, joined as the plan says; in one call where it has one tile.

    Shapes: `b c t h w` -> `b c' t' h' w'`. The result is `into`, or a tensor that is made once, when the first tile is
    known: beside it there is never more than one tile and its neighbours' overhang.

    Raises:
        TileError: a clip, a side input or an `into` of another size than the plan's; a tile that gives another size
            than the plan knows.
    """
    if plan.whole and into is None:
        return next(iter(chunks_in_tiles(run, x, plan, sides=sides, progress=progress)))
    out, at = into, 0

    def room(tile: Tensor, frames: int, rows: int, columns: int) -> Tensor:
        nonlocal out, at
        length = plan.time.length if plan.time else frames
        if out is None:
            out = _empty_room(tile, length, rows, columns)
        at += frames
        return checked_into(out, tile, length, rows, columns)[:, :, at - frames : at]

    for _ in chunks_in_tiles(run, x, plan, sides=sides, progress=progress, room=room):
        pass
    assert out is not None
    return out


def checked_into(into: Tensor, like: Tensor, *size: int) -> Tensor:
    """A tensor that takes a result like a clip or tile `b c ...`, of that size (frames, height, width).

    Raises:
        TileError: it has another shape.
    """
    if into.shape != (wanted := (*like.shape[:2], *size)):
        raise TileError(f"into holds {tuple(into.shape)}, but {wanted} come out; give a tensor of that shape")
    return into


def chunks_in_tiles(
    run: Run,
    x: Tensor,
    plan: TilePlan,
    *,
    sides: Sides | None = None,
    progress: Progress | None = None,
    room: Room | None = None,
) -> Iterator[Tensor]:
    """The same as it gets ready, chunk by chunk: for a sink, so that no more than a chunk is in memory.

    `room` gives the place for frames like those of a tile, so many of that height and width; by default a new tensor.
    """
    plan.check(x.shape[2:])
    sides, done = sides or {}, 0
    for name, side in sides.items():
        _check_side(name, side, x, plan)

    def counted(tile: Tensor, place: Place, **own: Tensor) -> Tensor:
        nonlocal done
        given = run(tile, place, **own)
        done += 1
        if progress is not None:
            progress(done, plan.tiles)
        return given

    for span, joint in _chunks_of(plan):
        laid = _chunk(counted, x, plan, span, sides, None if joint else room)
        ready = joint.add(laid) if joint else laid
        if joint and room and ready.shape[2]:
            ready = room(ready, *ready.shape[2:]).copy_(ready)
        yield ready
        del laid, ready  # taken by now


def _chunks_of(plan: TilePlan) -> Iterator[tuple[Span | None, Chunks | None]]:
    """Each chunk, and what joins it to the others where it shares frames with them."""
    if plan.time is None:
        yield None, None
        return
    joint = Chunks(plan.time)
    fades = any(span.fade for span in plan.time.spans)
    for span in plan.time.spans:
        yield span, joint if fades else None


def _chunk(run: Run, x: Tensor, plan: TilePlan, span: Span | None, sides: Sides, room: Room | None) -> Tensor:
    """One chunk, tile by tile; what hangs over of a tile waits for its neighbours."""
    rows, columns = plan.rows, plan.columns
    frames = slice(*span.read) if span else slice(0, x.shape[2])
    canvas: Tensor | None = None
    above: dict[int, Tensor] = {}
    for i, row in enumerate(rows.spans):
        left: Tensor | None = None
        for j, column in enumerate(columns.spans):
            window: Box = (frames, slice(*row.read), slice(*column.read))
            own = {name: _cut(side, _scaled(window, side, x)) for name, side in sides.items()}
            tile = run(_cut(x, window), (i, j), **own)
            _check(tile, span, row, column)
            tile = ramp(above[j], tile, row.fade, ROWS) if i else tile
            tile = ramp(left, tile, column.fade, COLUMNS) if left is not None else tile
            above[j] = tail(tile, rows.overhang(i), ROWS).clone()
            left = tail(tile, columns.overhang(j), COLUMNS).clone()
            kept = tile[:, :, _kept(span)] if span else tile
            if canvas is None:
                if (len(rows.spans), len(columns.spans)) == (1, 1) and room is None:
                    return kept
                canvas = (room or _empty_room)(kept, kept.shape[2], rows.length, columns.length)
            canvas[..., _laid(row), _laid(column)] = kept[..., _kept(row), _kept(column)]
            del tile, kept  # or it would be there while the next one is made
    assert canvas is not None
    return canvas


def _kept(span: Span) -> slice:
    return slice(span.skip, span.skip + span.keep)


def _laid(span: Span) -> slice:
    return slice(span.at, span.at + span.keep)


def _empty_room(tile: Tensor, frames: int, rows: int, columns: int) -> Tensor:
    """A new clip for tiles like this one, channels-last in memory."""
    shape = (*tile.shape[:2], frames, rows, columns)
    return torch.empty(shape, dtype=tile.dtype, device=tile.device, memory_format=torch.channels_last_3d)


def _cut(x: Tensor, window: Box) -> Tensor:
    frames, rows, columns = window
    return x[:, :, frames, rows, columns]


def _scaled(window: Box, side: Tensor, x: Tensor) -> Box:
    """Where a side input of another resolution stands for that window of x."""
    frames, rows, columns = (
        slice(cut.start * own // whole, cut.stop * own // whole) if own > 1 else slice(None)
        for cut, own, whole in zip(window, side.shape[2:], x.shape[2:], strict=True)
    )
    return frames, rows, columns


def _check_side(name: str, side: Tensor, x: Tensor, plan: TilePlan) -> None:
    """TileError unless every window of x is whole in the side input."""
    if side.ndim != 5:
        raise TileError(f"side input {name!r} has shape {tuple(side.shape)}; it is `b c t h w` like the clip")
    axes = ("frames", plan.time), ("rows", plan.rows), ("columns", plan.columns)
    for (of, axis), own, whole in zip(axes, side.shape[2:], x.shape[2:], strict=True):
        edges = {edge for span in axis.spans for edge in span.read} if axis else set()
        if own > 1 and any(edge * own % whole for edge in edges):
            raise TileError(
                f"side input {name!r} has {own} {of} beside {whole}, so tiles would cut it inside one; give it at a "
                f"resolution at which {sorted(edges)} of {whole} are whole"
            )


def _check(tile: Tensor, span: Span | None, row: Span, column: Span) -> None:
    """TileError unless the tile has the size that the plan knows."""
    wanted = (span.gives if span else tile.shape[2], row.gives, column.gives)
    if tuple(tile.shape[2:]) != wanted:
        raise TileError(
            f"a tile gave {tuple(tile.shape[2:])} (frames, height, width) where the plan has {wanted}; say how the "
            f"function compresses, or give it the tiles it takes"
        )
