"""What the published code does with tiles, written down loop by loop, and functions to run under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vvae.tiling import TilePlan, Tiles, TimeTiles, laid_out
from vvae.tiling.blend import Chunks
from vvae.tiling.layout import time_axis
from vvae.tiling.rules import Direction
from vvae.tiling.tiles import Run as TiledRun

Run = Callable[[Tensor], Tensor]


def encode_cells(x: Tensor, cell: int, group: int = 1, lead: int = 0) -> Tensor:
    """Means of cells; the lead's frames, then the last frame of each group, whole or not. No tile sees another's."""
    rows, columns = x.shape[3] // cell, x.shape[4] // cell
    whole = x[..., : rows * cell, : columns * cell]
    pooled = whole.unflatten(4, (columns, cell)).unflatten(3, (rows, cell)).mean((4, 6))
    frames = [*range(lead), *range(lead + group - 1, pooled.shape[2], group)]
    return pooled[:, :, frames]


def decode_cells(z: Tensor, cell: int, group: int = 1, lead: int = 0) -> Tensor:
    """Every cell as often as it has pixels and frames."""
    z = z.repeat_interleave(cell, 3).repeat_interleave(cell, 4)
    return torch.cat([z[:, :, :lead], z[:, :, lead:].repeat_interleave(group, 2)], 2)


def seeing_the_tile(run: Run) -> Run:
    """What `run` gives, shifted by what the whole tile holds, and by where in the tile it stands."""

    def shifted(x: Tensor) -> Tensor:
        out = run(x)
        place = torch.arange(out[0, 0].numel(), dtype=out.dtype).view(out.shape[2:])
        return out + x.mean() + 0.1 * torch.sin(place)

    return shifted


def blend(above: Tensor, below: Tensor, extent: int, axis: int) -> Tensor:
    """In place, row by row."""
    extent = min(extent, above.shape[axis], below.shape[axis])
    for y in range(extent):
        old = above.select(axis, above.shape[axis] - extent + y)
        below.select(axis, y).copy_(old * (1 - y / extent) + below.select(axis, y) * (y / extent))
    return below


def tiles(run: Run, x: Tensor, window: int, stride: int, extent: int, limit: int) -> Tensor:
    rows = [
        [run(x[..., i : i + window, j : j + window]).clone() for j in range(0, x.shape[4], stride)]
        for i in range(0, x.shape[3], stride)
    ]
    joined = []
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if i:
                blend(rows[i - 1][j], tile, extent, 3)
            if j:
                blend(row[j - 1], tile, extent, 4)
        joined.append(torch.cat([tile[..., :limit, :limit] for tile in row], 4))
    return torch.cat(joined, 3)


def chunk_bounds(frames: int, window: int) -> list[list[int]]:
    """The chunks of a release that lets each begin with the last frame of the one before."""
    starts = list(range(0, frames, window - 1))
    if len(starts) == 1:
        return [[0, frames]]
    bounds = [[starts[i], starts[i + 1] + 1] for i in range(len(starts) - 1)]
    if bounds[-1][-1] > frames:
        bounds[-1][-1] = frames
    elif bounds[-1][-1] < frames:
        bounds.append([starts[-1], frames])
    return bounds


def chunks(run: Run, x: Tensor, window: int) -> Tensor:
    parts = [run(x[:, :, start:end]) for start, end in chunk_bounds(x.shape[2], window)]
    return torch.cat([part if i == 0 else part[:, :, 1:] for i, part in enumerate(parts)], 2)


def mean_of_slices(run: Run, z: Tensor, window: int, overlap: int, group: int) -> Tensor:
    stride = window - overlap
    parts, start = [run(z[:, :, :window])], stride
    while start - stride + window < z.shape[2]:
        parts.append(run(z[:, :, start : start + window]))
        start += stride
    if not overlap:
        return torch.cat(parts, 2)
    frames = (len(parts) - 1) * stride * group + parts[-1].shape[2]
    total = torch.zeros(*parts[0].shape[:2], frames, *parts[0].shape[3:], dtype=z.dtype)
    count = torch.zeros(frames, dtype=z.dtype)
    for k, part in enumerate(parts):
        for frame in range(part.shape[2]):
            total[:, :, k * stride * group + frame] += part[:, :, frame]
            count[k * stride * group + frame] += 1
    return total / count[:, None, None]


def planned(rule: Tiles, x: Tensor, direction: Direction, cell: int, group: int = 1, lead: int = 0) -> TilePlan:
    """The plan for the functions above; they drop what is left over of a cell or a group."""
    if direction == "encode":
        in_time, in_space = (lambda n: lead + (n - lead) // group), (lambda n: n // cell)
    else:
        in_time, in_space = (lambda n: lead + (n - lead) * group), (lambda n: n * cell)
    return laid_out(rule, (x.shape[2], x.shape[3], x.shape[4]), (in_time, in_space, in_space))


def in_place(run: Run) -> TiledRun:
    """A function that does not ask where a tile stands."""
    return lambda tile, place: run(tile)


def joined(chunks: Sequence[Tensor], rule: TimeTiles) -> Tensor:
    """Chunks of equal length as one clip."""
    frames = (len(chunks) - 1) * (rule.window - rule.overlap) + rule.window
    joint = Chunks(time_axis(rule, frames, lambda n: n))
    return torch.cat([joint.add(chunk) for chunk in chunks], 2)
