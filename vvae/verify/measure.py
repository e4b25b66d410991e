"""Reach, measured: which frames, rows and columns of what comes out depend on which of what goes in.

Anything that maps `b c t h w` to `b c t h w` can be measured, or to what diffusers gives: an object with `latent_dist`,
`sample` or `mean`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vvae.errors import VvaeError
from vvae.reach import Reach
from vvae.verify.clips import unrelated

Run: TypeAlias = Callable[[Tensor], Any]
AXES = {"time": 2, "height": 3, "width": 4}


class TargetError(VvaeError):
    """What is checked cannot be called, or gives back what is no clip."""


def tensor_of(given: Any) -> Tensor:
    """The tensor in what a model gives: itself, or mean, sample or mode of an object in the shape of diffusers.

    Raises:
        TargetError: there is none, or it is not `b c t h w`.
    """
    found = given[0] if isinstance(given, tuple | list) and given else given
    found = getattr(found, "latent_dist", found)
    for name in ("mean", "sample"):
        inside = getattr(found, name, None)
        if not isinstance(found, Tensor) and isinstance(inside, Tensor):
            found = inside
    if not isinstance(found, Tensor) and callable(mode := getattr(found, "mode", None)):
        found = mode()
    if not isinstance(found, Tensor) or found.ndim not in (4, 5) or not found.is_floating_point():
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TargetError(f"{what} came out; give what maps `b c t h w` to `b c t h w`, or to latent_dist or sample")
    return found


def measure_reach(
    run: Run,
    frames: int,
    *,
    channels: int = 3,
    size: tuple[int, int] = (16, 16),
    by: Literal["both", "exchange", "gradients"] = "both",
    seed: int = 0,
) -> Reach:
    """Who depends on whom in time: a boolean matrix, rows what comes out, columns the `frames` that went in.

    `run` (a module or any callable) is given float64 clips `1 c t h w` of normal noise. By exchange: a frame of the
    input is exchanged for unrelated content, and outputs that are not exactly the same depend on it. By gradients:
    outputs whose derivative is not zero do, which shows dependence that rounding hides from the exchange. Both: either.

    >>> measure_reach(lambda x: x.cumsum(2), 3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, frames, *size, generator=generator, dtype=torch.float64)
    return measured(run, x, "time", by)


def measure_field(
    run: Run,
    frames: int,
    *,
    channels: int = 3,
    size: tuple[int, int] = (32, 32),
    axis: Literal["height", "width"] = "height",
    by: Literal["both", "exchange", "gradients"] = "both",
    seed: int = 0,
) -> Reach:
    """The same in space: rows (or columns) of what comes out by those of what goes in, in pixels or cells.

    `receptive_field` of it is the number of pixels that one of them sees.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, frames, *size, generator=generator, dtype=torch.float64)
    return measured(run, x, axis, by)


def receptive_field(matrix: Reach) -> int:
    """The largest extent, from first to last, that one row of the matrix sees; borders see less than the middle."""
    return max((int(np.ptp(seen)) + 1 for row in matrix if len(seen := np.flatnonzero(row))), default=0)


def measured(run: Run, x: Tensor, axis: Literal["time", "height", "width"] = "time", by: str = "both") -> Reach:
    """The matrix along an axis for the clip x itself."""
    ways = {"exchange": _by_exchange, "gradients": _by_gradients}
    found = [way(run, x, AXES[axis]) for name, way in ways.items() if by in (name, "both")]
    return reduce(np.logical_or, found)


def _by_exchange(run: Run, x: Tensor, axis: int) -> Reach:
    with torch.no_grad():
        base = tensor_of(run(x))
        columns = []
        for number, other in enumerate(exchanged(x, axis)):
            given = tensor_of(run(other))
            if given.shape != base.shape:
                raise TargetError(f"{tuple(base.shape)} came out, then {tuple(given.shape)} for other content {number}")
            columns.append(along((given != base) & ~(given.isnan() & base.isnan()), axis))
    return np.stack(columns, 1)


def exchanged(x: Tensor, axis: int = 2) -> Iterator[Tensor]:
    """The clip with its first frame (row, column) exchanged for unrelated content, then with its second, ..."""
    other = unrelated(x)
    for index in range(x.shape[axis]):
        changed = x.clone()
        changed.select(axis, index).copy_(other.select(axis, index))
        yield changed


def _by_gradients(run: Run, x: Tensor, axis: int) -> Reach:
    leaf = x.detach().clone().requires_grad_()
    y = tensor_of(run(leaf))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(y)
    rows = [_seen_by(part, leaf, axis) for part in (y * weights).unbind(axis)]
    return np.stack(rows) if rows else np.zeros((0, x.shape[axis]), dtype=np.bool_)


def _seen_by(part: Tensor, leaf: Tensor, axis: int) -> Reach:
    if not part.requires_grad:
        return np.zeros(leaf.shape[axis], dtype=np.bool_)
    (gradient,) = torch.autograd.grad(part.sum(), leaf, retain_graph=True, allow_unused=True)
    return np.zeros(leaf.shape[axis], dtype=np.bool_) if gradient is None else along(gradient != 0, axis)


def along(flags: Tensor, axis: int) -> Reach:
    """Which places along an axis hold any."""
    found: Reach = flags.movedim(axis, 0).flatten(1).any(1).cpu().numpy()
    return found
