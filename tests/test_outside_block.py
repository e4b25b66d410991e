"""A block from outside stands wherever a built-in one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import vvae
from tests.outside_block import MovingAverage, MovingAverageSpec
from vvae import Signal, StreamStep
from vvae.arch import iv_vae
from vvae.context import module_names
from vvae.layers import ResidualSpec, chain
from vvae.spec import layer_from_json
from vvae.verify import check_checkpointing, check_reach, check_stateless, check_stream, check_traced, random_clip

SIGNAL = Signal(3, lead=1, group=2)
SPEC = MovingAverageSpec(length=3)
PLACE = "decoder.level1.block0.act_a"


def model() -> vvae.VideoAutoencoder:
    """A small IV-VAE with the block in place of an activation."""
    torch.manual_seed(0)
    spec = iv_vae(width=4, latent_channels=2, multipliers=(1, 2), temporal=(True,), blocks=1)
    return spec.replace_at(PLACE, SPEC).build().double()


def test_outside_block_states_its_shape_and_reach() -> None:
    check_traced(SPEC, SIGNAL, [(1, 2, 3), (5, 4, 2)])
    module = SPEC.build(SIGNAL).double()
    check_reach(module, SPEC.reach(SIGNAL, 7), random_clip(SIGNAL, 7, 2, 2))


def test_outside_block_streams_with_its_gradients() -> None:
    module, clip = SPEC.build(SIGNAL).double(), random_clip(SIGNAL, 7, 2, 2)
    check_stream(module, SIGNAL, clip, [[3], [0, 1, 1, 1], [-1, 0, 0, 2, 1, 0], [1, 2]])
    check_checkpointing(module, clip, signal=SIGNAL, plan=[0, 1, 2])
    check_stateless(module, clip)


def test_outside_block_keeps_no_more_than_it_needs() -> None:
    module = SPEC.build(SIGNAL).double()
    step = StreamStep(module_names(module))
    module(random_clip(SIGNAL, 7, 2, 2), step)
    (kept,) = step.close()[""]
    assert kept.shape == (1, 3, SPEC.length - 1, 2, 2)


def test_outside_block_stands_in_composites() -> None:
    spec = chain(mean=SPEC, block=ResidualSpec(layers={"again": SPEC}))
    module, clip = spec.build(SIGNAL).double(), random_clip(SIGNAL, 7, 2, 2)
    check_reach(module, spec.reach(SIGNAL, 7), clip)
    check_stream(module, SIGNAL, clip, [[0, 1, 2]])
    assert layer_from_json(spec.to_json()) == spec


def test_outside_block_stands_in_a_model() -> None:
    built = model()
    assert isinstance(built.get_submodule(PLACE), MovingAverage)
    spec, clip = built.spec, random_clip(built.spec.pixels, 9, 4, 4)
    latents = built.encode(clip).mode()
    check_reach(built.decoder, spec.dependency(9, "decode"), latents.detach())
    whole = built.decode(latents)
    frames = torch.cat(list(built.decode_stream(latents.split(1, 2))), 2)
    assert (frames - whole).abs().max() <= 1e-12 * whole.abs().max()
    whole.square().sum().backward()
    weight = built.get_submodule(PLACE).weight
    assert isinstance(weight, torch.nn.Parameter)
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0


def test_outside_block_is_saved_and_loaded(tmp_path: Path) -> None:
    built, path = model(), tmp_path / "model.safetensors"
    built.save(path)
    again = vvae.load(path)
    clip = random_clip(built.spec.pixels, 5, 4, 4)
    assert again.spec == built.spec
    with torch.no_grad():
        assert torch.equal(again(clip), built(clip))


def test_outside_block_must_be_imported_before_loading(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model().save(path)
    program = f"""
import vvae
try:
    vvae.load({str(path)!r})
except vvae.CheckpointError as error:
    print(error)
import tests.outside_block
print(vvae.load({str(path)!r}).get_submodule({PLACE!r}))
"""
    home = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=home)
    assert done.returncode == 0, done.stderr
    refused, loaded = done.stdout.splitlines()
    assert f"{PLACE}: kind 'tests.moving_average' is unknown; near it: " in refused
    assert "import the module that defines it" in refused
    assert loaded == "MovingAverage()"
