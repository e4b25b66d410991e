"""Parts of published discriminators that no published objective uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2


class ActNorm(nn.Module):
    """scale (x + shift), one number each for a channel of `b c ...`; `start_from` sets them from a first batch.

    Source: `ActNorm` of latent diffusion and OD-VAE, whose first forward pass in training mode sets them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        y: Tensor = self.scale.view(shape) * (x + self.shift.view(shape))
        return y

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """From then on this batch comes out with mean 0 and standard deviation 1."""
        values = x.transpose(0, 1).flatten(1)
        self.shift.copy_(-values.mean(1))
        self.scale.copy_(1.0 / (values.std(1) + 1e-6))


def start_from(discriminator: nn.Module, video: Tensor) -> None:
    """Every ActNorm inside from the batch that comes to it, the first one first."""

    def set_it(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, ActNorm)
        norm.start_from(given[0])

    norms = [module for module in discriminator.modules() if isinstance(module, ActNorm)]
    hooks = [norm.register_forward_pre_hook(set_it) for norm in norms]
    with torch.no_grad():
        discriminator(video)
    for hook in hooks:
        hook.remove()


def blur(x: Tensor) -> Tensor:
    """Half the frames, rows and columns of `b c t h w`, rounded up, of a binomial mean of 3 x 3 x 3 around each.

    Clips are reflected at their ends, so that each axis has at least 2. Source: `BlurPool3D` of Open-Sora.
    """
    taps = x.new_tensor([1.0, 2.0, 1.0])
    kernel = taps[:, None, None] * taps[:, None] * taps / 64
    filled = F.pad(x, (1, 1, 1, 1, 1, 1), mode="reflect")
    return F.conv3d(filled, kernel.expand(x.shape[1], 1, 3, 3, 3), stride=2, groups=x.shape[1])


class BlurBlock(nn.Module):
    """Two convolutions around a blur, and a blurred shortcut: `b c t h w`, halved. Source: `ResBlockDown`."""

    def __init__(self, channels_in: int, channels: int, groups: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(channels_in, channels_in, 3, padding=1)
        self.norm_a = nn.GroupNorm(groups, channels_in)
        self.conv_b = nn.Conv3d(channels_in, channels, 3, padding=1)
        self.norm_b = nn.GroupNorm(groups, channels)
        self.shortcut = nn.Conv3d(channels_in, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = blur(F.leaky_relu(self.norm_a(self.conv_a(x)), SLOPE))
        y = F.leaky_relu(self.norm_b(self.conv_b(y)), SLOPE)
        total: Tensor = y + self.shortcut(blur(x))
        return total / math.sqrt(2)


class BlurDiscriminator(nn.Module):
    """One logit for a clip of exactly `size` (frames, rows, columns): `b c t h w` -> `b 1`.

    `widths`: of the first convolution, then of each block, which halves all three axes.
    Source: `StyleGANDiscriminatorBlur` of Open-Sora, which cannot be built there (its padding is missing).
    """

    def __init__(
        self, size: tuple[int, int, int], channels: int = 3, *, widths: Sequence[int], groups: int = 32
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(BlurBlock(before, after, groups) for before, after in pairwise(widths))
        self.conv_out = nn.Conv3d(widths[-1], widths[-1], 3, padding=1)
        self.norm_out = nn.GroupNorm(groups, widths[-1])
        frames, rows, columns = (-(-side // 2 ** len(self.blocks)) for side in size)
        self.linear_a = nn.Linear(widths[-1] * frames * rows * columns, widths[-1])
        self.linear_b = nn.Linear(widths[-1], 1)

    def forward(self, video: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv_in(video), SLOPE)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.norm_out(self.conv_out(x)), SLOPE).flatten(1)
        y: Tensor = self.linear_b(F.leaky_relu(self.linear_a(x), SLOPE))
        return y
