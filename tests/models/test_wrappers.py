"""What stands around a model's tensors is taken away by names alone, and told."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vvae import CheckpointError
from vvae.models.wrappers import PREFIXES, LeftOut, bare, without_infixes

NAMES = ("encoder.conv_in.weight", "decoder.conv_out.bias", "quant_conv.weight")
OF_A_MODEL = {name: torch.full((2,), float(i)) for i, name in enumerate(NAMES)}
TRAINING = {
    "loss.discriminator.main.0.weight": "the training loss",
    "loss.logvar": "the training loss",
    "model_ema.encoderconv_inweight": "moving averages of the weights",
    "encoder_ema.conv_in.weight": "moving averages of the weights",
    "decoder.up_ema.0.weight": "moving averages of the weights",
    "optimizer.state.0": "an optimizer",
    "moment1.encoder.conv_in.weight": "an optimizer",
    "global_step": "an optimizer",
}
OTHER_MODELS = ("model.diffusion_model.out.2.weight", "cond_stage_model.transformer.weight", "betas", "alphas_cumprod")


@given(prefixes=st.lists(st.sampled_from(PREFIXES), max_size=4), training=st.sets(st.sampled_from(sorted(TRAINING))))
def test_prefixes_and_training_go_in_any_order(prefixes: list[str], training: set[str]) -> None:
    before = "".join(prefixes)
    found = bare({f"{before}{name}": torch.zeros(1) for name in (*NAMES, *training)})
    assert set(found.tensors) == set(NAMES)
    assert found.prefix == before
    assert sum(left.count for left in found.left_out) == len(training)
    assert {left.what for left in found.left_out} == {TRAINING[name] for name in training}


def test_tensors_stay_the_same_objects() -> None:
    found = bare({f"module.{name}": tensor for name, tensor in OF_A_MODEL.items()})
    assert all(found.tensors[name] is tensor for name, tensor in OF_A_MODEL.items())


@pytest.mark.parametrize("part", ["first_stage_model.", "vae."])
def test_a_file_of_a_whole_diffusion_model_is_cut_to_the_autoencoder(part: str) -> None:
    whole = {f"{part}{name}": tensor for name, tensor in OF_A_MODEL.items()}
    found = bare({**dict.fromkeys((*OTHER_MODELS, "model_ema.decay"), torch.zeros(1)), **whole})
    assert dict(found.tensors) == OF_A_MODEL
    assert found.prefix == part
    assert LeftOut("model.", "another model", 1) in found.left_out
    assert LeftOut("others", "another model", 2) in found.left_out
    assert LeftOut("model_ema.", "moving averages of the weights", 1) in found.left_out


@pytest.mark.parametrize(
    "name", ["lossy.weight", "encoder.loss.weight", "schema.weight", "encoder.ema.weight", "discriminator.weight"]
)
def test_what_only_looks_like_training_stays(name: str) -> None:
    found = bare({**OF_A_MODEL, name: torch.zeros(1)})
    assert set(found.tensors) == {*NAMES, name}
    assert not found.left_out


def test_nothing_is_left_of_training_alone() -> None:
    assert not bare(dict.fromkeys(TRAINING, torch.zeros(1))).tensors


def test_infixes_go_wherever_they_stand() -> None:
    named = ("autoencoder.encoder._backbone.conv.weight", "encoder.norm.gamma", "_backbone.decoder.conv.bias")
    found = without_infixes({name: torch.zeros(1) for name in named}, "x.ckpt")
    assert list(found) == ["encoder.conv.weight", "encoder.norm.gamma", "decoder.conv.bias"]
    with pytest.raises(CheckpointError, match=r"x\.ckpt: a\.w and autoencoder\.a\.w are both a\.w"):
        without_infixes({"a.w": torch.zeros(1), "autoencoder.a.w": torch.zeros(1)}, "x.ckpt")
