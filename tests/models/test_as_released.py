"""Each architecture in the form in which its weights are released: read, saved, and exported bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vvae
from tests.models.test_released import same
from tests.models.test_sources import mindspore, write_index
from vvae import VideoAutoencoderSpec, arch, checkpoint
from vvae.arch.open_sora import AT_ONCE
from vvae.models.recognise import family_of
from vvae.models.released import as_published
from vvae.published.renames import to_published

LOSS = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.ones(2)}
OD_CONFIG = {
    "_class_name": "CausalVAEModel",
    "encoder_attention": "AttnBlock3DFix",
    "decoder_attention": "AttnBlock3DFix",
    "encoder_conv_in": "Conv2d",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", "Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DDownsample", ""],
    "encoder_temporal_downsample": ["", "", "", ""],
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample", "Spatial2xTime2x3DUpsample"],
    "decoder_temporal_upsample": ["", "", "", ""],
    "hidden_size": 32,
    "encoder_spatial_downsample_unup": "unknown to the class",
    "loss_params": {"kl_weight": 1e-6},
}
SORA_CONFIG: dict[str, Any] = {
    "micro_frame_size": 17,
    "shift": [-0.10, 0.34, 0.27, 0.98],
    "scale": [3.85, 2.32, 2.33, 3.06],
}
WAN_CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKLWan",
    "base_dim": 4,
    "dim_mult": [1, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True],
    "attn_scales": [],
    "dropout": 0.0,
}
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """A release in small: its spec, how its tensors are written, whose names they have, and what must be said.

    extras: tensors without a function.
    """

    spec: VideoAutoencoderSpec
    write: Callable[[Path, Tensors], None]
    naming: str = "published"
    extras: Tensors = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)


def of_lightning(folder: Path, tensors: Tensors) -> None:
    state = {f"module.{name}": tensor for name, tensor in {**tensors, **LOSS}.items()}
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": []}, folder / "x.ckpt")


def averaged(folder: Path, tensors: Tensors) -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    averages = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": {"gen_model": zeros}, "ema_state_dict": averages}, folder / "checkpoint.ckpt")
    (folder / "config.json").write_text(json.dumps(OD_CONFIG))


def with_the_loss(folder: Path, tensors: Tensors) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    checkpoint.write_file(file, {**tensors, **LOSS}, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(OD_CONFIG))


def in_shards(folder: Path, tensors: Tensors) -> None:
    places = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(sorted(tensors))}
    for place in sorted(set(places.values())):
        checkpoint.write_file(folder / place, {n: t for n, t in tensors.items() if places[n] == place}, {})
    write_index(folder, places)
    (folder / "config.json").write_text(json.dumps(SORA_CONFIG))


def of_mindspore(folder: Path, tensors: Tensors) -> None:
    named = {name.replace("encoder.", "encoder._backbone."): tensor for name, tensor in tensors.items()}
    (folder / "x.ckpt").write_bytes(mindspore({f"autoencoder.{name}": tensor for name, tensor in named.items()}))


def in_a_diffusion_model(folder: Path, tensors: Tensors) -> None:
    whole = {f"first_stage_model.{name}": tensor for name, tensor in {**tensors, **LOSS}.items()}
    others = {"model.diffusion_model.w": torch.ones(2), "cond_stage_model.w": torch.ones(2), "betas": torch.ones(2)}
    torch.save({"state_dict": {**others, **whole}, "global_step": 470000}, folder / "sd.ckpt")


def of_diffusers(folder: Path, tensors: Tensors) -> None:
    checkpoint.write_file(folder / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(WAN_CONFIG))


def bare(folder: Path, tensors: Tensors) -> None:
    torch.save(dict(tensors), folder / "x.pth")


WAN: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "blocks": 1, "temporal": (True,)}
FORMS = {
    "iv_vae": Form(arch.iv_vae(width=4, latent_channels=4), bare, choices={"variant": "z16_dim64"}),
    "image_vae": Form(
        arch.image_vae(widths=(32, 64), blocks=1), in_a_diffusion_model, "compvis", choices={"variant": "sdxl"}
    ),
    "od_vae-averages": Form(arch.od_vae("v1_2", width=32, blocks=1), averaged),
    "od_vae-loss": Form(arch.od_vae("v1_2", width=32, blocks=1), with_the_loss),
    "open_sora": Form(
        arch.open_sora(width=32, blocks=1, spatial={"widths": (32, 32), "blocks": 1}, piece=17, at_once=AT_ONCE),
        in_shards,
        "pipeline",
        {name: torch.tensor(SORA_CONFIG[name]).view(1, 4, 1, 1, 1) for name in ("scale", "shift")},
    ),
    "reducio": Form(
        arch.reducio(widths=(32,) * 6, content_widths=(32,) * 4, blocks=1, content_blocks=1),
        of_lightning,
        extras={"encoder_2d.mid.block_2.conv1.weight": torch.rand(32, 32, 3, 3)},
    ),
    "tae": Form(
        arch.tae("tail", widths=(32, 32), blocks=1, latent_channels=4, temporal_down=(0,), temporal_up=(1,)),
        of_mindspore,
        "mindspore",
        {"encoder.mid.block_1.temb_proj.weight": torch.rand(32, 8)},
        {"padding": "tail"},
    ),
    "wan-folder": Form(arch.wan("2.1", **WAN), of_diffusers, "diffusers"),
    "wan-authors": Form(arch.wan("2.1", **WAN), bare, "authors", choices={"variant": "2.1"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_release_is_read_saved_and_exported_bit_for_bit(name: str, tmp_path: Path) -> None:
    form, architecture = FORMS[name], name.partition("-")[0]
    torch.manual_seed(0)
    original = form.spec.build()
    table = family_of(architecture).renames(form.spec, form.naming)
    published = to_published(table, original.state_dict(), form.extras)
    (tmp_path / "release").mkdir()
    form.write(tmp_path / "release", published)
    for said in (architecture, None):
        model = vvae.load_published(said, tmp_path / "release", **form.choices)
        assert (model.spec.encoder, model.spec.decoder) == (form.spec.encoder, form.spec.decoder)
        assert model.spec.framing == form.spec.framing
        assert same(dict(model.state_dict()), dict(original.state_dict()))
    model.save(tmp_path / "own.safetensors")
    assert same(as_published(tmp_path / "own.safetensors", form.naming).tensors, published)
