"""Laws of noise: it comes from outside, and without it the mode is taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vvae.autoencoder import VideoAutoencoder
from vvae.context import WholeClip, module_names
from vvae.gaussian import DiagonalGaussian
from vvae.verify.findings import TOLERANCE, LawError, near


def check_draw(layer: nn.Module, x: Tensor, limits: tuple[float, float] | None) -> float:
    """f(x; n) = m + exp(s / 2) n and f(x) = m, where m and s are the halves of x's channels, s clamped to the limits.

    Tolerance: TOLERANCE.
    """
    mean, logvar = x.chunk(2, 1)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(x)
    deviation = torch.exp(0.5 * (logvar if limits is None else logvar.clamp(*limits)))
    with torch.no_grad():
        near("noise", "without noise", layer(x), mean, 0.0)
        found = layer(x, WholeClip(names=module_names(layer), noise={"": noise}))
    return near("noise", "with noise", found, mean + deviation * noise, TOLERANCE[x.dtype])


def check_noise(model: VideoAutoencoder, x: Tensor) -> float:
    """E(x; zero noise) = E(x), E(x; generator) = E(x; the noise that it draws), and a sample of the posterior is
    mean + exp(logvar / 2) n. Tolerance: TOLERANCE for the sample, none for the rest: the same work is done."""
    with torch.no_grad():
        drawn, again = (model.draw(x, torch.Generator().manual_seed(7)) for _ in range(2))
        mode = model.encode(x)
        if drawn:
            for name, noise in drawn.items():
                near("noise", f"drawn twice by the same generator, {name}", again[name], noise, 0.0)
            by_hand = model.encode(x, noise=drawn)
            by_seed = model.encode(x, torch.Generator().manual_seed(7))
            zero = model.encode(x, noise={name: torch.zeros_like(noise) for name, noise in drawn.items()})
            near("noise", "encoded with a generator and with its noise", by_seed.mean, by_hand.mean, 0.0)
            near("noise", "encoded with zero noise and without", zero.mean, mode.mean, 0.0)
            if torch.equal(by_hand.mean, mode.mean):
                raise LawError("noise", "the noise changes no latent")
        return _check_sample(mode)


def _check_sample(posterior: DiagonalGaussian) -> float:
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    logvar = posterior.logvar if posterior.limits is None else posterior.logvar.clamp(*posterior.limits)
    first, second = (posterior.sample(torch.Generator().manual_seed(9)) for _ in range(2))
    near("noise", "sampled twice by the same generator", first, second, 0.0)
    want = posterior.mean + torch.exp(0.5 * logvar) * noise.to(logvar)
    return near("noise", "a sample", posterior.sample(noise=noise), want, TOLERANCE[want.dtype])
