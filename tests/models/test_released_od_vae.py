"""Released OD-VAEs: recognised by names and shapes, asked for what these do not tell, and exported again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vvae
from tests import parity
from tests.models.test_released import same
from vvae import CheckpointError, checkpoint
from vvae.arch.od_vae import ODVAEFields, od_vae, od_vae_streaming
from vvae.arch.od_vae_names import flat_layers, published_fields, renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.od_layout import layout
from vvae.models.recognise import recognise, shapes_of
from vvae.models.released import as_published, from_published
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

UNTOLD = ("encoder_time", "decoder_time", "encoder_attend", "decoder_attend")
"""What tensors do not tell, or not always."""


def small(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    return od_vae(variant, **{"width": 32, "multipliers": (1, 1, 2, 2), "blocks": 1, **fields})


def released(spec: VideoAutoencoderSpec) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return to_published(renames(spec), spec.build().state_dict())


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    checkpoint.write_file(folder / "x.safetensors", tensors, {})
    return folder / "x.safetensors"


def test_releases_are_recognised_but_the_first_must_be_named() -> None:
    for variant in od_vae.variants:
        spec = od_vae(variant)
        shapes = published_shapes(renames(spec), shapes_of(spec))
        assert recognise(shapes, "somewhere", answers={"variant": variant}).spec == spec
        if variant != "v1_0":
            assert recognise(shapes, "somewhere").spec == spec
    shapes = published_shapes(renames(od_vae("v1_0")), shapes_of(od_vae("v1_0")))
    with pytest.raises(CheckpointError, match=r"frame rate halves .*: choose levels=0,1 or levels=1,2$"):
        recognise(shapes, "somewhere")
    assert recognise(shapes, "somewhere", answers={"levels": "0,1"}).spec == od_vae("v1_0")
    other = recognise(shapes, "somewhere", answers={"levels": "1,2"}).spec
    assert other.encoder == od_vae("v1_0", encoder_time=(None, "linear", "linear", None)).encoder


@pytest.mark.parametrize("release", ["v1.0", "v1.1", "v1.2", "v1.2_D8"])
def test_a_config_tells_what_tensors_do_not(release: str) -> None:
    known = parity.full_keys("od_vae")[release]
    shapes = {name: tuple(shape) for name, shape in known["names"].items()}
    found = recognise(shapes, "somewhere", config=known["config"]).spec
    wanted = od_vae(**published_fields(known["config"]))
    assert (found.encoder, found.decoder, found.latent) == (wanted.encoder, wanted.decoder, wanted.latent)


@pytest.mark.parametrize("variant", list(od_vae.variants))
def test_other_sizes_take_from_the_release_that_is_named(variant: str, tmp_path: Path) -> None:
    spec = small(variant)
    path = write(tmp_path, released(spec))
    with pytest.raises(CheckpointError, match=r"no tensor tells .*: choose "):
        from_published(path)
    done = from_published(path, variant=variant)
    assert (done.recognised.spec.encoder, done.recognised.spec.decoder) == (spec.encoder, spec.decoder)
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, done.recognised.spec.to_json())
    torch.manual_seed(0)
    assert same(dict(vvae.load(tmp_path / "own.safetensors").state_dict()), dict(spec.build().state_dict()))
    assert same(dict(as_published(tmp_path / "own.safetensors").tensors), released(spec))


def test_a_folder_with_its_config_needs_no_answer(tmp_path: Path) -> None:
    write(tmp_path, released(small("v1_0")))
    config = {**parity.full_keys("od_vae")["v1.0"]["config"], "_class_name": "CausalVAEModel", "unheard_of": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert from_published(tmp_path).recognised.spec.encoder == small("v1_0").encoder


@pytest.mark.parametrize("case", parity.cases("od_vae"))
def test_layouts_are_those_of_the_published_options(case: parity.Case) -> None:
    if case.data["kind"] != "model" or case.data["release"] == "main":
        return  # a part of a model, or a size that changes behind the encoder's last level
    given = ODVAEFields(**published_fields(case.config))
    found = layout({name: tuple(shape) for name, shape in case.names.items()})
    assert {name: getattr(given, name) for name in found} == found
    spec = od_vae(**{**found, **{name: getattr(given, name) for name in UNTOLD}})
    wanted = od_vae(**published_fields(case.config))
    assert (spec.encoder, spec.decoder) == (wanted.encoder, wanted.decoder)
    assert renames(spec) == renames(spec, flat_layers(case.config))


@pytest.mark.parametrize("name", ["decoder.up.2.time_upsample.conv.conv.bias", "encoder.mid.attn_1.k.conv.weight"])
def test_what_is_not_whole_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, {key: tensor for key, tensor in released(small("v1_1")).items() if key != name})
    with pytest.raises(CheckpointError, match=rf"od_vae.*1 missing: {name}") as caught:
        from_published(path, "od_vae", variant="v1_1")
    assert "\n" not in str(caught.value)


def test_the_model_that_streams_is_not_exported_as_a_release(tmp_path: Path) -> None:
    spec = od_vae_streaming("v1_2", width=32, multipliers=(1, 1, 2, 2), blocks=1)
    spec.build().save(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="no od_vae as released"):
        as_published(tmp_path / "own.safetensors")
