"""The file that MindSpore wrote becomes a model, once its padding is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import parity
from tests.models.test_released import same
from vvae import CheckpointError, checkpoint
from vvae.arch.tae import VARIANTS, renames, tae
from vvae.models.released import as_published, from_published, load_published
from vvae.published.mindspore import read_ckpt


def written_by_mindspore() -> Path:
    if not parity.FOLDER.exists():
        pytest.skip("no parity files")
    return parity.stored_file("tae", "mindspore_format.ckpt")


@pytest.mark.parametrize("padding", list(VARIANTS))
def test_file_of_mindspore_becomes_a_model(padding: str) -> None:
    model = load_published("tae", written_by_mindspore(), padding=padding)
    spec = tae(padding, widths=(32, 32), blocks=0, latent_channels=4, temporal_down=(0,), temporal_up=(1,))
    assert (model.spec.encoder, model.spec.decoder, model.spec.latent) == (spec.encoder, spec.decoder, spec.latent)
    weight = read_ckpt(written_by_mindspore())["encoder.conv_in.conv_temp.weight"]
    assert torch.equal(model.state_dict()["encoder.conv_in.time.weight"].reshape(weight.shape), weight)


def test_padding_must_be_said_and_the_error_lists_the_choices() -> None:
    with pytest.raises(CheckpointError, match=r"choose padding=zero, padding=replicate or padding=tail$"):
        load_published("tae", written_by_mindspore())


def test_file_of_mindspore_there_and_back_is_the_same(tmp_path: Path) -> None:
    path = written_by_mindspore()
    done = from_published(path, padding="zero")
    assert done.recognised.architecture == "tae"
    checkpoint.save_weights(tmp_path / "own.safetensors", done.tensors, done.recognised.spec.to_json())
    assert same(as_published(tmp_path / "own.safetensors").tensors, read_ckpt(path))
    assert any("temb_proj" in name for name in done.tensors)
    assert renames(done.recognised.spec) == done.recognised.table
