"""Small models of an architecture with random weights, in float64, and clips for them."""

from __future__ import annotations

import torch
from torch import Tensor

from vvae import verify
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec


def model_of(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec.build().double()


def clip(frames: int, height: int = 16, width: int = 16, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(1, channels, frames, height, width, generator=generator, dtype=torch.float64)


@torch.no_grad()
def gives_back_any_number_of_frames(spec: VideoAutoencoderSpec) -> None:
    """Of a spec with a lead frame, groups of 4 and cells of 8 pixels: filled for latents, cropped after, or floored."""
    model = model_of(spec)
    for frames, positions in ((1, 1), (2, 2), (4, 2), (5, 2), (8, 3)):
        verify.check_accounting(model.encode, model.decode, clip(frames, 8, 12))
        assert spec.latent_shape(frames, 8, 12)[1:] == (positions, 1, 2)
        assert model.encode(clip(frames, 8, 12)).mean.shape[2:] == (positions, 1, 2)
        floored = model.encode(clip(frames, 8, 12), framing="published")
        assert floored.mean.shape[2:] == ((frames - 1) // 4 + 1, 1, 1)
        assert model.decode(floored).shape[2:] == ((frames - 1) // 4 * 4 + 1, 8, 8)
