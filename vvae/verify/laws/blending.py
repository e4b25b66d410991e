"""Laws of blended tiles: where a function sees its cell alone no border of a tile shows, and no units are mixed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vvae.errors import TileError
from vvae.layers.layer import split_axis
from vvae.signal import Signal
from vvae.tiling import Cells, Compression, Frames, Pixels, Positions, TilingRule, in_tiles, tile_plan
from vvae.tiling.rules import Direction
from vvae.verify.clips import random_clip
from vvae.verify.findings import TOLERANCE, LawError, near


def check_blended(by: Compression, rule: TilingRule, size: tuple[int, int, int], *, channels: int = 2) -> float:
    """tiled g(x) = g(x), in chunks too, for a g that sees its own cell and group alone.

    g takes means of cells (encode) and repeats them (decode): the weights of blended tiles must sum to one, and each
    must stand in its place. `size` is that of a clip of several tiles: frames, height, width. Tolerance: TOLERANCE, for
    the weights are rounded.
    """
    x = random_clip(Signal(channels), *size)
    worst, z = 0.0, _shrunk(x, by)
    runs: tuple[tuple[Direction, Tensor], ...] = (("encode", x), ("decode", z))
    for direction, clip in runs:
        run = _shrunk if direction == "encode" else _grown
        plan = tile_plan(rule, direction, (clip.shape[2], clip.shape[3], clip.shape[4]), by)
        if plan.whole:
            raise LawError("blended", f"a clip of {size} passes in one tile to {direction}; take a larger one")
        found = in_tiles(lambda tile, place: run(tile, by), clip, plan)  # noqa: B023
        told = f"{direction} in {plan.tiles} tiles"
        worst = max(worst, near("blended", told, found, run(clip, by), TOLERANCE[clip.dtype], direction=direction))
    return worst


def _shrunk(x: Tensor, by: Compression) -> Tensor:
    """The mean of each cell in the last frame of each group; a lead stands for itself."""
    means = split_axis(split_axis(x, 4, -1, by.cell), 3, -1, by.cell).mean((4, 6))
    last = [*range(by.lead), *range(by.lead + by.group - 1, x.shape[2], by.group)]
    return means[:, :, last]


def _grown(z: Tensor, by: Compression) -> Tensor:
    """Every cell as often as it has pixels and frames."""
    z = z.repeat_interleave(by.cell, 3).repeat_interleave(by.cell, 4)
    return torch.cat([z[:, :, : by.lead], z[:, :, by.lead :].repeat_interleave(by.group, 2)], 2)


def check_units(by: Compression) -> float:
    """cells(pixels(n)) = n, positions(frames(n)) = n, pixels(n) = cell n, frames(n) = lead + group (n - lead).

    Where another unit is meant, or none is said, it is refused. No tolerance: all are integers.
    """
    for count in range(by.lead, by.lead + 4):
        pixels, frames = by.pixels(Cells(count)), by.frames(Positions(count))
        want = (count * by.cell, by.lead + (count - by.lead) * by.group)
        if (int(pixels), int(frames)) != want or by.cells(pixels) != Cells(count):
            raise LawError("units", f"{count} cells and positions are {pixels} and {frames}, not {want}")
        if by.positions(frames) != Positions(count):
            raise LawError("units", f"{frames} are {by.positions(frames)}, not {count}")
    mixtures: dict[str, Callable[[], object]] = {
        "pixels + cells": lambda: Pixels(8) + Cells(1),
        "pixels < cells": lambda: Pixels(8) < Cells(9),
        "pixels == cells": lambda: Pixels(8) == Cells(8),
        "cells of cells": lambda: by.cells(Cells(1)),  # type: ignore[arg-type]
        "pixels of frames": lambda: by.pixels(Frames(1)),  # type: ignore[arg-type]
        "a tile in cells": lambda: by.expect(Cells(1), Pixels, "tile"),
        "a tile without a unit": lambda: by.expect(8, Pixels, "tile"),
    }
    for told, mixed in mixtures.items():
        try:
            mixed()
        except TileError:
            continue
        raise LawError("units", f"{told} passes, though the units are mixed", mixture=told)
    return float(len(mixtures))
