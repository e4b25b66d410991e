"""The linear floor: principal components of blocks of some material.

A lead frame falls into blocks of 1 x 8 x 8 pixels, a group of frames into blocks of 4 x 8 x 8 (other models: as many
as their latent positions stand for); each block is kept as its first 16 principal components. No linear code of this
size does better on the material, so a model that starts here starts where a linear one ends. Components are scaled to
unit variance: that is what a latent should have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from vvae.evaluation.moments import Moments
from vvae.framing import fill

BLOCK = 8


@dataclass(frozen=True)
class Components:
    """A linear code of blocks. `mean` is `c t h w`, `basis` `k c t h w` orthonormal, `scale` `k` their deviation."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    @property
    def frames(self) -> int:
        """Frames in a block."""
        return self.mean.shape[1]

    @property
    def side(self) -> int:
        """Pixels of a block's height, and of its width."""
        return self.mean.shape[2]

    def encode(self, video: Tensor) -> Tensor:
        """`b c (n t) (h p) (w p)` to latents `b k n h w` of unit variance over the material, blocks `c t p p`."""
        blocks = to_blocks(video, self.frames, self.side) - self.mean.flatten()
        latents = blocks @ self.basis.flatten(1).T / self.scale
        return rearrange(latents, "b n h w k -> b k n h w")

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `b k n h w` back to `b c (n t) (h p) (w p)`."""
        scaled = rearrange(latents, "b k n h w -> b n h w k") * self.scale
        blocks = scaled @ self.basis.flatten(1) + self.mean.flatten()
        return from_blocks(blocks, self.frames, self.side)


@dataclass(frozen=True)
class Floor:
    """The two codes: of lead frames and of groups."""

    lead: Components
    group: Components

    def encode(self, video: Tensor) -> Tensor:
        """`b c t h w`, t = 1 + n groups, to latents `b k 1+n h/p w/p`."""
        return torch.cat([self.lead.encode(video[:, :, :1]), self.group.encode(video[:, :, 1:])], dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `b k 1+n h w` back to `b c t ph pw`, t = 1 + n groups."""
        return torch.cat([self.lead.decode(latents[:, :, :1]), self.group.decode(latents[:, :, 1:])], dim=2)


def fit(videos: Iterable[Tensor], channels: int = 16, group: int = 4, side: int = BLOCK) -> Floor:
    """The floor of a material: every clip `b c t h w` in [-1, 1] counts each of its frames as a lead, each run of
    `group` as a group, in blocks of `side` x `side` pixels. One that is shorter than a group stands still to its end.
    Sums run in float64; the result is float32.
    """
    lead, grouped = Moments.none(0), Moments.none(0)
    for video in videos:
        frames, *size = video.shape[2:]
        whole = frames // group * group
        lead = lead.merged(_moments(video, 1, side))
        groups = video[:, :, :whole] if whole else fill(video, group, *size)
        grouped = grouped.merged(_moments(groups, group, side))
    return Floor(components(lead, channels, 1, side), components(grouped, channels, group, side))


def _moments(video: Tensor, frames: int, side: int) -> Moments:
    """Of the blocks of `b c t h w`, t a multiple of `frames`."""
    return Moments.of(to_blocks(video, frames, side).flatten(0, 3))


def components(moments: Moments, channels: int, frames: int, side: int) -> Components:
    """The `channels` directions of greatest variance (all, where a block has fewer numbers), the greatest first.

    A fixed sign makes them reproducible. Errors: VvaeError where there is no block.
    """
    values, vectors = torch.linalg.eigh(moments.covariance(unbiased=False))
    basis = vectors.T.flip(0)[:channels]
    basis = basis * basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
    scale = values.flip(0)[:channels].clamp(min=1e-12).sqrt()
    shape = (-1, frames, side, side)
    return Components(moments.mean.view(shape).float(), basis.view(len(basis), *shape).float(), scale.float())


def to_blocks(video: Tensor, frames: int, side: int = BLOCK) -> Tensor:
    """`b c (n t) (h p) (w p)` to `b n h w (c t p p)`, p = `side`."""
    pattern = "b c (n t) (h p) (w q) -> b n h w (c t p q)"
    return rearrange(video, pattern, t=frames, p=side, q=side)


def from_blocks(blocks: Tensor, frames: int, side: int = BLOCK) -> Tensor:
    """The inverse of `to_blocks`."""
    pattern = "b n h w (c t p q) -> b c (n t) (h p) (w q)"
    return rearrange(blocks, pattern, t=frames, p=side, q=side)
