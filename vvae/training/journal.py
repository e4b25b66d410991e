"""What a run leaves to look at: a line for each step, curves, pictures of held-out clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vvae.colours import INK

FEW = 12
"""Curves in a figure at most."""


class Journal:
    """`log.jsonl` of a run: one line for each step. Lines behind the step from which the run goes on are cut off."""

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / "log.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        kept = [line for line in lines if _step(line) is not None and (_step(line) or 0) < step]
        part = self.file.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept))
        part.replace(self.file)

    def write(self, **row: Any) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


def _step(line: str) -> int | None:
    """The step of a line; None where a kill has cut it."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def draw_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """All curves of a run, one above the other, over the step; each point is a mean over neighbouring steps."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for row in rows for name in row.get("values", {})))[: FEW - 2]
    series = {"loss": _column(rows, "loss"), "gradient": _column(rows, "gradient")}
    series |= {name: _column([row.get("values", {}) | {"step": row["step"]} for row in rows], name) for name in names}
    figure = Figure(figsize=(8, 1.5 * len(series) + 0.4), layout="constrained")
    axes = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, (steps, values)) in zip(axes, series.items(), strict=True):
        axis.plot(*_thinned(steps, values), color=INK, linewidth=1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.grid(alpha=0.3)
        if values.size and values.min() > 0 and values.max() > 20 * values.min():
            axis.set_yscale("log")
    axes[-1].set_xlabel("step")
    figure.savefig(file, dpi=100)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Any, Any]:
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None and np.isfinite(row[name])]
    return np.array([step for step, _ in found]), np.array([value for _, value in found])


def _thinned(steps: Any, values: Any, most: int = 400) -> tuple[Any, Any]:
    """Means over runs of neighbours, so that a long run stays readable."""
    run = max(1, len(values) // most)
    whole = len(values) // run * run
    return steps[:whole].reshape(-1, run).mean(1), values[:whole].reshape(-1, run).mean(1)


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
