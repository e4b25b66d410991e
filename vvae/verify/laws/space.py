"""Laws of space, of sizes and of what a layer costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vvae.cost import flops
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.clips import random_clip
from vvae.verify.findings import LawError, difference
from vvae.verify.measure import Run, measured, tensor_of


def check_traced(spec: LayerSpec, signal: Signal, sizes: Sequence[tuple[int, int, int]]) -> float:
    """What trace accepts builds; shape of f(x), parameters, FLOPs = those counted without numbers, at each size.

    `sizes` are frames, height and width of the clips. No tolerance: all are integers. Returns the parameters.
    """
    out, module = spec.trace(signal), spec.build(signal).double()
    with torch.device("meta"):
        sketch = spec.build(signal).double()
    counted = {name: tuple(tensor.shape) for name, tensor in sketch.state_dict().items()}
    if counted != (found := {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}):
        raise LawError("traced", f"parameters {sorted(counted.items() ^ found.items())[:4]} differ from those counted")
    for frames, height, width in sizes:
        x = random_clip(signal, frames, height, width)
        given: list[Tensor] = []
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # torch counts no fused attention
            done = flops(lambda: given.append(module(x))).get("Global", 0)  # noqa: B023
            told = flops(lambda: sketch(x.to("meta"))).get("Global", 0)  # noqa: B023
        ratio = signal.stride / out.stride
        want = (1, out.channels, spec.frames(signal, frames), int(height * ratio), int(width * ratio))
        size = f"{frames} x {height} x {width}"
        if (shape := tuple(given[0].shape)) != want:
            raise LawError("traced", f"traced {want} for {size}, but {shape} came out")
        if (rows := spec.reach(signal, frames).shape) != (want[2], frames):
            raise LawError("traced", f"reach has shape {rows} for {want[2]} frames out of {frames}")
        if told != done:
            raise LawError("traced", f"{told} FLOPs counted for {size}, {done} were done")
    return float(sum(parameter.numel() for parameter in module.parameters()))


def check_halo(run: Run, halo: Fraction, x: Tensor, ratio: Fraction) -> float:
    """df(x)[row r] / dx[row s] = 0 wherever all of s is more than `halo` cells outside of what r covers; columns alike.

    `ratio`: cells of the input per cell of the output, stride out / stride in. No tolerance. Returns the largest number
    of cells seen beyond the own ones; the declared halo is an upper bound.
    """
    worst = Fraction(0)
    axes: tuple[Literal["height", "width"], ...] = ("height", "width")
    for axis in axes:
        seen = measured(run, x, axis, "gradients")
        for row in range(len(seen)):
            if not len(cells := np.flatnonzero(seen[row])):
                continue
            before, after = row * ratio - int(cells[0]), int(cells[-1]) + 1 - (row + 1) * ratio
            if max(before, after) >= halo + 1:  # a cell of which a part lies inside may be seen
                told = f"{axis}: output {row} sees {float(max(before, after)):g} cells around, declared {float(halo):g}"
                raise LawError("halo", told, figure=float(max(before, after)), axis=axis, output=row)
            worst = max(worst, before, after)
    return float(worst)


def check_tiled(whole: Callable[[], Tensor], tiled: Callable[[], Tensor], *, limit: float) -> float:
    """|tiled f(x) - f(x)| <= limit max|f(x)|, at sizes where there are several tiles.

    Tolerance: `limit`, that of chunks (TOLERANCE) where a plan is declared exact; math.inf measures the excess of one
    that is not.
    """
    with torch.no_grad():
        want, found = tensor_of(whole()), tensor_of(tiled())
    if found.shape != want.shape:
        raise LawError("tiled", f"{tuple(found.shape)} came out in tiles, {tuple(want.shape)} whole")
    error = difference(found, want)
    if not error <= limit:
        told = f"tiles differ from the whole by {error:.1e} of the largest value (allowed {limit:.0e})"
        raise LawError("tiled", told, figure=error, **_where(found, want))
    return error


def _where(found: Tensor, want: Tensor) -> dict[str, int]:
    """The frame, row and column that differ most."""
    gap = (found - want).abs().amax((0, 1))
    flat = int(gap.argmax())
    return dict(zip(("frame", "row", "column"), (int(i) for i in np.unravel_index(flat, gap.shape)), strict=True))
