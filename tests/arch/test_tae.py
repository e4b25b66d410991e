"""TAE by itself: its release, its sizes, who sees whom, and its paddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import vvae
from tests import parity
from tests.arch.small import clip, model_of
from vvae import CheckpointError, SpecError, StreamError, verify
from vvae.arch.image_vae import image_vae
from vvae.arch.image_vae import renames as image_renames
from vvae.arch.tae import VARIANTS, published_fields, renames, tae
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.recognise import shapes_of
from vvae.models.tae_layout import FAMILY, PADDING, layout
from vvae.published.renames import to_own, to_published
from vvae.published.table import extra_names, published_shapes

LENGTHS = {"zero": (1, 7, 8, 9, 17), "replicate": (1, 8, 9), "tail": (1, 7, 9)}
PADDINGS = pytest.mark.parametrize("variant", list(VARIANTS))


def small(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    given = {"widths": (4, 4, 4, 4), "blocks": 1, "groups": 2, "latent_channels": 2}
    return tae(variant, **{**given, **fields})


# --------------------------------------------------------------------------- the release


def release() -> Mapping[str, Any]:
    known: Mapping[str, Any] = parity.full_keys("tae")["tae"]
    return known


@PADDINGS
def test_release_is_each_variant_and_has_its_constants(variant: str) -> None:
    fields = published_fields(release()["config"])
    made = tae(variant, **fields)
    assert made == tae(variant)
    assert made != tae(next(other for other in VARIANTS if other != variant), **fields, name=made.name)


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@PADDINGS
def test_release_names_load_strictly_and_export_bit_for_bit(variant: str) -> None:
    spec = tae(variant)
    released = {name: torch.randn(shape) for name, shape in release()["names"].items()}
    own, extras = to_own(renames(spec), released, shapes_of(spec))
    with torch.device("meta"):
        model = spec.build()
    model.to_empty(device="cpu").load_state_dict(own)
    exported = to_published(renames(spec), model.state_dict(), extras)
    assert {name: tuple(tensor.shape) for name, tensor in exported.items()} == {
        name: tuple(tensor.shape) for name, tensor in released.items()
    }
    assert all(torch.equal(exported[name], released[name]) for name in released)
    assert len(extras) == 48
    assert all("temb_proj" in name for name in extras)
    assert sum(map(torch.Tensor.numel, released.values())) == release()["parameters"]


def test_image_vae_that_training_starts_from_loads_strictly() -> None:
    known, spec = parity.full_keys("tae"), image_vae("sd3")
    assert known.keys() == {"tae", "sd3.5_vae"}
    image = known["sd3.5_vae"]["names"]
    assert published_shapes(image_renames(spec, "mindspore"), shapes_of(spec)) == {
        n: tuple(s) for n, s in image.items()
    }


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stem": {"stem": 64},
    "no_blocks": {"blocks": 0, "widths": (32, 32), "temporal_down": (0,), "temporal_up": (1,)},
    "unusual_levels": {"temporal_down": (1, 3), "temporal_up": (0, 3)},
    "attention": {"encoder_attention": (2,), "decoder_attention": (1, 3)},
    "attention_over_frames": {"temporal_attention": False},
    "convs_at_latents": {"moments_conv": True, "latent_conv": True},
}


@pytest.mark.parametrize("name", SHAPES)
@PADDINGS
def test_layout_tells_all_but_groups_and_padding(name: str, variant: str) -> None:
    spec = tae(variant, **{"widths": (32,) * 4, "blocks": 1, "latent_channels": 2, **SHAPES[name]})
    fields = layout(published_shapes(renames(spec), shapes_of(spec)))
    again = FAMILY.make(**fields, **PADDING.fields(variant))
    assert (again.encoder, again.decoder, again.framing) == (spec.encoder, spec.decoder, spec.framing)
    assert FAMILY.has_network(spec, fields)
    assert PADDING in FAMILY.choices(fields)
    assert not PADDING.settled_by(fields)


def test_padding_that_is_none_is_refused_with_the_choices() -> None:
    with pytest.raises(CheckpointError, match="choose padding=zero, padding=replicate or padding=tail"):
        PADDING.fields("mirror")


def test_step_in_time_that_nothing_reads_is_kept_beside_the_model() -> None:
    names = {"encoder.down.1.block.0.temb_proj.weight", "decoder.mid.block_2.temb_proj.bias", "decoder.mid.block_2.x"}
    assert extra_names(renames(small()), names) == {name for name in names if "temb_proj" in name}


# --------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 17, 25, 41])
def test_any_length_passes_and_gives_the_ceiling(frames: int) -> None:
    spec = tae()
    assert spec.latent_frames(frames) == -(-frames // 8)
    assert spec.decoded_frames(spec.latent_frames(frames)) == 8 * -(-frames // 8)
    assert spec.filled_frames(frames) == spec.floored_frames(frames) == frames


@pytest.mark.parametrize("frames", [1, 3, 8, 9])
@torch.no_grad()
def test_clip_of_any_length_comes_back_at_its_own_size(frames: int) -> None:
    model, x = model_of(small()), clip(frames, 11, 13)
    assert model(x).shape == x.shape
    posterior = model.encode(x)
    assert posterior.mean.shape[2] == -(-frames // 8)
    whole = model.decode(posterior.mean)
    assert whole.shape[2] == 8 * posterior.mean.shape[2]
    assert torch.equal(whole[:, :, :frames, :11, :13], model.decode(posterior))


def test_logvar_is_bounded_in_drawing_alone() -> None:
    spec = small().posterior
    assert (spec.limits, spec.limits_of) == ((-30.0, 20.0), "sample")


# --------------------------------------------------------------------------- who sees whom


@pytest.mark.parametrize(("frames", "variant"), [(frames, name) for name in VARIANTS for frames in LENGTHS[name]])
def test_every_latent_sees_every_frame_and_back(frames: int, variant: str) -> None:
    spec = small(variant)
    for direction in ("encode", "decode", "reconstruct"):
        assert spec.dependency(frames, direction).all()
    model, x = model_of(spec), clip(frames, 8)
    verify.check_reach(model.encoder, spec.dependency(frames, "encode"), x)
    z = torch.randn(1, 2, spec.latent_frames(frames), 1, 2, dtype=torch.float64)
    verify.check_reach(model.decoder, spec.decoder.reach(spec.latents, z.shape[2]), z)
    assert spec.dependency(frames, "decode").shape == (frames, z.shape[2])


def test_stream_is_refused_with_the_layer_and_the_reason() -> None:
    spec, model = small(), model_of(small())
    told = r"conv_in\.time: its convolution sees later frames"
    assert re.match(rf"encoder\.{told}", str(spec.stream_limit("encode")))
    with pytest.raises(StreamError, match=rf"encoder\.{told}"):
        model.encode_chunk(clip(8, 8))
    with pytest.raises(StreamError, match=rf"decoder\.{told}"):
        model.decode_chunk(torch.zeros(1, 2, 1, 1, 1, dtype=torch.float64))


@PADDINGS
@torch.no_grad()
def test_paddings_differ_where_they_should(variant: str) -> None:
    """zero and replicate decode, zero and tail encode differently; with the same weights and nothing else changed."""
    zero, other = model_of(small("zero")), model_of(small(variant))
    x, z = clip(9, 8), torch.randn(1, 2, 2, 1, 1, dtype=torch.float64)
    same = (torch.equal(zero.encoder(x), other.encoder(x)), torch.equal(zero.decoder(z), other.decoder(z)))
    assert same == {"zero": (True, True), "replicate": (True, False), "tail": (False, True)}[variant]


# --------------------------------------------------------------------------- what cannot be

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "variant": (lambda: tae("zeros"), "variant 'zeros' is unknown; near it: zero"),
    "level": (lambda: tae(temporal_down=(0, 1, 4)), "give levels 0 to 3"),
    "count": (lambda: tae(temporal_down=(0, 1)), "must be equally many"),
    "width": (lambda: tae(blocks=0), "without blocks nothing changes the width"),
    "groups": (lambda: tae(widths=(48,) * 4), "48 channels cannot be normed in 32 groups"),
    "attention": (lambda: published_fields({**release()["config"], "attn_type": "linear"}), "attn_type 'linear'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    make, told = WRONG[name]
    with pytest.raises(SpecError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_spec_is_the_same_after_json() -> None:
    verify.check_spec_json(vvae.arch.tae("tail"))
