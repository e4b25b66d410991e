"""A small video autoencoder that keeps its word, in plain PyTorch: the control beside models that do not.

`sound()` has one latent per frame and gives a clip of any length, height and width back. `sound_groups()` has one
latent for the first frame and one for each group of two after it, and refuses a clip that ends within a group.
Both are causal: a latent depends on its own group and on earlier ones, and so does a decoded frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution per latent value; `mean` and `logvar` are `b c t h w`."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + (self.logvar / 2).exp() * noise

    def kl(self) -> Tensor:
        """From the standard normal distribution, in nats, one number per clip. `b`"""
        return (self.mean**2 + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1) / 2


@dataclass(frozen=True)
class Encoded:
    latent_dist: Gaussian


@dataclass(frozen=True)
class Decoded:
    sample: Tensor


class CausalConv(nn.Conv3d):
    """A 3x3x3 convolution that sees this frame and the two before it; before the first frame there are zeros."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 0, 0, 0, 2, 0)))


class Sound(nn.Module):
    """Clips `b 3 t h w` to latents `b 4 n h w` and back, where t = 1 + (n - 1) group.

    Raises ValueError for a clip whose last group is not whole.
    """

    def __init__(self, group: int = 1, width: int = 8, latents: int = 4) -> None:
        super().__init__()
        self.group = group
        self.look = CausalConv(3, width)
        self.gather = nn.Conv3d(width, width, (group, 1, 1), (group, 1, 1))
        self.tell = CausalConv(width, 2 * latents)
        self.read = CausalConv(latents, width)
        self.spread = nn.ConvTranspose3d(width, width, (group, 1, 1), (group, 1, 1))
        self.show = CausalConv(width, 3)

    def encode(self, clip: Tensor) -> Encoded:
        if (clip.shape[2] - 1) % self.group:
            raise ValueError(f"{clip.shape[2]} frames; a clip has one frame and then whole groups of {self.group}")
        features = F.silu(self.look(clip))
        first = features[:, :, :1].expand(-1, -1, self.group - 1, -1, -1)
        groups = F.silu(self.gather(torch.cat([first, features], 2)))
        mean, logvar = self.tell(groups).chunk(2, dim=1)
        return Encoded(Gaussian(mean, logvar))

    def decode(self, latents: Tensor) -> Decoded:
        groups = F.silu(self.read(latents))
        features = F.silu(self.spread(groups)[:, :, self.group - 1 :])
        return Decoded(self.show(features))


def sound() -> Sound:
    """One latent per frame (lead 1, group 1)."""
    return built(group=1)


def sound_groups() -> Sound:
    """One latent for the first frame, then one for every two (lead 1, group 2)."""
    return built(group=2)


def built(group: int) -> Sound:
    """The model with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sound(group).eval()
