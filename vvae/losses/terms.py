"""Terms of a reconstruction loss as plain functions.

Clips and latents are `b c t h w`, clips in [-1, 1]. Unless its name or its text says otherwise, a function returns one
number, differentiable. Publications differ in what they sum and what they average: each docstring says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vvae.gaussian import DiagonalGaussian

# --------------------------------------------------------------------------- of pixels


def l1(source: Tensor, result: Tensor, positions: Sequence[float] = ()) -> Tensor:
    """Mean over all values of the absolute error; of frames weighted by `mean_by_position`."""
    return mean_by_position((source - result).abs(), positions)


def l2(source: Tensor, result: Tensor, positions: Sequence[float] = ()) -> Tensor:
    """Mean over all values of the squared error; of frames weighted by `mean_by_position`."""
    return mean_by_position((source - result).square(), positions)


def mean_by_position(values: Tensor, positions: Sequence[float] = ()) -> Tensor:
    """Mean over all values `b c t h w`, frames weighted: a first frame counts 1, those of each group after it as
    `positions` says, one weight for each. All count alike without them.
    """
    if not positions:
        return values.mean()
    groups = -(-(values.shape[2] - 1) // len(positions))
    weights = values.new_tensor([1.0, *positions] + [*positions] * (groups - 1))[: values.shape[2]]
    return (values.mean((0, 1, 3, 4)) * weights).sum() / weights.sum()


def nll_map(error: Tensor, logvar: Tensor) -> Tensor:
    """Negative log likelihood of each value, up to a constant: error / exp(logvar) + logvar, `logvar` one number.

    Source: `LPIPSWithDiscriminator` of latent diffusion (CompVis), and all that follow it. `error` is |x - y| or its
    square, plus a weight times LPIPS of the frame, which each of its values carries.
    """
    return error / logvar.exp() + logvar


def mean_over_frames(values: Tensor, frames: int | None = None) -> Tensor:
    """Sum over all values, divided by the number of frames, b t (given, where a map has lost its shape).

    The reduction of latent diffusion, OD-VAE, Open-Sora and TAE: a frame twice as large weighs four times as much, and
    LPIPS, which stands at each value of a frame, counts c h w times. Reducio takes the plain mean instead.
    """
    return values.sum() / (frames or values.shape[0] * values.shape[2])


def temporal_difference(source: Tensor, result: Tensor) -> Tensor:
    """Mean over all values of the absolute error of the change from one frame to the next; 0 for a single frame.

    It punishes flicker: an error that stands still costs nothing.
    """
    error = result - source
    return (error[:, :, 1:] - error[:, :, :-1]).abs().sum() / max(error[:, :, 1:].numel(), 1)


def wavelet_detail(source: Tensor, result: Tensor, levels: int = 1) -> Tensor:
    """Mean absolute error of the details of an orthonormal Haar transform of each frame, averaged over `levels`.

    Details are the three bands of a level that hold differences (rows, columns, both); the fourth goes on to the next
    level. An odd side is filled by a copy of its last row or column. Source of the idea: the wavelet loss of WF-VAE and
    LTX-Video.
    """
    error = (result - source).transpose(1, 2).flatten(0, 1)  # the transform is linear
    total = error.new_zeros(())
    for _ in range(levels):
        error = F.pad(error, (0, error.shape[3] % 2, 0, error.shape[2] % 2), mode="replicate")
        left, right = error[..., ::2], error[..., 1::2]
        smooth, columns = left + right, left - right
        rows = smooth[..., ::2, :] - smooth[..., 1::2, :]
        details = (rows, columns[..., ::2, :] + columns[..., 1::2, :], columns[..., ::2, :] - columns[..., 1::2, :])
        total = total + torch.stack(details).abs().mean() / 2
        error = (smooth[..., ::2, :] + smooth[..., 1::2, :]) / 2
    return total / levels


def pixel_outliers(result: Tensor, radius: float = 3.0) -> Tensor:
    """Mean over all values of max(0, y - m - radius s): pixels far brighter than their frame.

    m and s are mean and (unbiased) standard deviation of a frame's channel. One-sided. Source: `penalty_loss` of
    Reducio's `LPIPSWithDiscriminator`, radius 3, weight 1.
    """
    mean = result.mean((3, 4), keepdim=True)
    return F.relu(result - mean - radius * _spread(result, (3, 4), correction=1)).mean()


# --------------------------------------------------------------------------- of latents


def kl_map(posterior: DiagonalGaussian) -> Tensor:
    """Divergence from the standard normal in nats, value by value, of the latents' shape `b c t h w`.

    For releases that leave an axis out of the sum; `posterior.kl()` is its sum over all but the batch.
    """
    mean, logvar = posterior.mean, posterior.logvar
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


def kl_per_clip(posterior: DiagonalGaussian) -> Tensor:
    """Divergence from the standard normal, summed over a clip, mean over clips (OD-VAE, Open-Sora, Reducio)."""
    return posterior.kl().mean()


def kl_per_frame(posterior: DiagonalGaussian, frames: int) -> Tensor:
    """The same, summed over everything, divided by `frames`, the number of frames of all clips (TAE)."""
    return posterior.kl().sum() / frames


def latent_outliers(latents: Tensor, radius: float = 3.0) -> Tensor:
    """Mean over all values of max(0, |z - m| - radius s): latents far from those of their frame, in either direction.

    m and s are mean and (biased) standard deviation of a frame's channel; z is the SAMPLE that is decoded.
    Source: `OutlierPenaltyLoss` of TAE's code, weight 1e5 by default there (the report says 1), off in the recipe.
    """
    far = (latents - latents.mean((3, 4), keepdim=True)).abs()
    return F.relu(far - radius * _spread(latents, (3, 4), correction=0)).mean()


def vector_outliers(latents: Tensor, radius: float = 3.0) -> Tensor:
    """Mean over positions of max(0, ||z - m|| - radius ||s||), norms over channels: latents of great length.

    m and s are mean and (biased) standard deviation of a frame, each a vector over channels.
    Source: Movie Gen (arXiv 2410.13720), section 3.1.1, radius 3, weight 1e5.
    """
    far = torch.linalg.vector_norm(latents - latents.mean((3, 4), keepdim=True), dim=1)
    spread = torch.linalg.vector_norm(_spread(latents, (3, 4), correction=0), dim=1)
    return F.relu(far - radius * spread).mean()


def identity(source: Tensor, latents: Tensor) -> Tensor:
    """Sum over all values of |source - latents|, divided by b t: a code that shall stay as it is where it may.

    Source: stage 1 of Open-Sora 1.2, for clips of one frame: what the temporal VAE makes of the spatial latents.
    """
    return mean_over_frames((source - latents).abs())


def _spread(x: Tensor, dims: tuple[int, ...], correction: int) -> Tensor:
    """Standard deviation; of equal values 0 with a gradient of 0, where torch's own is not a number."""
    variance = x.var(dims, correction=correction, keepdim=True)
    some = variance > 0
    return torch.where(some, variance, 1).sqrt() * some
