"""What a model is judged by on clips that no training saw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.video.metrics import psnr

CELL = 8


@dataclass(frozen=True)
class Figures:
    """PSNR in dB (peak 1), mean over frames and clips; `positions` the same for each frame of a group, first the lead.

    `border` is the error energy of pixels next to an 8-pixel border over that of the others; `colour` the largest
    mean shift of a channel, of 255 levels.
    """

    psnr: float
    lead: float
    positions: tuple[float, ...]
    border: float
    colour: float

    @property
    def spread(self) -> float:
        """Largest less smallest PSNR over the positions of a group, in dB."""
        return max(self.positions) - min(self.positions)

    def __str__(self) -> str:
        positions = " ".join(f"{value:.2f}" for value in self.positions)
        return (
            f"{self.psnr:.2f} dB (lead {self.lead:.2f}, positions {positions}), "
            f"borders {self.border:.3f}, colour {self.colour:.2f}"
        )


@torch.no_grad()
def judge(model: VideoAutoencoder, clips: Tensor) -> Figures:
    """The figures of a model on clips `n 3 t h w` in [-1, 1], t = lead + whole groups."""
    group = model.spec.framing.group
    results = torch.cat([model.decode(model.encode(clip[None])) for clip in clips])
    each = psnr(clips, results)
    errors = (results.clamp(-1, 1) - clips) / 2
    positions = each[:, 1:].unflatten(1, (-1, group)).mean(dim=(0, 1))
    return Figures(
        psnr=each.mean().item(),
        lead=each[:, 0].mean().item(),
        positions=tuple(positions.tolist()),
        border=border_ratio(errors),
        colour=255 * errors.mean(dim=(0, 2, 3, 4)).abs().max().item(),
    )


def border_ratio(errors: Tensor) -> float:
    """Mean squared error of the pixels next to a border between 8 x 8 cells, over that of all others.

    The picture's own rim, where half of every neighbourhood is missing, is left out.
    """
    inner = errors[..., CELL:-CELL, CELL:-CELL].square().mean(dim=(0, 1, 2))
    row, column = (torch.arange(side) % CELL % (CELL - 1) == 0 for side in inner.shape)
    border = row[:, None] | column[None]
    return (inner[border].mean() / inner[~border].mean()).item()
