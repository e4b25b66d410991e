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
    error = (result.float().clamp(-1, 1) - source.float().clamp(-1, 1)) * (255 / 2)
    return error.diff(dim=2).abs().mean(dim=(1, 3, 4), dtype=torch.float64).float()


def _frames(video: torch.Tensor) -> torch.Tensor:
    """`b 3 t h w` in [-1, 1] -> `(b t) 3 h w` in [0, 1].

    Channels lie last: the window's convolution gives the same bits two to three times as fast.
    """
    frames = video.float().clamp(-1, 1).add(1).div(2).transpose(1, 2).flatten(0, 1)
    return frames.contiguous(memory_format=torch.channels_last)
