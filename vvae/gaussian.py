"""The posterior: a normal distribution of independent numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from vvae.errors import SpecError, VideoError
from vvae.framing import Fit
from vvae.spec import Spec


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """`mean` and `logvar` of shape `b c t h w` (latent positions), float32 or wider, before any scaling.

    `fit` is the true size of the clip behind them. `limits` bound logvar where a release does so in drawing alone.
    """

    mean: Tensor
    logvar: Tensor
    fit: Fit
    limits: tuple[float, float] | None = None
    content: Tensor | None = None

    @property
    def std(self) -> Tensor:
        logvar = self.logvar if self.limits is None else self.logvar.clamp(*self.limits)
        return torch.exp(0.5 * logvar)

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None, *, noise: Tensor | None = None) -> Tensor:
        """mean + std * noise; the noise, of the mean's shape, is drawn with `generator` unless given.

        Raises:
            VideoError: noise of another shape.
        """
        if noise is not None and noise.shape != self.mean.shape:
            raise VideoError(
                f"noise of shape {tuple(noise.shape)}; it must be that of the mean, {tuple(self.mean.shape)}"
            )
        if noise is None:
            where = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=where)
        return self.mean + self.std * noise.to(self.mean)

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """Divergence from `other` (the standard normal if None) in nats, summed over all but the batch: shape `b`."""
        mean, logvar = (0.0, torch.zeros(())) if other is None else (other.mean, other.logvar)
        gap = (self.mean - mean) ** 2 * torch.exp(-logvar)
        return 0.5 * (gap + torch.exp(self.logvar - logvar) - 1.0 - self.logvar + logvar).flatten(1).sum(1)

    def nll(self, sample: Tensor) -> Tensor:
        """Negative log likelihood of `sample` in nats, summed over all but the batch: shape `b`."""
        gap = (sample - self.mean) ** 2 * torch.exp(-self.logvar)
        return 0.5 * (math.log(2 * math.pi) + self.logvar + gap).flatten(1).sum(1)

    def detach(self) -> DiagonalGaussian:
        return replace(self, mean=self.mean.detach(), logvar=self.logvar.detach())


class PosteriorSpec(Spec):
    """How moments become a posterior: the first half of their channels is the mean, the second logvar.

    `limits` bound logvar, in the `moments` themselves or in the `sample` alone.
    """

    limits: tuple[float, float] | None = None
    limits_of: Literal["moments", "sample"] = "moments"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise SpecError(f"posterior: limits {self.limits} are in no order; give (least, greatest)")
        return self

    def channels(self, moments: int) -> int:
        """Channels of the latents for that many of the moments."""
        if moments % 2:
            raise SpecError(f"{moments} channels are no mean and logvar; the encoder must give an even number")
        return moments // 2

    def posterior(self, moments: Tensor, fit: Fit, content: Tensor | None = None) -> DiagonalGaussian:
        mean, logvar = moments.to(torch.promote_types(moments.dtype, torch.float32)).chunk(2, 1)
        if self.limits is not None and self.limits_of == "moments":
            logvar = logvar.clamp(*self.limits)
        return DiagonalGaussian(mean, logvar, fit, self.limits if self.limits_of == "sample" else None, content)
