"""Models in files: saved, loaded, and refused where they are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vvae
from vvae import CheckpointError, checkpoint, verify
from vvae.arch import iv_vae
from vvae.autoencoder import VideoAutoencoder


@pytest.fixture
def model() -> VideoAutoencoder:
    torch.manual_seed(0)
    return iv_vae(width=2, latent_channels=2, blocks=1).build()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_saved_model_comes_back_bit_for_bit(model: VideoAutoencoder, tmp_path: Path, dtype: torch.dtype) -> None:
    model = model.to(dtype)
    verify.check_saved(model, torch.rand(1, 3, 5, 8, 8, dtype=dtype))
    model.save(tmp_path / "model.safetensors")
    for place in (tmp_path / "model.safetensors", str(tmp_path / "model.safetensors"), tmp_path):
        back = vvae.load(place)
        assert back.spec == model.spec
        assert not back.training
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in back.state_dict().items())
        assert back.state_dict().keys() == model.state_dict().keys()


def test_half_precision_files_load_wide_unless_asked(model: VideoAutoencoder, tmp_path: Path) -> None:
    model.bfloat16().save(tmp_path / "half.safetensors")
    assert next(vvae.load(tmp_path / "half.safetensors").parameters()).dtype == torch.float32
    same = vvae.load(tmp_path / "half.safetensors", dtype=torch.bfloat16)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in same.state_dict().items())


def test_a_partial_file_is_refused_by_the_names_that_differ(model: VideoAutoencoder, tmp_path: Path) -> None:
    tensors = dict(model.state_dict())
    weight = tensors.pop("encoder.conv_in.motion.weight")
    tensors["encoder.conv_in.motion.wieght"] = weight
    tensors["decoder.conv_in.bias"] = tensors["decoder.conv_in.bias"][:1]
    checkpoint.save_weights(tmp_path / "part.safetensors", tensors, model.spec.to_json())
    with pytest.raises(CheckpointError) as caught:
        vvae.load(tmp_path / "part.safetensors")
    told = str(caught.value)
    assert "\n" not in told
    for name in ("encoder.conv_in.motion.weight", "encoder.conv_in.motion.wieght", "decoder.conv_in.bias"):
        assert name in told


def test_a_flipped_byte_is_found(model: VideoAutoencoder, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    model.save(file)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        vvae.load(file)


def test_a_spec_of_a_newer_format_is_refused_by_version(model: VideoAutoencoder, tmp_path: Path) -> None:
    newer = model.spec.to_json().replace('"format":1', '"format":7')
    checkpoint.save_weights(tmp_path / "newer.safetensors", model.state_dict(), newer)
    with pytest.raises(CheckpointError, match="format 7"):
        vvae.load(tmp_path / "newer.safetensors")


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vvae-small"):
        vvae.load("vvae-smal")
    with pytest.raises(CheckpointError, match="holds 0"):
        vvae.load(tmp_path)
    with pytest.raises(CheckpointError):
        vvae.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(CheckpointError):
        vvae.load(tmp_path / "text.safetensors")
