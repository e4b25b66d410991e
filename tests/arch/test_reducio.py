"""What is true of every Reducio-VAE, released or not: pieces, content, time."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from vvae import verify
from vvae.arch import reducio
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError, VideoError

SMALL: dict[str, Any] = {
    "widths": (4, 4, 8),
    "blocks": 1,
    "groups": 2,
    "heads": 2,
    "latent_channels": 3,
    "time_halvings": 1,
    "frames": 4,
    "content_widths": (4, 6, 8),
    "content_blocks": 1,
    "fuse": (None, 1, None),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "small": {},
    "late": {"late": True},
    "two_halvings": {"time_halvings": 2},
    "time_before_space": {"time_halvings": 2, "space_halvings": 1, "fuse": (None, None, None)},
    "no_fusion": {"fuse": (None, None, None), "fuse_middle": None},
    "no_positions": {"positions": None},
    "pixel_positions": {"positions": "pixel", "side": 8},
    "linear": {"fuse_by": "linear"},
    "added": {"fuse_by": (None, "add+attention", None), "fuse_middle": "add"},
    "group_norm_gate_shortcut": {"content_norm": "group", "gate": 0.1, "fusion_shortcut": True},
    "latents_fused": {"content_channels": 8},
    "other_decoder": {"decoder_widths": (8, 6, 4), "stem": 6, "content_stem": 8, "inner_channels": 5},
    "no_convolutions": {"resample_conv": False, "content_resample_conv": False},
    "unshuffle": {"unshuffle": True, "tanh_out": True},
    "causal": {"causal": True},
}


def spec(**fields: Any) -> VideoAutoencoderSpec:
    return reducio(**{**SMALL, **fields})


def small(**fields: Any) -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec(**fields).build().double()


def clip(frames: int, height: int = 8, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, frames, height, width, generator=generator, dtype=torch.float64) * 2 - 1


# --------------------------------------------------------------------------- every option


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_back_a_clip_of_its_size(name: str) -> None:
    model = small(**OPTIONS[name])
    with torch.no_grad():
        back = model(clip(4, 8, 8))
    assert back.shape == clip(4, 8, 8).shape
    assert torch.isfinite(back).all()
    verify.check_spec_json(model.spec)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_gradients_everywhere(name: str) -> None:
    verify.check_parameters(small(**OPTIONS[name]), clip(4, 8, 8))


@pytest.mark.parametrize("frames", [1, 5, 8, *(pytest.param(n, marks=pytest.mark.thorough) for n in (4, 11))])
@pytest.mark.parametrize("direction", ["encode", "decode", "reconstruct"])
@pytest.mark.parametrize("name", ["small", "two_halvings", "late"])
@torch.no_grad()
def test_declared_dependency_is_measured(
    name: str, direction: Literal["encode", "decode", "reconstruct"], frames: int
) -> None:
    model = small(**OPTIONS[name])
    posterior = model.encode(clip(frames))
    runs = {
        "encode": (lambda x: model.encode(x).mean, clip(frames)),
        "decode": (lambda z: model.decode(z, frames=frames, content=posterior.content), posterior.mean),
        "reconstruct": (model, clip(frames)),
    }
    run, x = runs[direction]
    with torch.enable_grad():
        verify.check_reach(run, model.spec.dependency(frames, direction), x)


@pytest.mark.parametrize("frames", [4, 5, 8])
def test_networks_see_what_they_declare(frames: int) -> None:
    """At lengths that the model itself never gives them, broken groups included."""
    model = small(positions=None)
    verify.check_reach(model.encoder, model.spec.encoder.reach(model.spec.pixels, frames), clip(frames))
    latents = model.spec.latents
    z = verify.random_clip(latents, frames, 2, 3)
    verify.check_reach(model.decoder, model.spec.decoder.reach(latents, frames), z)


def test_releases_see_the_whole_piece_and_none_else() -> None:
    for variant in reducio.variants:
        seen = reducio(variant).dependency(40)
        piece = torch.arange(40) // 16
        assert (torch.from_numpy(seen) == (piece[:, None] == piece[None])).all()


# --------------------------------------------------------------------------- pieces


@torch.no_grad()
def test_a_clip_is_its_pieces_each_by_itself() -> None:
    model, x = small(), clip(10)
    posterior, back = model.encode(x), model(x)
    for n, part in enumerate(x.split(4, 2)):
        alone = model.encode(part)
        assert verify.difference(posterior.mean[:, :, 2 * n : 2 * n + 2], alone.mean) <= 1e-12
        assert verify.difference(back[:, :, 4 * n : 4 * n + 4], model(part)) <= 1e-12


@torch.no_grad()
def test_a_short_last_piece_repeats_its_last_frame() -> None:
    model, x = small(), clip(6)
    filled = torch.cat([x, x[:, :, -1:], x[:, :, -1:]], 2)
    assert torch.equal(model.encode(x).mean, model.encode(filled).mean)
    assert torch.equal(model(x), model(filled)[:, :, :6])


@torch.no_grad()
def test_content_is_the_middle_frame_of_the_filled_piece() -> None:
    model, x = small(), clip(5)
    content = torch.stack([x[:, :, 1], x[:, :, 4]], 2)
    assert torch.equal(model.encode(x).content, content)
    assert reducio("ft4").content.index(16) == 7


@pytest.mark.parametrize("lengths", [[10], [4, 4, 2], [3, 5, 2], [1] * 10])
def test_streams_go_piece_by_piece(lengths: list[int]) -> None:
    verify.check_model_stream(small(), clip(10), lengths)


@pytest.mark.parametrize("frames", [16, 17, 18, 19])
def test_the_release_takes_one_piece_of_16_to_19_frames_and_gives_16(frames: int) -> None:
    """At small widths; what is left over is seen."""
    fields = {"widths": (2, 2, 2, 2, 2, 2), "content_widths": (2, 2, 2, 2), "groups": 1, "blocks": 1, "heads": 1}
    torch.manual_seed(0)
    model = reducio("ft4", **fields, content_blocks=1).build()
    x = clip(frames, 32, 32).float()
    with torch.no_grad():
        posterior = model.encode(x, framing="published")
        assert posterior.mean.shape[2] == 4
        assert torch.equal(posterior.content, x[:, :, (frames - 1) // 2, None])
        assert model.decode(posterior).shape[2] == 16
        other = torch.cat([x[:, :, :-1], -x[:, :, -1:]], 2)
        assert not torch.equal(model.encode(other, framing="published").mean, posterior.mean)


# --------------------------------------------------------------------------- content and latents


@torch.no_grad()
def test_images_and_their_features_decode_alike() -> None:
    model = small()
    posterior = model.encode(clip(8))
    latents = model.scaling.normalize(posterior.mode())
    back = model.decode(posterior)
    assert torch.equal(model.decode(latents, content=posterior.content), back)
    assert torch.equal(model.decode(latents, content=model.content(posterior.content)), back)
    assert list(model.content(posterior.content)) == ["level1", "middle"]


@torch.no_grad()
def test_content_is_left_out_on_purpose_only() -> None:
    model = small()
    posterior = model.encode(clip(4))
    latents = model.scaling.normalize(posterior.mode())
    with pytest.raises(VideoError, match="content=None"):
        model.decode(latents)
    without = model.decode(latents, content=None)
    assert verify.difference(without, model.decode(posterior)) > 1e-3
    plain = small(fuse=(None, None, None), fuse_middle=None)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    assert torch.equal(plain.decode(latents), without)


def test_latents_are_normed_over_a_piece_and_not_restored() -> None:
    model, z = small(), verify.random_clip(spec().latents, 4, 2, 3, batch=2)
    normed = model.scaling.normalize(z)
    for piece in normed.split(2, 2):
        flat = piece.flatten(1)
        torch.testing.assert_close(flat.mean(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(flat.var(1, correction=0), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)
    with pytest.raises(SpecError, match="no inverse"):
        model.scaling.restore(normed)


# --------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"fuse": (None, 1)}, "fuse has 2 entries for 3 levels"),
        ({"fuse_by": ("attention",)}, "fuse_by has 1 entries"),
        ({"decoder_widths": (4, 4)}, "decoder_widths has 2 entries"),
        ({"time_halvings": 3}, "3 halvings need 4 levels"),
        ({"fuse": (None, 4, None)}, "stages from 0 to 3"),
        ({"frames": 5}, "a table of 5 positions does not fit"),
        ({"groups": 3}, "cannot be normed in 3 groups"),
        ({"fuse_by": "add", "fuse": (None, 2, None)}, "cells of 4 pixels, the clip of 2"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        spec(**fields)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(SpecError, match="near it: ft4"):
        reducio("ft8")
