"""Figures as Reducio-VAE's code takes them, so that those it publishes can be compared."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5


def psnr(source: Tensor, result: Tensor) -> Tensor:
    """PSNR in dB, the mean over frames: `n c h w` in [0, 1] twice -> a number. 1e-8 is added to each frame's error.

    Source: `compute_psnr` of `ldm/util.py`.
    """
    error = (source - result).square().flatten(1).mean(1)
    return (-10 * torch.log10(error + 1e-8)).mean()


def ssim(source: Tensor, result: Tensor) -> Tensor:
    """SSIM, the mean over frames: `n c h w` in [0, 1] twice -> a number.

    Large frames are made smaller first, to about 256 on the smaller side, by means of cells; the window of 11 x 11 lies
    inside the frame at every place. Source: `compute_ssim` of `ldm/util.py`.
    """
    factor = max(1, round(min(source.shape[2:]) / 256))
    a, b = (F.avg_pool2d(x, factor) for x in (source, result))
    mean_a, mean_b = _smoothed(a), _smoothed(b)
    spread_a, spread_b = _smoothed(a * a) - mean_a**2, _smoothed(b * b) - mean_b**2
    shared = _smoothed(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return (light * (2 * shared + 0.03**2) / (spread_a + spread_b + 0.03**2)).mean()


def _smoothed(x: Tensor) -> Tensor:
    """A Gaussian mean around every pixel that has a whole window."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, WINDOW)
    rows = F.conv2d(x, weights[:, :, :, None], groups=x.shape[1])
    return F.conv2d(rows, weights[:, :, None], groups=x.shape[1])
