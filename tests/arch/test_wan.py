"""Wan's VAE by itself: its release, who sees whom, streams, threads, and clips of any length."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.arch.small import clip, gives_back_any_number_of_frames, model_of
from vvae import verify
from vvae.arch.wan import DEVIATION, MEAN, NAMINGS, VARIANTS, renames, wan
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers import Clamp
from vvae.models.recognise import shapes_of
from vvae.published.renames import to_own, to_published
from vvae.scaling import Affine
from vvae.tiling import compression

SMALL: dict[str, Any] = {"width": 4, "blocks": 1, "latent_channels": 3}
MODELS: dict[str, dict[str, Any]] = {
    "as released": {},
    "twice in time": {"temporal": (True, True, False), "multipliers": (1, 1, 2, 2), "decoder_width": 6},
    "not in time": {"temporal": (False,), "multipliers": (2, 1)},
    "three times in time": {"temporal": (True, True, True), "multipliers": (1, 1, 1, 2)},
}
every_model = pytest.mark.parametrize("name", list(MODELS))


def spec_of(name: str) -> VideoAutoencoderSpec:
    return wan(**{**SMALL, **MODELS[name]})


# --------------------------------------------------------------------------- the release


def test_release_is_what_was_published() -> None:
    spec = wan("2.1")
    assert spec == wan("2.1", width=96, multipliers=(1, 2, 4, 4), temporal=(False, True, True), blocks=2)
    assert spec.latent_shape(17, 256, 256) == (16, 5, 32, 32)
    assert (spec.framing.lead, spec.framing.group, spec.cell) == (1, 4, 8)
    assert [spec.filled_frames(n) for n in (1, 2, 5, 6)] == [1, 5, 5, 9]
    assert list(VARIANTS) == ["2.1"]


def test_latents_are_scaled_by_the_published_mean_and_deviation() -> None:
    scaling = wan("2.1").latent
    assert isinstance(scaling, Affine)
    z, mean, deviation = clip(3, 2, 2, 16), *(torch.tensor(v).double()[:, None, None, None] for v in (MEAN, DEVIATION))
    assert verify.difference(scaling.normalize(z), (z - mean) / deviation) <= 1e-7  # numbers of a float32 here
    assert verify.difference(scaling.restore(scaling.normalize(z)), z) <= 1e-12


@every_model
@pytest.mark.parametrize("naming", NAMINGS)
def test_names_are_complete_and_reversible(naming: str, name: str) -> None:
    spec = spec_of(name)
    own = spec.build().state_dict()
    published = to_published(renames(spec, naming), own)
    again, extras = to_own(renames(spec, naming), published, shapes_of(spec))
    assert not extras
    assert again.keys() == own.keys()
    assert all(torch.equal(again[key], own[key]) for key in own)


def test_what_comes_back_is_clamped_unless_it_is_left_out() -> None:
    bounded, free = model_of(wan(**SMALL)), model_of(wan(**SMALL, clamp=False))
    free.load_state_dict(bounded.state_dict())
    assert sum(isinstance(module, Clamp) for module in bounded.modules()) == 1
    with torch.no_grad():
        for model in (bounded, free):
            model.decoder.conv_out.weight.mul_(100)
        z = clip(2, 2, 2)
        assert free.decode(z).abs().max() > 1
        assert torch.equal(bounded.decode(z), free.decode(z).clamp(-1, 1))


# --------------------------------------------------------------------------- who sees whom


@every_model
@pytest.mark.parametrize("frames", [1, 4, 8, 9])
def test_encoder_sees_what_is_declared(frames: int, name: str) -> None:
    """Any number of frames, also those that the strides drop."""
    spec = spec_of(name)
    verify.check_reach(model_of(spec).encoder, spec.encoder.reach(spec.pixels, frames), clip(frames))


@every_model
@pytest.mark.parametrize("positions", [1, 2, 4])
def test_decoder_sees_what_is_declared(positions: int, name: str) -> None:
    spec = spec_of(name)
    side = 16 // int(spec.latents.stride)
    z = clip(positions, side, side, spec.latents.channels)
    verify.check_reach(model_of(spec).decoder, spec.decoder.reach(spec.latents, positions), z)


@pytest.mark.parametrize("frames", [1, 6, 9])
def test_what_comes_back_depends_on_what_is_declared(frames: int) -> None:
    spec = wan(**SMALL)
    verify.check_reach(model_of(spec), spec.dependency(frames), clip(frames))


def test_release_is_causal_in_groups_and_remembers_all_of_the_past_within_its_window() -> None:
    spec = wan("2.1")
    latent, frame = np.arange(4)[:, None], np.arange(13)
    assert (spec.dependency(13, "encode") == (frame <= 4 * latent)).all()
    assert (spec.dependency(13, "decode") == (np.arange(4) <= -(-frame // 4)[:, None])).all()


@pytest.mark.parametrize(("layer", "sees"), [("encoder.level0.time", True), ("decoder.level0.time", False)])
def test_frames_behind_the_lead_see_it_where_they_become_fewer_only(layer: str, sees: bool) -> None:
    """Both leave the lead itself as it is."""
    model = model_of(wan(**SMALL, multipliers=(1, 1), temporal=(True,)))
    change, x = model.get_submodule(layer), clip(5, 4, 4, 4)
    other = x.clone()
    other[:, :, 0] = clip(1, 4, 4, 4)[:, :, 0]
    with torch.no_grad():
        given, changed = change(x), change(other)
    assert torch.equal(given[:, :, 0], x[:, :, 0])
    assert torch.equal(changed[:, :, 0], other[:, :, 0])
    assert torch.equal(given[:, :, 1:], changed[:, :, 1:]) != sees


# --------------------------------------------------------------------------- streams, lengths, threads


@every_model
@pytest.mark.parametrize("chunks", [[1, 4, 4], [2, 7, 1, 3], [9, 6]], ids=str)
def test_chunks_give_what_the_whole_clip_gives(chunks: list[int], name: str) -> None:
    verify.check_model_stream(model_of(spec_of(name)), clip(sum(chunks), 16, 24), chunks)


@torch.no_grad()
def test_any_number_of_frames_comes_back() -> None:
    gives_back_any_number_of_frames(wan(**SMALL))


def test_published_tiles_join_what_belongs_together() -> None:
    for rule in wan.tiling.values():  # type: ignore[attr-defined]
        assert rule.faults(compression(wan("2.1"), in_time=rule.in_time)) == []
        assert not rule.encode.applies(1000, 256, 256)
        assert rule.encode.applies(1, 257, 8)


def test_a_shorter_clip_gives_the_first_latents_of_a_longer_one() -> None:
    model, x = model_of(wan(**SMALL)), clip(13)
    verify.check_prefix(model.encode, model.spec.pixels, x, model.spec.latents)
    verify.check_first_frame(model.encode, model.spec.pixels, x, model.spec.latents)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_two_threads_share_a_model(direction: str) -> None:
    """Each a stream of its own, both held inside the same layers at the same time."""
    model = model_of(wan(**SMALL))

    @torch.no_grad()
    def there(x: Tensor) -> Tensor:
        return torch.cat([part.mean for part in model.encode_stream(x.split([1, 4, 4], 2))], 2)

    @torch.no_grad()
    def back(z: Tensor) -> Tensor:
        state, given = None, []
        for number, latent in enumerate(z.split(1, 2)):
            frames, state = model.decode_chunk(latent, state, last=number == 2)
            given.append(frames)
        return torch.cat(given, 2)

    run, x = (there, clip(9)) if direction == "encode" else (back, clip(3, 2, 2))
    inside = {"encode": model.encoder.level1, "decode": model.decoder.level1}[direction].time.conv
    verify.check_threads(inside, [partial(run, x), partial(run, x.flip(2))])
