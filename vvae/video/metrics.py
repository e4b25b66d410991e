"""What a reconstruction is worth, frame by frame."""

from __future__ import annotations

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

PSNR_OF_EQUALS = 100.0  # dB; equal frames would give infinity, which neither a mean nor JSON can hold
SMALLEST_SIDE = 11  # pixels: the window of SSIM


def psnr(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of each frame: `b 3 t h w` in [-1, 1] twice -> `b t`, at most `PSNR_OF_EQUALS`.

    The mean squared error is taken over a frame's pixels and channels, of the clamped and unrounded values; the data
    range is 2, so 8 bit pictures scaled to [-1, 1] give the figure of the 8 bit pictures.
    """
    difference = source.float().clamp(-1, 1) - result.float().clamp(-1, 1)
    error = difference.square().mean(dim=(1, 3, 4), dtype=torch.float64) / 4
    return (-10 * torch.log10(error.clamp(min=10 ** (-PSNR_OF_EQUALS / 10)))).float()


def ssim(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """SSIM of each frame: `b 3 t h w` in [-1, 1] twice -> `b t`, 1 for equal frames; sides of at least 11 pixels.

    Gaussian window of sigma 1.5, mean over channels. SSIM compares brightness as a ratio, so values go to [0, 1] first.
    """
    a, b = (_frames(x) for x in (source, result))
    value = structural_similarity_index_measure(b, a, sigma=1.5, data_range=1.0, reduction="none")
    assert isinstance(value, torch.Tensor)
    return value.reshape(source.shape[0], source.shape[2])


def flicker(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """How much the error changes from each frame to the next: `b 3 t h w` in [-1, 1] twice -> `b t-1`, of 255 levels.

    The mean over pixels and channels of |e(t) - e(t-1)|, e the result less the source, both clamped: 0 where the error
    stands still, however great it is.
    """
    return _error(source, result).diff(dim=2).abs().mean(dim=(1, 3, 4), dtype=torch.float64).float()


def shift(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """How far each channel of each frame lies off: `b 3 t h w` in [-1, 1] twice -> `b t 3`, of 255 levels.

    The mean over pixels of the result less the source, both clamped, in float64.
    """
    return _error(source, result).mean(dim=(3, 4), dtype=torch.float64).transpose(1, 2)


def border_errors(source: torch.Tensor, result: torch.Tensor, cell: int) -> torch.Tensor | None:
    """Whether the error forms a grid: `b 3 t h w` in [-1, 1] twice -> `b t 2`, of squared 255 levels, in float64.

    The mean squared error of the pixels next to a border between cells of `cell` x `cell` pixels, and of all others.
    The outermost cells are left out: there half of every neighbourhood is missing. None where no pixel is of one of
    the two kinds, as in cells of two pixels.
    """
    errors = _error(source, result)[..., cell:-cell, cell:-cell].square().mean(dim=1, dtype=torch.float64)
    places = (torch.arange(side, device=errors.device) % cell for side in errors.shape[2:])
    row, column = ((place == 0) | (place == cell - 1) for place in places)
    border = row[:, None] | column[None]
    if border.all() or not border.any():
        return None
    return torch.stack([errors[..., border].mean(-1), errors[..., ~border].mean(-1)], dim=-1)


def _error(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """The clamped result less the clamped source, of 255 levels."""
    return (result.float().clamp(-1, 1) - source.float().clamp(-1, 1)) * (255 / 2)


def _frames(video: torch.Tensor) -> torch.Tensor:
    """`b 3 t h w` in [-1, 1] -> `(b t) 3 h w` in [0, 1].

    Channels lie last: the window's convolution gives the same bits two to three times as fast.
    """
    frames = video.float().clamp(-1, 1).add(1).div(2).transpose(1, 2).flatten(0, 1)
    return frames.contiguous(memory_format=torch.channels_last)
