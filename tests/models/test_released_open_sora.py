"""Released Open-Sora VAEs and their parts: recognised, converted, and exported again."""

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
from vvae import CheckpointError, VideoAutoencoderSpec, checkpoint
from vvae.arch.open_sora import AT_ONCE, open_sora, published_fields, renames
from vvae.models.recognise import recognise, shapes_of
from vvae.models.released import as_published, from_published
from vvae.models.sora_layout import layout
from vvae.published.renames import to_published
from vvae.published.table import published_shapes
from vvae.scaling import Affine

SMALL: dict[str, Any] = {"width": 32, "blocks": 1, "spatial": {"widths": (32, 32), "blocks": 1}}
SHIFT, SCALE = (-0.10, 0.34, 0.27, 0.98), (3.85, 2.32, 2.33, 3.06)
CONFIG = {"model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17, "shift": SHIFT, "scale": SCALE}


def released(spec: VideoAutoencoderSpec, **buffers: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return to_published(renames(spec), spec.build().state_dict(), buffers)


def whole(shift: tuple[float, ...] = SHIFT) -> dict[str, Tensor]:
    buffers = {"shift": torch.tensor(shift), "scale": torch.tensor(SCALE)}
    return released(open_sora(**SMALL), **{name: value.view(1, 4, 1, 1, 1) for name, value in buffers.items()})


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    checkpoint.write_file(folder / "x.safetensors", tensors, {})
    return folder / "x.safetensors"


@pytest.mark.parametrize("shift", [SHIFT, (0.5, 0.25, -0.125, 2.0)])
def test_the_whole_is_read_with_the_numbers_that_it_holds(shift: tuple[float, ...], tmp_path: Path) -> None:
    done = from_published(write(tmp_path, whole(shift)), micro_frames=17)
    spec = done.recognised.spec
    assert spec.framing == open_sora("v1_2").framing
    assert (spec.encoder, spec.decoder) == tuple(
        getattr(open_sora(**SMALL, at_once=AT_ONCE), p) for p in ("encoder", "decoder")
    )
    assert isinstance(spec.latent, Affine)
    assert torch.equal(torch.tensor(spec.latent.shift), torch.tensor(shift))
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, spec.to_json())
    assert vvae.load(tmp_path / "own.safetensors").spec == spec
    assert same(as_published(tmp_path / "own.safetensors").tensors, whole(shift))


def test_a_new_whole_is_exported_with_tensors_for_its_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    open_sora("v1_2", **SMALL).build().save(tmp_path / "new.safetensors")
    assert same(as_published(tmp_path / "new.safetensors").tensors, whole())


@pytest.mark.parametrize("component", ["temporal", "spatial"])
def test_parts_are_read_and_exported(component: str, tmp_path: Path) -> None:
    spec = open_sora(**SMALL, component=component, at_once=AT_ONCE)
    spec.build().save(tmp_path / "own.safetensors")
    exported = as_published(tmp_path / "own.safetensors")
    assert exported.tensors.keys() == released(spec).keys()
    if component == "temporal":
        done = from_published(write(tmp_path, dict(exported.tensors)))
        assert (done.recognised.spec.encoder, done.recognised.spec.latent) == (spec.encoder, spec.latent)


def test_the_length_of_pieces_is_asked_for_and_a_config_tells_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"choose micro_frames=17 or micro_frames=none or another number"):
        from_published(write(tmp_path, whole()))
    lengths = {"none": None, 5: 5, 17: 17}
    for answer, piece in lengths.items():
        found = from_published(tmp_path / "x.safetensors", micro_frames=answer)
        assert found.recognised.spec.framing.piece == piece
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert from_published(tmp_path).recognised.spec.framing.piece == 17


def test_the_release_itself_is_recognised() -> None:
    spec = open_sora("v1_2")
    shapes = {**published_shapes(renames(spec), shapes_of(spec)), "shift": (1, 4, 1, 1, 1), "scale": (1, 4, 1, 1, 1)}
    found = recognise(shapes, "somewhere", answers={"variant": "v1_2"})
    assert (found.architecture, found.variant, found.spec) == ("open_sora", "v1_2", spec)
    temporal = open_sora("v1_2_temporal")
    found = recognise(published_shapes(renames(temporal), shapes_of(temporal)), "somewhere")
    assert (found.variant, found.spec) == ("v1_2_temporal", temporal)


@pytest.mark.parametrize("case", parity.cases("open_sora"))
def test_layouts_are_those_of_the_published_options(case: parity.Case) -> None:
    if not any("conv_in" in name for name in case.names):
        return  # a part of a model
    wanted = published_fields(case.config)
    found = layout(case.names, wanted["component"])
    for name in {"groups", "act", "at_once"} & wanted.keys():  # no tensor tells them
        found[name] = wanted[name]
    if "groups" in wanted["spatial"]:
        found["spatial"] = {**found["spatial"], "groups": wanted["spatial"]["groups"]}
    made, meant = open_sora(**found), open_sora(**wanted)
    assert (made.encoder, made.decoder) == (meant.encoder, meant.decoder)
