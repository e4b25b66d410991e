"""OD-VAE by itself: its releases and layouts, who sees whom, its defective attention, and the model that streams."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from tests import parity
from tests.arch.small import clip, gives_back_any_number_of_frames, model_of
from vvae import StreamError, verify
from vvae.arch.od_vae import LAYOUTS, VARIANTS, od_vae, od_vae_streaming
from vvae.arch.od_vae_names import flat_layers, published_fields, renames
from vvae.layers import CausalConv3d, FrameAttention, FrameConv2d, MisfoldedAttention
from vvae.models.recognise import shapes_of
from vvae.published.renames import to_own, to_published

EVERY_VARIANT = pytest.mark.parametrize("variant", list(VARIANTS))
SMALL: dict[str, Any] = {"width": 4, "groups": 2, "blocks": 1, "latent_channels": 3}


# --------------------------------------------------------------------------- the releases

RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "v1.0": ("v1_0", {}),
    "v1.1": ("v1_1", {}),
    "v1.2": ("v1_2", {}),
    "v1.2_D8": ("v1_2", {"latent_channels": 8}),
}


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@pytest.mark.parametrize("release", RELEASES)
def test_release_names_load_strictly_and_export_bit_for_bit(release: str) -> None:
    variant, fields = RELEASES[release]
    spec, known = od_vae(variant, **fields), parity.full_keys("od_vae")[release]
    shapes = {**known["names"], "loss.logvar": [], "loss.discriminator.main.0.weight": [4, 3, 4, 4]}
    released = {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    own, extras = to_own(renames(spec), released, shapes_of(spec))
    with torch.device("meta"):
        model = spec.build().bfloat16()
    model.to_empty(device="cpu").load_state_dict(own)
    exported = to_published(renames(spec), model.state_dict(), extras)
    assert exported.keys() == released.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in released.items())
    assert sum(np.prod(shape, dtype=int) for shape in known["names"].values()) == known["parameters"]
    assert extras.keys() == shapes.keys() - known["names"].keys()


@pytest.mark.parametrize("release", RELEASES)
def test_release_is_a_variant_with_its_constants(release: str) -> None:
    variant, fields = RELEASES[release]
    known = parity.full_keys("od_vae")[release]
    spec = od_vae(variant, **fields)
    assert od_vae(**published_fields(known["config"], release=known["release"]), name=spec.name) == spec
    assert renames(spec, flat_layers(known["config"])) == renames(spec)


def test_every_variant_is_a_release() -> None:
    assert {variant for variant, fields in RELEASES.values() if not fields} == set(VARIANTS)
    assert od_vae("v1_2", name="x") == od_vae(name="x")


# --------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layout_is_what_its_name_says(layout: str) -> None:
    spec = od_vae("v1_2", layout=layout, **SMALL)
    model = spec.build()
    per_frame = {
        side: {name for name, module in getattr(model, side).named_modules() if isinstance(module, FrameConv2d)}
        for side in ("encoder", "decoder")
    }
    outer = {
        "encoder": {f"level{i}.block0.conv_{which}" for i in (0, 1) for which in "ab"} | {"conv_in"},
        "decoder": {f"level{i}.block{j}.conv_{which}" for i in (2, 3) for j in (0, 1) for which in "ab"} | {"conv_out"},
    }
    flat = {"all_3d": (), "outer_2d_encoder": ("encoder",), "outer_2d_both": ("encoder", "decoder")}[layout]
    for side in outer:
        found = {name for name in per_frame[side] if not name.endswith(("shortcut", "moments", "latent"))}
        assert found == (outer[side] if side in flat else set())
        assert any(isinstance(module, CausalConv3d) for module in getattr(model, side).modules())


def test_layout_of_the_last_release_is_the_one_named_so() -> None:
    assert od_vae("v1_2", layout="outer_2d_encoder") == od_vae("v1_2")


# --------------------------------------------------------------------------- who sees whom


@EVERY_VARIANT
@pytest.mark.parametrize("make", [od_vae, od_vae_streaming], ids=["as released", "streaming"])
@pytest.mark.parametrize("frames", [1, 4, 5, 8, 9])
def test_encoder_sees_what_is_declared(frames: int, make: Any, variant: str) -> None:
    """Any number of frames, also those that the strides drop."""
    spec = make(variant, **SMALL)
    model = model_of(spec)
    verify.check_reach(model.encoder, spec.encoder.reach(spec.pixels, frames), clip(frames))


@EVERY_VARIANT
@pytest.mark.parametrize("make", [od_vae, od_vae_streaming], ids=["as released", "streaming"])
@pytest.mark.parametrize("positions", [1, 2, 4])
def test_decoder_sees_what_is_declared(positions: int, make: Any, variant: str) -> None:
    spec = make(variant, **SMALL)
    model, z = model_of(spec), clip(positions, 2, 2, spec.latents.channels)
    verify.check_reach(model.decoder, spec.decoder.reach(spec.latents, positions), z)


@EVERY_VARIANT
@pytest.mark.parametrize("make", [od_vae, od_vae_streaming], ids=["as released", "streaming"])
@pytest.mark.parametrize("frames", [1, 6])
def test_what_comes_back_depends_on_what_is_declared(frames: int, make: Any, variant: str) -> None:
    spec = make(variant, **SMALL)
    model = model_of(spec)
    verify.check_reach(model, spec.dependency(frames), clip(frames))


@EVERY_VARIANT
def test_norms_over_the_clip_show_every_latent_every_frame(variant: str) -> None:
    spec = od_vae(variant)
    for frames in (5, 9, 17):
        assert spec.dependency(frames, "encode").all()
        assert spec.dependency(frames, "decode").all()
    dropped = spec.encoder.reach(spec.pixels, 8)
    assert dropped[:, :7].all()
    assert dropped[:, 7].all() == (variant == "v1_0")  # the others' first levels are per frame


@EVERY_VARIANT
def test_as_released_no_stream_is_possible_and_the_layer_is_named(variant: str) -> None:
    model = model_of(od_vae(variant, **SMALL))
    first = {"v1_0": "level0"}.get(variant, "level2")
    with pytest.raises(StreamError, match=rf"encoder\.{first}\.block0\.norm_a: its norm is over the whole clip"):
        model.encode_chunk(clip(5))
    with pytest.raises(StreamError, match=r"decoder\.middle\.block0\.norm_a: its norm is over the whole clip"):
        model.decode_chunk(clip(2, 2, 2))


@EVERY_VARIANT
def test_any_number_of_frames_comes_back(variant: str) -> None:
    gives_back_any_number_of_frames(od_vae(variant, **SMALL))


# --------------------------------------------------------------------------- the attention of v1.0


def test_misfolded_attention_is_attention_per_frame_for_one_frame_only() -> None:
    wrong, right = MisfoldedAttention(8).double(), FrameAttention(8).double()
    right.load_state_dict(wrong.state_dict())
    with torch.no_grad():
        for frames in (1, 2, 4):
            x = clip(frames, 4, 4, 8)
            gap = verify.difference(wrong(x), right(x))
            assert gap <= 1e-12 if frames == 1 else gap > 1e-2


def test_only_the_first_release_folds_wrongly_and_only_unless_it_streams() -> None:
    for variant, make in itertools.product(VARIANTS, (od_vae, od_vae_streaming)):
        modules = list(make(variant, **SMALL).build().modules())
        found = any(isinstance(module, MisfoldedAttention) for module in modules)
        assert found == (variant == "v1_0" and make is od_vae)


# --------------------------------------------------------------------------- the model that streams


@EVERY_VARIANT
def test_streaming_model_has_the_tensors_of_the_release(variant: str) -> None:
    own = shapes_of(od_vae_streaming(variant))
    assert own == shapes_of(od_vae(variant))
    assert renames(od_vae_streaming(variant)) == renames(od_vae(variant))


@EVERY_VARIANT
def test_streaming_encoder_is_causal_and_its_decoder_sees_one_latent_ahead(variant: str) -> None:
    spec = od_vae_streaming(variant)
    latent, frame = np.arange(4)[:, None], np.arange(13)
    assert (spec.dependency(13, "encode") == (frame <= 4 * latent)).all()
    own = -(-frame // 4)  # the latent of a frame; the first frame of a group does not need the one after it
    newest = own + (frame > 0) * (frame % 4 != 1)
    assert (spec.dependency(13, "decode") == (np.arange(4) <= newest[:, None])).all()


@EVERY_VARIANT
@pytest.mark.parametrize("chunks", [[1, 4, 4, 4, 4], [5, 12], [2, 7, 1, 7], [16], [9, 6]], ids=str)
def test_streaming_model_gives_in_chunks_what_it_gives_whole(chunks: list[int], variant: str) -> None:
    verify.check_model_stream(model_of(od_vae_streaming(variant, **SMALL)), clip(sum(chunks)), chunks)


@EVERY_VARIANT
@torch.no_grad()
def test_streaming_decoder_holds_back_what_later_latents_change(variant: str) -> None:
    """What is given is final; what is missing comes with later latents, and all of it at the end."""
    spec = od_vae_streaming(variant, **SMALL)
    model, z = model_of(spec), clip(6, 2, 2, spec.latents.channels)
    whole, state, given = model.decode(z), None, 0
    declared = spec.decoder.reach(spec.latents, 6)
    for position, latent in enumerate(z.split(1, 2)):
        frames, state = model.decode_chunk(latent, state, last=position == 5)
        assert verify.difference(frames, whole[:, :, given : given + frames.shape[2]]) <= 1e-12
        given += frames.shape[2]
        assert not declared[:given, position + 1 :].any()
    assert given == whole.shape[2]


@EVERY_VARIANT
def test_streaming_encoder_gives_a_shorter_clip_the_same_latents(variant: str) -> None:
    spec = od_vae_streaming(variant, **SMALL)
    model, x = model_of(spec), clip(13)
    verify.check_prefix(model.encode, spec.pixels, x, spec.latents)
    verify.check_first_frame(model.encode, spec.pixels, x, spec.latents)
