"""Small outputs of our own, so that a clone without the parity files still notices a change."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from vvae.arch import image_vae, iv_vae, od_vae, od_vae_streaming, open_sora, open_sora_causal, reducio, tae, wan
from vvae.arch.od_vae import Half
from vvae.autoencoder_spec import VideoAutoencoderSpec
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
    **{
        f"od_vae_{variant}": partial(od_vae, variant, width=4, groups=2, blocks=1, latent_channels=3)
        for variant in od_vae.variants
    },
    "od_vae_all_options": lambda: od_vae(
        width=4,
        multipliers=(1, 1, 2),
        blocks=1,
        groups=2,
        latent_channels=3,
        inner_channels=5,
        scale=0.5,
        encoder=Half(convs=("2d", "3d", "3d"), space=("2d", "3d", None), middle="2d", attention=(1,)),
        decoder=Half(convs=("3d", "2d", "3d"), space=(None, "3d", "3d"), conv_in="2d", conv_out="2d", attention=(2,)),
        encoder_time=("attended", "joint", None),
        decoder_time=(None, "attended", "joint"),
        encoder_attend="time",
        decoder_attend="2d",
    ),
    "od_vae_streaming": lambda: od_vae_streaming("v1_1", layout="outer_2d_both", width=4, groups=2, blocks=1),
    "tae": lambda: tae("zero", widths=(4, 8, 8, 8), blocks=1, groups=2, latent_channels=4),
    "tae_all_options": lambda: tae(
        "tail",
        widths=(4, 6),
        stem=2,
        blocks=1,
        groups=2,
        latent_channels=3,
        scale=0.5,
        temporal_down=(0, 1),
        temporal_up=(0, 1),
        up_outside="replicate",
        encoder_attention=(1,),
        decoder_attention=(0,),
        moments_conv=True,
        latent_conv=True,
        tanh_out=True,
    ),
    "tae_attention_over_frames": lambda: tae(
        widths=(4, 4),
        blocks=0,
        groups=2,
        latent_channels=2,
        temporal_down=(0,),
        temporal_up=(1,),
        temporal_attention=False,
    ),
    "open_sora": lambda: open_sora(
        width=4, blocks=1, groups=2, spatial={"widths": (4, 4), "blocks": 1, "groups": 2}, piece=5, at_once=2, scale=0.5
    ),
    "open_sora_temporal": lambda: open_sora(
        component="temporal",
        spatial={"latent_channels": 3},
        width=2,
        multipliers=(1, 2, 2),
        blocks=1,
        temporal=(True, False),
        groups=2,
        act=ReLUSpec(),
        latent_channels=3,
        inner_channels=4,
    ),
    "open_sora_causal": lambda: open_sora_causal(
        width=4, blocks=1, groups=2, spatial={"widths": (4, 4), "blocks": 1, "groups": 2}
    ),
    "reducio": lambda: reducio(
        "ft4", widths=(2, 4, 4, 4, 4, 4), blocks=1, groups=2, heads=2, latent_channels=4, content_widths=(2, 4, 4, 4)
    ),
    "reducio_all_options": lambda: reducio(
        widths=(2, 4, 6),
        decoder_widths=(4, 4, 2),
        stem=4,
        blocks=1,
        groups=2,
        heads=1,
        latent_channels=3,
        inner_channels=4,
        time_halvings=1,
        late=True,
        frames=4,
        content_widths=(4, 4, 6),
        content_stem=2,
        content_blocks=1,
        content_channels=6,
        fuse=(1, 2, None),
        fuse_by=("add+attention", "linear", None),
        window=(3, 2),
        content_norm="group",
        gate=0.3,
        fusion_shortcut=True,
        unshuffle=True,
        tanh_out=True,
    ),
    "reducio_causal": lambda: reducio(
        widths=(2, 4, 4),
        blocks=1,
        groups=2,
        heads=1,
        latent_channels=2,
        time_halvings=2,
        space_halvings=1,
        fuse=(None, None, None),
        content_widths=(2, 4),
        content_blocks=1,
        content_resample_conv=False,
        positions=None,
        causal=True,
    ),
    "wan": lambda: wan(width=4, blocks=1, latent_channels=4, shift=(0.1, -0.2, 0.3, 0.0), scale=(1.0, 2.0, 0.5, 1.5)),
    "wan_all_options": lambda: wan(
        width=4,
        decoder_width=6,
        multipliers=(1, 2, 1),
        temporal=(True, False),
        blocks=2,
        latent_channels=3,
        clamp=False,
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
