"""Wan's VAE beside the class of the installed `diffusers`: names, outputs, and what that class does otherwise.

Weights are random. Its upsampling goes by way of float32 whatever the model's dtype: the fixture `exact` mends that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders import autoencoder_kl_wan as published
from torch import Tensor, nn

import vvae
from tests.models.test_released import same
from vvae import tiling, verify
from vvae.arch.image_vae import tiling_rule
from vvae.arch.wan import published_fields, renames, wan
from vvae.autoencoder import VideoAutoencoder
from vvae.models.recognise import shapes_of
from vvae.models.released import as_published
from vvae.published.renames import to_own, to_published
from vvae.published.table import published_shapes

SMALL: dict[str, Any] = {"base_dim": 4, "z_dim": 3, "latents_mean": [0.5, 0.0, -1.0], "latents_std": [2.0, 1.0, 0.5]}
CLIPS = [(1, 16, 16), (5, 16, 24), (9, 24, 8), (13, 8, 16)]
FULL = [(1, 32, 32), (5, 16, 24), (9, 16, 16)]


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published.WanUpsample, "forward", nn.Upsample.forward)


def both(**config: Any) -> tuple[Any, VideoAutoencoder]:
    """Their model and ours, with the same weights."""
    torch.manual_seed(0)
    theirs = published.AutoencoderKLWan(**config).double().eval()
    for name, weight in theirs.named_parameters():
        if name.endswith("gamma"):  # all ones as built
            nn.init.normal_(weight, mean=1, std=0.3)
    spec = wan(**published_fields(theirs.config))
    own, extras = to_own(renames(spec), theirs.state_dict(), shapes_of(spec))
    assert not extras
    ours = spec.build().double().eval()
    ours.load_state_dict(own)
    return theirs, ours


def clip(frames: int, height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(2, channels, frames, height, width, generator=generator, dtype=torch.float64)


@torch.no_grad()
def compare(theirs: Any, ours: VideoAutoencoder, size: tuple[int, int, int]) -> None:
    wanted, found = theirs.encode(clip(*size)).latent_dist, ours.encode(clip(*size))
    assert verify.difference(found.mean, wanted.mean) <= 1e-10
    assert verify.difference(found.logvar, wanted.logvar) <= 1e-10
    latents = wanted.mode()
    assert verify.difference(ours.decode(latents), theirs.decode(latents).sample) <= 1e-10


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("size", CLIPS, ids=str)
def test_encode_and_decode_give_what_the_published_class_gives(size: tuple[int, int, int]) -> None:
    compare(*both(**SMALL), size)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    "config",
    [
        {"num_res_blocks": 1, "decoder_base_dim": 6},
        {"dim_mult": [1, 3, 2], "temperal_downsample": [True, True]},
        {"dim_mult": [2, 1], "temperal_downsample": [True]},
    ],
    ids=str,
)
def test_other_sizes_give_what_the_published_class_gives(config: dict[str, Any]) -> None:
    compare(*both(**SMALL, **config), (9, 16, 16))


@pytest.mark.thorough  # full width
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("size", FULL, ids=str)
def test_full_width_gives_what_the_published_class_gives(size: tuple[int, int, int]) -> None:
    theirs, ours = both()
    assert ours.spec == wan("2.1", name=ours.spec.name)
    compare(theirs, ours, size)


@pytest.mark.usefixtures("exact")
@torch.no_grad()
def test_clamped_frames_are_those_of_the_published_class() -> None:
    theirs, ours = both(**SMALL)
    for model in (theirs, ours):
        model.decoder.conv_out.weight.mul_(30)
    wanted = theirs.decode(clip(2, 2, 2)).sample
    assert wanted.abs().max() == 1
    assert (wanted.abs() < 1).any()
    assert verify.difference(ours.decode(clip(2, 2, 2)), wanted) <= 1e-10


@pytest.mark.usefixtures("exact")
@torch.no_grad()
def test_tiles_are_those_of_the_published_class() -> None:
    theirs, ours = both(**SMALL)
    theirs.enable_tiling(32, 32, 24, 24)
    tiled = tiling.published(ours, tiling_rule(32, 4))
    x = clip(5, 40, 64)
    wanted, whole = theirs.encode(x).latent_dist, ours.encode(x)
    assert verify.difference(tiled.encode(x).mean, wanted.mean) <= 1e-10
    assert verify.difference(wanted.mean, whole.mean) > 1e-6
    frames = theirs.decode(wanted.mode()).sample
    assert frames.abs().max() < 1  # theirs are clamped behind the blending, ours before it
    assert verify.difference(tiled.decode(wanted.mode()), frames) <= 1e-10
    assert verify.difference(frames, ours.decode(wanted.mode())) > 1e-6


# --------------------------------------------------------------------------- names


def test_names_and_shapes_of_the_release_are_those_of_the_published_class() -> None:
    with torch.device("meta"):
        theirs = published.AutoencoderKLWan()
    wanted = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    spec = wan("2.1")
    assert published_shapes(renames(spec), shapes_of(spec)) == wanted
    assert wan(**published_fields(theirs.config), name=spec.name) == spec


def test_names_of_the_authors_become_those_of_diffusers() -> None:
    """Each tensor holds one number of its own, so that two that change places are seen."""
    spec = wan("2.1")
    own = {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes_of(spec).items())}
    converted, wanted = (
        convert_wan_vae_to_diffusers(to_published(renames(spec, "authors"), own)),
        to_published(renames(spec), own),
    )
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in wanted.items())


def test_a_saved_folder_is_loaded_and_exported_bit_for_bit(tmp_path: Path) -> None:
    theirs, ours = both(**SMALL)
    theirs.save_pretrained(tmp_path / "vae")
    model = vvae.load_published(None, tmp_path / "vae", dtype=torch.float64)
    assert model.spec.replace(name=ours.spec.name) == ours.spec
    model.save(tmp_path / "own.safetensors")
    assert same(as_published(tmp_path / "own.safetensors", "diffusers").tensors, dict(theirs.state_dict()))


# --------------------------------------------------------------------------- what that class does otherwise


@pytest.mark.usefixtures("exact")
@torch.no_grad()
def test_published_class_drops_frames_that_ours_keeps() -> None:
    theirs, ours = both(**SMALL)
    x = clip(8, 16, 16)
    dropped, kept = theirs.encode(x).latent_dist, ours.encode(x)
    assert torch.equal(dropped.mean, theirs.encode(x[:, :, :5]).latent_dist.mean)
    assert theirs.decode(dropped.mode()).sample.shape[2] == 5
    assert (kept.mean.shape[2], ours.decode(kept).shape[2]) == (3, 8)
    floored = ours.encode(x, framing="published")
    assert verify.difference(floored.mean, dropped.mean) <= 1e-10
    assert ours.decode(floored).shape[2] == 5


@torch.no_grad()
def test_published_class_loses_digits_where_frames_grow() -> None:
    theirs, ours = both(**SMALL)
    z = clip(2, 2, 2)
    assert 1e-10 < verify.difference(ours.decode(z), theirs.decode(z).sample) < 1e-5


def test_two_threads_share_our_model_but_not_theirs() -> None:
    theirs, ours = both(**SMALL)
    clips = clip(9, 8, 8), clip(9, 8, 8).flip(2)

    @torch.no_grad()
    def encoded(model: Any, x: Tensor) -> Tensor:
        mean: Tensor = model.encode(x).mean if model is ours else model.encode(x).latent_dist.mean
        return mean

    verify.check_threads(ours.encoder.conv_in, [lambda x=x: encoded(ours, x) for x in clips])  # type: ignore[misc]
    with pytest.raises(verify.LawError, match="threads"):
        verify.check_threads(theirs.encoder.conv_in, [lambda x=x: encoded(theirs, x) for x in clips])  # type: ignore[misc]
