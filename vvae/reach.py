"""Dependency in time as boolean matrices, rows: frames that come out, columns: frames that went in. No torch here.

Layers one after the other are a boolean matrix product, branches side by side are an OR.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvae.signal import Signal

Reach: TypeAlias = NDArray[np.bool_]


def same_frame(frames: int) -> Reach:
    """Every frame sees itself alone."""
    return np.eye(frames, dtype=np.bool_)


def whole_clip(frames: int) -> Reach:
    """Every frame sees every frame."""
    return np.ones((frames, frames), dtype=np.bool_)


def then(first: Reach, second: Reach) -> Reach:
    """`second` reads what `first` gives."""
    # float32 counts are exact below 2**24 frames, and BLAS multiplies them much faster than numpy multiplies booleans
    return np.asarray(second.astype(np.float32) @ first.astype(np.float32) > 0.5)


def union(reaches: Iterable[Reach]) -> Reach:
    """Branches that read the same frames and meet again."""
    return reduce(np.logical_or, reaches)


def window(frames: int, *, before: int, after: int, every: int = 1, start: int = 0) -> Reach:
    """From `start` on every `every`-th frame sees `before` frames back and `after` frames ahead."""
    centre = np.arange(start, frames, every)[:, None]
    offset = np.arange(frames)[None, :] - centre
    return np.asarray((offset >= -before) & (offset <= after))


def group_numbers(frames: int, lead: int, group: int) -> NDArray[np.int64]:
    """The group of each frame; lead frames are in group -1."""
    return np.where(np.arange(frames) < lead, -1, (np.arange(frames) - lead) // group)


def group_causal(frames: int, lead: int, group: int, *, before: int, after: int) -> Reach:
    """A frame sees `before` frames back, and `after` frames ahead as far as they are of its own group."""
    number = group_numbers(frames, lead, group)
    ahead = window(frames, before=0, after=after) & (number[:, None] == number[None, :])
    seen: Reach = window(frames, before=before, after=0) | ahead
    return seen


def groups_around(matrix: Reach, given: Signal, read: Signal) -> tuple[int, int]:
    """The most groups that a frame sees before its own and after it; rows are frames of `given`, columns of `read`."""
    out, seen = np.nonzero(matrix)
    own, other = (group_numbers(n, s.lead, s.group) for n, s in zip(matrix.shape, (given, read), strict=True))
    apart = other[seen] - own[out]
    return int((-apart).max(initial=0)), int(apart.max(initial=0))


def is_same_frame(matrix: Reach) -> bool:
    """Whether every frame sees itself alone."""
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, same_frame(len(matrix)))


def fold(frames: int, factor: int, seen: int | None = None) -> Reach:
    """Every `factor` frames become one, which sees the first `seen` of them (all by default)."""
    row = np.arange(factor)[None, :] < (factor if seen is None else seen)
    return np.asarray(np.kron(np.eye(frames // factor, dtype=np.bool_), row))


def unfold(frames: int, factor: int) -> Reach:
    """Every frame becomes `factor` frames."""
    return np.repeat(same_frame(frames), factor, axis=0)


def beside(first: Reach, rest: Reach) -> Reach:
    """The first frames and the rest of the clip, neither of which sees the other."""
    rows, columns = first.shape
    out = np.zeros((rows + rest.shape[0], columns + rest.shape[1]), dtype=np.bool_)
    out[:rows, :columns] = first
    out[rows:, columns:] = rest
    return out
