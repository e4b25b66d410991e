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
        posterior = model.encode(clip(frames, 8, 12))
        assert posterior.mean.shape[2:] == (positions, 1, 2)
        assert model.decode(posterior).shape[2:] == (frames, 8, 12)
        floored = model.encode(clip(frames, 8, 12), framing="published")
        assert floored.mean.shape[2:] == ((frames - 1) // 4 + 1, 1, 1)
        assert model.decode(floored).shape[2:] == ((frames - 1) // 4 * 4 + 1, 8, 8)


@torch.no_grad()
def gives_in_chunks_what_it_gives_whole(spec: VideoAutoencoderSpec, x: Tensor, chunks: list[int]) -> None:
    model = model_of(spec)
    whole = model.encode(x)
    parts = list(model.encode_stream(x.split(chunks, 2)))
    assert verify.difference(torch.cat([part.mean for part in parts], 2), whole.mean) <= 1e-12
    assert verify.difference(torch.cat([part.logvar for part in parts], 2), whole.logvar) <= 1e-12
    frames = list(model.decode_stream(parts))
    assert verify.difference(torch.cat(frames, 2), model.decode(whole)) <= 1e-12
