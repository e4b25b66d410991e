"""Released image VAEs: recognised under each naming, converted, and exported again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vvae
from tests import parity
from tests.models.test_released import same
from vvae import CheckpointError, checkpoint
from vvae.arch.image_vae import NAMINGS, image_vae, published_fields, renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers import ReLUSpec
from vvae.models.image_layout import layout
from vvae.models.recognise import recognise, shapes_of
from vvae.models.released import as_published, from_published
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

SMALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "blocks": {"blocks": 2},
    "one_level": {"widths": (32,)},
    "no_convs_at_latents": {"moments_conv": False, "latent_conv": False},
    "no_attention": {"middle_attention": False},
    "no_conv_in_resampling": {"resample_conv": False},
    "stem": {"stem": 64},
    "inner": {"inner_channels": 5},
}


def small(**fields: Any) -> VideoAutoencoderSpec:
    return image_vae(**{"widths": (32, 64), "blocks": 1, "latent_channels": 3, "scale": 0.13025, **fields})


def released(spec: VideoAutoencoderSpec, naming: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return to_published(renames(spec, naming), spec.build().state_dict())


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("name", SMALL)
def test_each_naming_gives_the_same_model(name: str, naming: str, tmp_path: Path) -> None:
    spec = small(**SMALL[name])
    checkpoint.write_file(tmp_path / "x.safetensors", released(spec, naming), {})
    done = from_published(tmp_path / "x.safetensors", variant="sdxl")
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, done.recognised.spec.to_json())
    torch.manual_seed(0)
    assert same(dict(vvae.load(tmp_path / "own.safetensors").state_dict()), dict(spec.build().state_dict()))
    assert (done.recognised.spec.encoder, done.recognised.spec.decoder) == (spec.encoder, spec.decoder)
    assert done.recognised.spec.latent == spec.latent
    assert same(as_published(tmp_path / "own.safetensors").tensors, released(spec, "diffusers"))


def test_attention_between_blocks_is_exported_under_the_names_that_know_it(tmp_path: Path) -> None:
    spec = small(encoder_attention=(1,), decoder_attention=(0, 1))
    tensors = released(spec, "compvis")
    checkpoint.write_file(tmp_path / "x.safetensors", tensors, {})
    done = from_published(tmp_path / "x.safetensors", variant="sd")
    assert done.recognised.spec.decoder == spec.decoder
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, done.recognised.spec.to_json())
    assert same(as_published(tmp_path / "own.safetensors").tensors, tensors)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("variant", list(image_vae.variants))
def test_what_shapes_do_not_tell_is_asked_for(variant: str, naming: str) -> None:
    spec = image_vae(variant)
    shapes = published_shapes(renames(spec, naming), shapes_of(spec))
    if variant == "sd3":
        assert recognise(shapes, "somewhere").spec == spec
    else:
        with pytest.raises(CheckpointError, match=r"sd and sdxl have these shapes.*choose variant=sd or variant=sdxl$"):
            recognise(shapes, "somewhere")
    found = recognise(shapes, "somewhere", answers={"variant": variant})
    assert (found.architecture, found.variant, found.spec) == ("image_vae", variant, spec)
    assert str(image_vae.variants[variant]["scale"]) in found.assumed


@pytest.mark.parametrize("case", parity.cases("image_vae"))
def test_layouts_are_those_of_the_published_options(case: parity.Case) -> None:
    if case.data["kind"] != "model":
        return  # a part of a model
    wanted = image_vae(**published_fields(case.config))
    found = layout(case.names, "compvis" if "ddconfig" in case.config else "diffusers")
    groups = case.config.get("norm_num_groups", 32)
    if case.config.get("act_fn", "silu") == "silu" and not case.config.get("ddconfig", {}).get("tanh_out"):
        made = image_vae(**found, groups=groups)
        assert (made.encoder, made.decoder) == (wanted.encoder, wanted.decoder)


def without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in released(small(), "compvis").items() if key != name}


WRONG = {
    "missing": ("decoder.conv_in.weight", "nearest is image_vae with 123 of 123 tensor names"),
    "missing_inside": ("encoder.mid.block_1.norm1.bias", "temporal factor 1: 1 missing: encoder.mid.block_1"),
    "queries": ("encoder.mid.attn_1.q.weight", "nearest is image_vae"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_whole_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    gone, message = WRONG[name]
    checkpoint.write_file(tmp_path / "x.safetensors", without(gone), {})
    with pytest.raises(CheckpointError) as caught:
        from_published(tmp_path / "x.safetensors", variant="sd")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"groups": 8}, {"act": ReLUSpec()}, {"tanh_out": True}], ids=str)
def test_what_no_tensor_tells_is_not_exported_as_a_release(fields: dict[str, Any], tmp_path: Path) -> None:
    small(**fields).build().save(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="no image_vae as released"):
        as_published(tmp_path / "own.safetensors")
