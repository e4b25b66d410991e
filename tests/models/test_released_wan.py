"""Released VAEs of Wan: recognised under each naming, with what a config.json tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vvae import CheckpointError, checkpoint
from vvae.arch.wan import NAMINGS, WanFields, renames, wan
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.recognise import recognise, shapes_of
from vvae.models.released import as_published, from_published
from vvae.models.wan_layout import KEYS, layout, stated
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

CONFIG = {"_class_name": "AutoencoderKLWan", "base_dim": 4, "num_res_blocks": 1, "z_dim": 16}
FIELDS: tuple[dict[str, Any], ...] = (
    {"decoder_width": 6, "latent_channels": 3},
    {"multipliers": (1, 3, 2), "temporal": (True, False), "channels": 1},
    {"multipliers": (2,), "temporal": (), "blocks": 3},
)
every_naming = pytest.mark.parametrize("naming", NAMINGS)


def small(**fields: Any) -> VideoAutoencoderSpec:
    return wan(**{"width": 4, "blocks": 1, **fields})


def write(folder: Path, spec: VideoAutoencoderSpec, naming: str = "diffusers", without: str = "") -> Path:
    torch.manual_seed(0)
    tensors = to_published(renames(spec, naming), spec.build().state_dict())
    tensors.pop(without, None)
    checkpoint.write_file(folder / "x.safetensors", tensors, {})
    return folder / "x.safetensors"


@every_naming
@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_tensors_tell_all_fields_but_the_scaling(fields: dict[str, Any], naming: str) -> None:
    spec = small(**fields)
    given = WanFields(**{"width": 4, "blocks": 1, **fields})
    found = layout(published_shapes(renames(spec, naming), shapes_of(spec)), naming)
    wanted = {name: getattr(given, name) for name in found}
    assert found == {**wanted, "decoder_width": given.decoder_width or given.width}
    untold = WanFields.model_fields.keys() - found.keys()
    assert untold == {"name", "shift", "scale", "clamp"}


@every_naming
def test_release_is_recognised_by_its_tensors_alone(naming: str) -> None:
    spec = wan("2.1")
    found = recognise(published_shapes(renames(spec, naming), shapes_of(spec)), "somewhere")
    assert (found.variant, found.spec, found.naming) == ("2.1", spec, naming)


def test_other_sizes_take_their_scaling_from_the_release_or_a_config(tmp_path: Path) -> None:
    path = write(tmp_path, small())
    with pytest.raises(CheckpointError, match=r"no tensor tells .*choose variant=2\.1$"):
        from_published(path)
    assert from_published(path, variant="2.1").recognised.spec.latent == wan("2.1").latent
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "latents_mean": [0.5] * 16, "latents_std": [2] * 16}))
    found = from_published(path).recognised.spec.latent
    assert found == wan(shift=(0.5,) * 16, scale=(0.5,) * 16).latent


def test_a_config_says_what_its_keys_say() -> None:
    config = {"base_dim": 8, "latents_mean": [1.0], "unheard_of": 1}
    assert stated(config) == {"width": 8, "shift": (1.0,)}
    assert stated({**config, "_class_name": "AutoencoderKL"}) == {}
    assert stated({**CONFIG}).keys() == set(KEYS.values())


@pytest.mark.parametrize("more", [{"is_residual": True}, {"patch_size": 2}, {"attn_scales": [0.5]}], ids=str)
def test_a_config_of_another_network_is_refused(more: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path, small())
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **more}))
    with pytest.raises(CheckpointError, match="makes another network") as caught:
        from_published(path)
    assert "\n" not in str(caught.value)


@every_naming
def test_what_is_not_whole_is_refused_in_one_line(naming: str, tmp_path: Path) -> None:
    name = next(row.sources[0] for row in renames(small(), naming) if row.own == "decoder.latent.bias")
    with pytest.raises(CheckpointError, match=rf"wan.*1 missing: {name}") as caught:
        from_published(write(tmp_path, small(), naming, without=name), "wan", variant="2.1")
    assert "\n" not in str(caught.value)


def test_a_model_without_the_clamp_is_not_exported_as_a_release(tmp_path: Path) -> None:
    small(clamp=False).build().save(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="no wan as released"):
        as_published(tmp_path / "own.safetensors")
