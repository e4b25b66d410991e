"""The figures of a clip, frame by frame, in whatever chunks it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vvae.video import metrics

PerFrame = dict[str, tuple[float | None, ...]]
Lpips = Callable[[Tensor, Tensor], Tensor]
"""From clips `b c t h w` in [-1, 1], source and result, to a distance of each frame, `b 1 t 1 1`, as LPIPS does it."""


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


class Meter:
    """Takes a clip in chunks; `per_frame` is the same for every way to cut it. Keeps one frame of the past."""

    def __init__(self, lpips: Lpips | None = None) -> None:
        self.lpips = lpips
        self._found: dict[str, list[float | None]] = {"psnr": [], "ssim": [], "flicker": []}
        if lpips is not None:
            self._found["lpips"] = []
        self._before: tuple[Tensor, Tensor] | None = None

    def add(self, source: Tensor, result: Tensor) -> None:
        """The next frames of a clip, `1 3 t h w` in [-1, 1] twice, t >= 1."""
        self._found["psnr"] += metrics.psnr(source, result)[0].tolist()
        self._found["ssim"] += metrics.ssim(source, result)[0].tolist()
        if self.lpips is not None:
            self._found["lpips"] += self.lpips(source.clamp(-1, 1), result.clamp(-1, 1)).flatten().tolist()
        before = self._before or (source[:, :, :0], result[:, :, :0])
        changes = metrics.flicker(*(torch.cat(pair, 2) for pair in zip(before, (source, result), strict=True)))
        self._found["flicker"] += [*([None] if self._before is None else []), *changes[0].tolist()]
        self._before = source[:, :, -1:].clone(), result[:, :, -1:].clone()

    @property
    def per_frame(self) -> PerFrame:
        """Metric -> a figure for each frame; the first frame has no flicker."""
        return {name: tuple(values) for name, values in self._found.items()}
