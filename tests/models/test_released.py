"""Released checkpoints: recognised from their tensors alone, converted, and exported again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vvae
from tests import parity
from tests.models.tiny import tiny_model
from vvae import CheckpointError, checkpoint
from vvae.arch.iv_vae import VARIANTS, iv_vae, published_fields, renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.checkpoint import EXTRAS
from vvae.models.iv_layout import layout
from vvae.models.recognise import recognise, shapes_of
from vvae.models.released import as_published, from_published, load_published
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

SMALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {"width": 6, "latent_channels": 8},
    "blocks": {"blocks": 1},
    "multipliers": {"multipliers": (1, 1, 2, 3)},
    "levels": {"multipliers": (1, 2, 2), "temporal": (True, True)},
    "in_time": {"temporal": (False, False, True)},
    "images": {"temporal": (False, False, False)},
    "attention": {"encoder_attention": (2, 3), "decoder_attention": (0, 1)},
}


def small(name: str = "plain") -> VideoAutoencoderSpec:
    fields = {"width": 4, "latent_channels": 4, **SMALL[name]}
    return iv_vae(**fields, grouping="published", scale=1.3196, shift=0.125)


@cache
def released(spec: VideoAutoencoderSpec) -> Mapping[str, Tensor]:
    """A state dict under its published names."""
    torch.manual_seed(0)
    return to_published(renames(spec), spec.build().state_dict())


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def convert(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    checkpoint.write_file(folder / "any_name.safetensors", tensors, {})
    done = from_published(folder / "any_name.safetensors", variant="z4_dim64")
    checkpoint.save_weights(folder / "own.safetensors", done.tensors, done.recognised.spec.to_json())
    return folder / "own.safetensors"


def test_half_precision_goes_there_and_back_too(tmp_path: Path) -> None:
    published = {key: tensor.bfloat16() for key, tensor in released(small()).items()}
    own = convert(published, tmp_path)
    assert same(as_published(own).tensors, published)
    vvae.load(own)


@pytest.mark.parametrize("name", SMALL)
def test_there_and_back_is_bit_for_bit(name: str, tmp_path: Path) -> None:
    """And between, the model computes what the published one does."""
    spec = small(name)
    published, clip = released(spec), torch.rand(1, 3, 5, 16, 16) * 2 - 1
    torch.manual_seed(0)
    original = spec.build()
    own = convert(published, tmp_path)
    assert same(as_published(own).tensors, published)
    found = vvae.load(own)
    assert same(dict(found.state_dict()), dict(original.state_dict()))
    with torch.no_grad():
        assert torch.equal(found(clip), original(clip))
    assert found.spec.latent == spec.latent


@pytest.mark.parametrize("variant", VARIANTS)
def test_releases_are_recognised_by_shapes_alone(variant: str) -> None:
    spec = iv_vae(variant)
    found = recognise(published_shapes(renames(spec), shapes_of(spec)), "somewhere")
    assert (found.variant, found.spec) == (variant, spec)
    assert str(VARIANTS[variant]["scale"]) in found.assumed


def test_published_shapes_of_the_releases_are_recognised() -> None:
    for name, known in parity.full_keys("iv_vae").items():
        found = recognise(known["names"], name)
        assert name.endswith(found.variant)


@pytest.mark.parametrize("case", parity.cases("iv_vae"))
def test_layouts_are_those_of_the_published_options(case: parity.Case) -> None:
    if "conv2.conv_2d.weight" not in case.names or "encoder.conv1.conv_2d.weight" not in case.names:
        return  # a part of a model
    wanted, found = published_fields(case.config), layout(case.names)
    assert found == {name: wanted[name] for name in found}


@pytest.mark.parametrize("form", ["pth", "wrapped", "prefixed", "safetensors", "folder", "shards", "folder_of_pth"])
def test_every_form_of_file_loads(form: str, tmp_path: Path) -> None:
    tensors, place = released(small()), tmp_path / "checkpoint"
    if form == "wrapped":
        torch.save({"state_dict": tensors}, place)
    elif form == "prefixed":
        torch.save({f"module.vae.{name}": tensor for name, tensor in tensors.items()}, place)
    elif form == "pth":
        torch.save(tensors, place)
    elif form == "safetensors":
        place = place.with_suffix(".safetensors")
        checkpoint.write_file(place, tensors, {})
    else:
        place.mkdir()
        (place / "config.json").write_text("{}")
        names = sorted(tensors)
        if form == "folder_of_pth":
            torch.save(tensors, place / "model.pth")
        for i, part in enumerate(
            [names] if form == "folder" else [names[::2], names[1::2]] if form == "shards" else []
        ):
            checkpoint.write_file(place / f"{i}.safetensors", {name: tensors[name] for name in part}, {})
    assert same(dict(load_published("iv_vae", place, variant="z4_dim64").state_dict()), dict(_own(tensors)))


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from vvae.published.renames import to_own

    return to_own(renames(small()), tensors, shapes_of(small()))[0]


def test_every_tensor_is_told_once(tmp_path: Path) -> None:
    checkpoint.write_file(tmp_path / "x.safetensors", tensors := released(small("images")), {})
    done = from_published(tmp_path / "x.safetensors", variant="z4_dim64")
    assert sum(kind.count for kind in done.kinds) == len(done.tensors) == len(tensors)
    assert {kind.done for kind in done.kinds} == {"renamed", "reshaped, axes of 1 dropped"}


def test_tensors_kept_for_export_are_no_part_of_the_model(tmp_path: Path) -> None:
    model = tiny_model()
    extras = {f"{EXTRAS}decoder.unused.weight": torch.ones(2)}
    checkpoint.save_weights(tmp_path / "x.safetensors", {**model.state_dict(), **extras}, model.spec.to_json())
    assert same(dict(vvae.load(tmp_path / "x.safetensors").state_dict()), dict(model.state_dict()))


def without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in released(small()).items() if key != name}


WRONG = {
    "foreign": ({"layer1.weight": torch.zeros(2)}, "nearest is iv_vae with 0 of 1"),
    "missing": (without("conv2.conv_2d.weight"), "conv2.conv_2d.weight"),
    "missing_inside": (without("encoder.middle.0.residual.2.conv.weight"), "1 missing: encoder.middle.0"),
    "too_many": ({**released(small()), "discriminator.weight": torch.zeros(2)}, "discriminator.weight"),
    "misshapen": ({**released(small()), "decoder.conv1.conv.bias": torch.zeros(3)}, "decoder.conv1.conv.bias is 3"),
    "no_release": (released(small()), "choose variant=z4_dim64, "),
    "odd": ({**released(small()), "conv2.conv_2d.weight": torch.zeros(2, 3, 1, 1)}, "nearest is iv_vae"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_known_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    tensors, message = WRONG[name]
    checkpoint.write_file(tmp_path / "x.safetensors", tensors, {})
    with pytest.raises(CheckpointError) as caught:
        from_published(tmp_path / "x.safetensors", **({} if name == "no_release" else {"variant": "z4_dim64"}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_without_a_release_are_refused(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "own.safetensors")
    (tmp_path / "empty").mkdir()
    for place, message in (("own.safetensors", "already"), ("empty", "holds no"), ("absent.pth", "no such file")):
        with pytest.raises(CheckpointError, match=message):
            from_published(tmp_path / place)
    checkpoint.write_file(tmp_path / "x.safetensors", released(small()), {})
    with pytest.raises(CheckpointError, match="z5_dim64"):
        from_published(tmp_path / "x.safetensors", variant="z5_dim64")


def test_models_without_published_names_are_not_exported(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="no published names"):
        as_published(tmp_path / "own.safetensors")
    iv_vae(width=4, multipliers=(1, 2), temporal=(True,)).build().save(tmp_path / "derived.safetensors")
    with pytest.raises(CheckpointError, match="would compute another"):
        as_published(tmp_path / "derived.safetensors")
