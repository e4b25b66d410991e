"""Released Reducio-VAEs: recognised, converted, and exported again."""

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
from vvae.arch.reducio import reducio
from vvae.arch.reducio_names import published_fields, renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.recognise import recognise, shapes_of
from vvae.models.reducio_layout import layout
from vvae.models.released import as_published, from_published, load_published
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

SMALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "two_halvings": {"time_halvings": 2, "space_halvings": 1},
    "blocks": {"blocks": 2, "content_blocks": 3},
    "late": {"late": True},
    "long": {"frames": 32},
    "no_fusion_in_levels": {"fuse": (None, None, None)},
    "no_positions": {"positions": None},
    "other_widths": {"decoder_widths": (64, 64, 32), "stem": 64, "content_stem": 64, "inner_channels": 5},
}


def small(**fields: Any) -> VideoAutoencoderSpec:
    own = {"widths": (32, 32, 64), "blocks": 1, "latent_channels": 3, "time_halvings": 1, "fuse": (None, 1, None)}
    content = {"content_widths": (32, 64), "content_blocks": 1}
    return reducio(**{**own, **content, **fields})


def released(spec: VideoAutoencoderSpec) -> dict[str, Tensor]:
    """With what the published code throws away."""
    torch.manual_seed(0)
    unused = {"encoder_2d.norm_out.weight": torch.ones(64), "encoder_2d.mid.block_2.norm1.bias": torch.ones(64)}
    return to_published(renames(spec), spec.build().state_dict(), unused)


@pytest.mark.parametrize("name", SMALL)
def test_a_release_becomes_the_same_model_and_goes_back(name: str, tmp_path: Path) -> None:
    spec = small(**SMALL[name])
    checkpoint.write_file(tmp_path / "x.safetensors", released(spec), {})
    done = from_published(tmp_path / "x.safetensors", variant="ft4")
    found = done.recognised.spec
    assert (found.encoder, found.decoder, found.content) == (spec.encoder, spec.decoder, spec.content)
    assert (found.framing, found.posterior, found.latent) == (spec.framing, spec.posterior, spec.latent)
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, found.to_json())
    torch.manual_seed(0)
    assert same(dict(vvae.load(tmp_path / "own.safetensors").state_dict()), dict(spec.build().state_dict()))
    assert same(as_published(tmp_path / "own.safetensors").tensors, released(spec))


@pytest.mark.parametrize("variant", list(reducio.variants))
def test_layout_gives_the_fields_of_each_release(variant: str) -> None:
    spec = reducio(variant)
    shapes = published_shapes(renames(spec), shapes_of(spec))
    assert reducio(**layout(shapes), name=spec.name) == spec
    found = recognise(shapes, "it")
    assert (found.architecture, found.variant) == ("reducio", variant)


def test_configuration_beside_the_weights_is_read(tmp_path: Path) -> None:
    spec = small()
    checkpoint.write_file(tmp_path / "x.safetensors", released(spec), {})
    (tmp_path / "config.json").write_text(json.dumps({"embed_dim": 3, "use_tiling": True}))
    assert load_published("reducio", tmp_path, variant="ft2").spec.decoder == spec.decoder
    (tmp_path / "config.json").write_text(json.dumps({"embed_dim": 4}))
    with pytest.raises(CheckpointError, match="latent_channels"):
        load_published("reducio", tmp_path, variant="ft2")


def test_configuration_of_a_release_gives_its_fields() -> None:
    known = parity.full_keys("reducio")["reducio-ft2-fs32-attn23"]
    fields = published_fields(known["config"])
    shapes = {name: tuple(shape) for name, shape in known["names"].items()}
    assert layout(shapes).items() <= fields.items()


@pytest.mark.parametrize("missing", ["encoder_3d.conv_in.weight", "decoder.up.1.fuse.0.attn.to_k.weight"])
def test_what_lacks_a_tensor_is_told(missing: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in released(small()).items() if name != missing}
    checkpoint.write_file(tmp_path / "x.safetensors", tensors, {})
    with pytest.raises(CheckpointError, match=missing):
        from_published(tmp_path / "x.safetensors", variant="ft4")


def test_unknown_tensors_are_refused(tmp_path: Path) -> None:
    checkpoint.write_file(tmp_path / "x.safetensors", {**released(small()), "encoder_2d.more": torch.ones(2)}, {})
    with pytest.raises(CheckpointError, match=r"encoder_2d\.more"):
        from_published(tmp_path / "x.safetensors", variant="ft4")
