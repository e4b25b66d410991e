"""What a diffusion model should see of the latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from vvae.errors import SpecError
from vvae.spec import Spec


class Affine(Spec):
    """normalize = (z - shift) * scale, one number or one per channel; `restore` undoes it."""

    kind: Literal["affine"] = "affine"
    shift: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0

    def check(self, channels: int) -> None:
        """SpecError unless this scaling fits latents of that many channels."""
        for name, value in (("shift", self.shift), ("scale", self.scale)):
            if isinstance(value, tuple) and len(value) != channels:
                raise SpecError(f"latent.{name} has {len(value)} numbers for {channels} latent channels; give one each")
        if not all(map(math.isfinite, (*_numbers(self.shift), *_numbers(self.scale)))) or 0 in _numbers(self.scale):
            raise SpecError(f"latent: {self} cannot be undone; scale must be finite and not 0, shift finite")

    def normalize(self, latents: Tensor) -> Tensor:
        return (latents - _channels(self.shift, latents)) * _channels(self.scale, latents)

    def restore(self, normalized: Tensor) -> Tensor:
        return normalized / _channels(self.scale, normalized) + _channels(self.shift, normalized)


class ClipNorm(Spec):
    """A norm without parameters over one whole piece (all but the batch). It cannot be undone. Source: Reducio-VAE.

    `piece`: latent positions in time of a piece; None: all of them are one.
    """

    kind: Literal["clip_norm"] = "clip_norm"
    eps: float = 1e-5
    piece: PositiveInt | None = None

    def check(self, channels: int) -> None:
        """Fits any latents."""

    def normalize(self, latents: Tensor) -> Tensor:
        pieces = latents.split(self.piece or latents.shape[2], 2)
        return torch.cat([F.layer_norm(piece, piece.shape[1:], eps=self.eps) for piece in pieces], 2)

    def restore(self, normalized: Tensor) -> Tensor:
        raise SpecError(
            "clip_norm has no inverse: mean and size of the piece are gone; decode takes normalized latents"
        )


LatentScaling: TypeAlias = Annotated[Affine | ClipNorm, Field(discriminator="kind")]


def _numbers(value: float | Sequence[float]) -> Sequence[float]:
    return value if isinstance(value, Sequence) else (value,)


def _channels(value: float | Sequence[float], like: Tensor) -> Tensor | float:
    if isinstance(value, float | int):
        return value
    return torch.tensor(value, dtype=like.dtype, device=like.device)[:, None, None, None]
