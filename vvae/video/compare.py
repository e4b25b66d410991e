"""What tiles that are not exact make of a clip, beside what the whole clip gives: frame by frame, in figures."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vvae.tiling import Axis, PublishedTiling, TilePlan
from vvae.video.metrics import PSNR_OF_EQUALS
from vvae.video.pictures import amplified_error

Seams = dict[int, int]
"""Where a tile ends and the next one begins, and the pixels from there over which it fades in."""


class Comparison:
    """Takes the frames of both, and keeps what is known of their difference; memory does not grow with the clip.

    `size`: height and width of the frames. At seams are the pixels that fade from one tile into the next, and a cell on
    both sides of a border.
    """

    def __init__(self, tiling: PublishedTiling, size: tuple[int, int]) -> None:
        self.tiling, self.size = tiling, size
        self.greatest: list[float] = []
        self._squares = torch.zeros(size, dtype=torch.float64)
        self._worst: tuple[float, Tensor] = (-1.0, torch.empty(0))

    def add(self, whole: Tensor, tiled: Tensor) -> None:
        """The next frame of both, `1 3 1 h w` in [-1, 1]."""
        gap = (whole - tiled).double()
        self._squares += gap[0, :, 0].square().mean(0).cpu()
        self.greatest.append(float(gap.abs().max()))
        if self.greatest[-1] > self._worst[0]:
            self._worst = self.greatest[-1], torch.cat([whole, tiled, amplified_error(whole, tiled)], 4)

    def draw(self, path: Path) -> None:
        """A PNG of the frame that differs most: whole, in tiles, and the amplified difference, side by side."""
        pixels = self._worst[1][0, :, 0].float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(path)

    @property
    def figures(self) -> dict[str, Any]:
        """PSNR of tiles against the whole in dB, data range 2; differences are absolute maxima; None: there is none."""
        encode, decode = self._plans()
        cell, (height, width) = int(self.tiling.model.spec.latents.stride), self.size
        rows, columns = (
            _meet(encode.rows, decode.rows, cell, height),
            _meet(encode.columns, decode.columns, cell, width),
        )
        at_seam = _near(rows, cell, height)[:, None] | _near(columns, cell, width)
        return {
            "psnr": self._psnr(torch.ones_like(at_seam)),
            "psnr_at_seams": self._psnr(at_seam),
            "psnr_inside": self._psnr(~at_seam),
            "greatest_difference": max(self.greatest),
            "seams": {"rows": sorted(rows), "columns": sorted(columns)},
            "chunk_borders": self._chunk_borders(encode.time, decode.time),
        }

    def _plans(self) -> tuple[TilePlan, TilePlan]:
        """The tiles that the encoder read, and those of the decoder."""
        spec, frames = self.tiling.model.spec, len(self.greatest)
        _, positions, rows, columns = spec.latent_shape(frames, *self.size)
        clip = (spec.filled_frames(frames), *spec.filled_size(*self.size))
        return self.tiling.plan("encode", clip), self.tiling.plan("decode", (positions, rows, columns))

    def _psnr(self, where: Tensor) -> float | None:
        if not where.any():
            return None
        error = float(self._squares[where].mean()) / len(self.greatest) / 4
        return round(-10 * math.log10(max(error, 10 ** (-PSNR_OF_EQUALS / 10))), 4)

    def _chunk_borders(self, encode: Axis | None, decode: Axis | None) -> list[dict[str, Any]]:
        """The first frame of each later chunk, and the greatest difference from the frame before it to where it has
        faded in.
        """
        frames = self.tiling.model.spec.decoded_frames
        found = {frames(border): 1 for border in encode.borders} if encode else {}
        found.update({span.at: max(span.fade, 1) for span in decode.spans[1:]} if decode else {})
        return [
            {"frame": border, "greatest_difference": max(self.greatest[max(border - 1, 0) : border + fade])}
            for border, fade in sorted(found.items())
            if border < len(self.greatest)
        ]


def _meet(encode: Axis, decode: Axis, cell: int, side: int) -> Seams:
    """The seams along one side, in pixels: those of the encoder's tiles, and those of the decoder's."""
    in_cells = ((span.at * cell, span.fade * cell) for span in encode.spans[1:])
    found: Seams = {}
    for border, fade in chain(in_cells, ((span.at, span.fade) for span in decode.spans[1:])):
        if border < side:
            found[border] = max(fade, found.get(border, 0))
    return found


def _near(seams: Seams, cell: int, side: int) -> Tensor:
    """Which pixels of a side are at a seam."""
    near = torch.zeros(side, dtype=torch.bool)
    for border, fade in seams.items():
        near[max(border - cell, 0) : border + max(fade, cell)] = True
    return near
