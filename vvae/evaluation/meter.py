"""The figures of a clip, frame by frame, in whatever chunks it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from pydantic import computed_field
from torch import Tensor

from vvae.bench.figures import Figure
from vvae.video import metrics

PerFrame = dict[str, tuple[float | None, ...]]
Measure = Callable[[Tensor, Tensor], Tensor]
"""From clips `1 3 t h w` in [-1, 1], source and result, to a number for each frame, in any shape."""
MEASURES: Mapping[str, Measure] = MappingProxyType({"psnr": metrics.psnr, "ssim": metrics.ssim})
"""What is always measured of each frame alone."""


class Metric(NamedTuple):
    """How a metric is called and written. sign: 1 where more is better, -1 where less is."""

    title: str
    unit: str
    digits: int
    sign: int


METRICS = {
    "psnr": Metric("PSNR", "dB", 2, 1),
    "ssim": Metric("SSIM", "", 4, 1),
    "lpips": Metric("LPIPS", "", 4, -1),
    "flicker": Metric("flicker", "of 255", 3, -1),
}


class Systematic(Figure):
    """What errors have in common, which no figure of a frame shows.

    shift: the mean error of each channel, of 255 levels. at_borders, elsewhere: the mean squared error of pixels next
    to a border between latent cells, and of all others; None where the subject has no cells, or the clip is too small.
    """

    shift: tuple[float, ...]
    at_borders: float | None
    elsewhere: float | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def borders(self) -> float | None:
        """How much greater the squared error is at borders: 1 where no grid is seen; None where none could be."""
        return self.at_borders / self.elsewhere if self.at_borders is not None and self.elsewhere else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def colour(self) -> float:
        """The colour cast: the largest shift of a channel, of 255 levels."""
        return max(map(abs, self.shift))


class Meter:
    """Takes a clip in chunks; what it finds is the same for every way to cut it. Keeps one frame of the past.

    cell: side of a latent cell in pixels, None where there is none. measures: what is taken of each frame alone.
    """

    def __init__(self, cell: int | None = None, measures: Mapping[str, Measure] = MEASURES) -> None:
        self.cell, self.measures = cell, measures
        self._found: dict[str, list[float | None]] = {name: [] for name in (*measures, "flicker")}
        self._before: tuple[Tensor, Tensor] | None = None
        self._shift = torch.zeros(3, dtype=torch.float64)  # sums over frames, as the next
        self._borders: Tensor | None = None

    def add(self, source: Tensor, result: Tensor) -> None:
        """The next frames of a clip, `1 3 t h w` in [-1, 1] twice, t >= 1."""
        source, result = source.clamp(-1, 1), result.clamp(-1, 1)
        for name, measure in self.measures.items():
            self._found[name] += measure(source, result).flatten().tolist()
        self._add_changes(source, result)
        self._shift += metrics.shift(source, result)[0].sum(0).cpu()
        errors = None if self.cell is None else metrics.border_errors(source, result, self.cell)
        if errors is not None:
            self._borders = errors[0].sum(0).cpu() + (0 if self._borders is None else self._borders)

    def _add_changes(self, source: Tensor, result: Tensor) -> None:
        before = self._before or (source[:, :, :0], result[:, :, :0])
        changes = metrics.flicker(*(torch.cat(pair, 2) for pair in zip(before, (source, result), strict=True)))
        self._found["flicker"] += [*([None] if self._before is None else []), *changes[0].tolist()]
        self._before = source[:, :, -1:].clone(), result[:, :, -1:].clone()

    @property
    def per_frame(self) -> PerFrame:
        """Metric -> a figure for each frame; the first frame has no flicker."""
        return {name: tuple(values) for name, values in self._found.items()}

    @property
    def frames(self) -> int:
        """Frames so far."""
        return len(self._found["flicker"])

    @property
    def systematic(self) -> Systematic:
        """Means over all frames so far, of which there must be one."""
        at_borders, elsewhere = (None, None) if self._borders is None else (self._borders / self.frames).tolist()
        shift = (self._shift / self.frames).tolist()
        return Systematic(shift=shift, at_borders=at_borders, elsewhere=elsewhere)
