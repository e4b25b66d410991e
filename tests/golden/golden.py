"""Small outputs of our own, so that a clone without the parity files still notices a change."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vvae.arch import image_vae, iv_vae
from vvae.autoencoder import VideoAutoencoderSpec
from vvae.layers import ReLUSpec

FILE = Path(__file__).parent / "golden.safetensors"
KEPT = 300  # values of each output

MODELS: Mapping[str, Callable[[], VideoAutoencoderSpec]] = {
    "iv_vae": lambda: iv_vae(width=4, latent_channels=4, scale=1.3, shift=0.1),
    "iv_vae_published_groups": lambda: iv_vae(width=4, latent_channels=4, blocks=1, grouping="published"),
    "iv_vae_no_temporal": lambda: iv_vae(width=2, blocks=1, temporal=(False,) * 3, grouping="published"),
    "iv_vae_five_levels": lambda: iv_vae(
        width=2, blocks=1, multipliers=(1, 1, 2, 2, 2), temporal=(True, False, True, True), encoder_attention=(1,)
    ),
    "image_vae": lambda: image_vae("sd3", widths=(4, 8, 8, 8), blocks=1, groups=2, latent_channels=4),
    "image_vae_all_options": lambda: image_vae(
        widths=(4, 6),
        stem=2,
        blocks=1,
        groups=2,
        act=ReLUSpec(),
        latent_channels=3,
        inner_channels=5,
        scale=0.5,
        encoder_attention=(1,),
        decoder_attention=(0,),
        resample_conv=False,
        tanh_out=True,
    ),
}


def seeded(shape: tuple[int, ...], name: str) -> Tensor:
    """Values in [-1, 1) that depend on the name alone: the fractional parts of multiples of the golden ratio."""
    count = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64)
    return (((count + zlib.crc32(name.encode()) % 9973) * 0.6180339887498949) % 1.0 * 2 - 1).reshape(shape)


def seed_weights(module: nn.Module) -> nn.Module:
    """Weights from their names, of the size that keeps signals level."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            fan_in = max(1, weight[0].numel())
            value = seeded(tuple(weight.shape), name)
            weight.copy_(value * (3 / fan_in) ** 0.5 if weight.ndim > 1 else 0.2 * value + (1 if "norm" in name else 0))
    return module


def outputs(name: str) -> dict[str, Tensor]:
    """What a model gives in float64 for a seeded clip: moments, latents and the clip that comes back, thinned."""
    spec = MODELS[name]()
    model = spec.build().double()
    seed_weights(model)
    with torch.no_grad():
        posterior = model.encode(seeded((1, 3, 11, 18, 33), "clip"))
        found = {
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "normalized": model.scaling.normalize(posterior.mode()),
            "clip": model.decode(posterior),
        }
    return {f"{name}.{key}": value.flatten()[:: max(1, value.numel() // KEPT)].clone() for key, value in found.items()}
