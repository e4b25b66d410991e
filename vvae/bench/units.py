"""U, the unit that everybody knows: diffusers' image autoencoder in the shape of SDXL decodes 17 frames of 128x128."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch

SDXL_WIDTHS = (128, 256, 512, 512)
SDXL_LATENTS = (17, 4, 16, 16)
"""`b c h w`: 17 frames of 128x128 as one batch."""

U_IS = (
    "diffusers' AutoencoderKL in the SDXL shape (block_out_channels 128, 256, 512, 512; 4 latent channels; 2 layers "
    "per block; random weights) decoding 17 frames of 128x128 as one batch, float32, memory format as built"
)


def diffusers_decoder(
    widths: Sequence[int] = SDXL_WIDTHS, latents: Sequence[int] = SDXL_LATENTS, norm_groups: int = 32
) -> Callable[[], object] | None:
    """One decoding, float32, random weights; None without diffusers."""
    if find_spec("diffusers") is None:
        return None
    diffusers: Any = importlib.import_module("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.AutoencoderKL(
            block_out_channels=tuple(widths),
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            latent_channels=latents[1],
            layers_per_block=2,
            norm_num_groups=norm_groups,
        ).eval()
        z = torch.randn(*latents)

    def decode() -> object:
        with torch.no_grad():
            return model.decode(z).sample

    return decode
