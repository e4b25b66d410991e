"""What a run leaves to look at: a line for each step, curves, pictures of held-out clips."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vvae.colours import INK

FEW = 12
"""Curves in a figure at most."""
POINTS = 100
"""Of a curve at least, once it has so many, and less than twice as many."""


class Curve:
    """Values over steps in bounded memory, however many: points are means over `run` neighbours."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.run = 1
        self.lowest, self.highest = math.inf, -math.inf
        self._count, self._steps, self._values = 0, 0.0, 0.0

    def add(self, step: float, value: float) -> None:
        """The next value."""
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
        self._count, self._steps, self._values = self._count + 1, self._steps + step, self._values + value
        if self._count == self.run:
            self.points.append((self._steps / self.run, self._values / self.run))
            self._count, self._steps, self._values = 0, 0.0, 0.0
        if len(self.points) == 2 * POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [((a + b) / 2, (u + v) / 2) for (a, u), (b, v) in pairs]
            self.run *= 2


class Journal:
    """`log.jsonl` of a run: one line for each step. Lines behind the step from which the run goes on are cut off.

    In memory are its curves, by name, and the `last` losses: the file, which may be long, is read once.
    """

    def __init__(self, folder: Path, step: int, last: int = 1) -> None:
        self.file = folder / "log.jsonl"
        self.curves: dict[str, Curve] = {}
        self.losses: deque[float] = deque(maxlen=last)
        self.file.touch()
        part = self.file.with_suffix(".part")
        with self.file.open() as lines, part.open("w") as kept:
            for line in lines:
                row = _row(line)
                if row is not None and row["step"] < step:
                    kept.write(f"{line.rstrip()}\n")
                    self._remember(row)
        part.replace(self.file)

    def write(self, **row: Any) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self._remember(row)

    def _remember(self, row: Mapping[str, Any]) -> None:
        self.losses.append(row["loss"])
        for name, value in {"loss": row["loss"], "gradient": row["gradient"], **row["values"]}.items():
            curve = self.curves.setdefault(name, Curve())
            if math.isfinite(value):
                curve.add(row["step"], value)


def _row(line: str) -> dict[str, Any] | None:
    """A line as it was written; None where a kill has cut it."""
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row


def draw_curves(curves: Mapping[str, Curve], file: Path) -> None:
    """The first curves of a run, one above the other, over the step."""
    from matplotlib.figure import Figure

    drawn = dict(islice(curves.items(), FEW))
    figure = Figure(figsize=(8, 1.5 * len(drawn) + 0.4), layout="constrained")
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, curve) in zip(axes, drawn.items(), strict=True):
        axis.plot(*np.array(curve.points).reshape(-1, 2).T, color=INK, linewidth=1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.grid(alpha=0.3)
        if curve.lowest > 0 and curve.highest > 20 * curve.lowest:
            axis.set_yscale("log")
    axes[-1].set_xlabel("step")
    figure.savefig(file, dpi=100)


def draw_clips(source: Tensor, result: Tensor, file: Path, gain: float = 4.0) -> None:
    """Frames of one clip `3 t h w` in [-1, 1], the result below them, below it the error times `gain` around grey."""
    draw_rows([source, result.clamp(-1, 1), ((result - source) * gain / 2).clamp(-1, 1)], file)


def draw_rows(clips: Sequence[Tensor], file: Path) -> None:
    """A row for each clip `3 t h w` in [-1, 1], all of one size: six of its frames at most."""
    from PIL import Image

    frames = clips[0].shape[1]
    picked = np.linspace(0, frames - 1, min(6, frames)).round().astype(int)
    pixels = [np.concatenate([_bytes(clip[:, t]) for t in picked], 1) for clip in clips]
    Image.fromarray(np.concatenate(pixels, 0)).save(file)


def _bytes(frame: Tensor) -> Any:
    return ((frame.permute(1, 2, 0).double().cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
