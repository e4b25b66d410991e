"""Open-Sora's video VAE: its releases, what sees what in time, streams, draws, memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import parity
from vvae import SpecError, VideoAutoencoder, VideoAutoencoderSpec, verify
from vvae.arch import image_vae, open_sora, open_sora_causal
from vvae.arch.open_sora import AT_ONCE, published_fields, renames
from vvae.cost import peak_bytes
from vvae.errors import StreamError, VideoError
from vvae.published.renames import to_own, to_published
from vvae.scaling import Affine

RELEASES = {"OpenSoraVAE_V1_2": "v1_2", "VAE_Temporal_SD": "v1_2_temporal"}
SMALL: dict[str, Any] = {
    "width": 4,
    "blocks": 1,
    "groups": 2,
    "spatial": {"widths": (4, 4), "blocks": 1, "groups": 2},
}
LENGTHS = {"pipeline": (1, 4, 5, 9, 17), "temporal": (1, 4, 5, 9, 17), "spatial": (1, 4, 5)}


def small(**fields: Any) -> VideoAutoencoder:
    return built(open_sora(**{**SMALL, **fields}))


def small_causal(**fields: Any) -> VideoAutoencoder:
    return built(open_sora_causal(**{**SMALL, **fields}))


def built(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec.build().double()


def clip_for(model: VideoAutoencoder, frames: int, seed: int = 0, batch: int = 1) -> Tensor:
    side = 2 * int(model.spec.latents.stride)
    return verify.random_clip(model.spec.pixels, frames, side, side, seed=seed, batch=batch)


# --------------------------------------------------------------------------- releases


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@pytest.mark.parametrize("release", RELEASES)
def test_release_names_load_strictly_and_export_bit_for_bit(release: str) -> None:
    spec, known = open_sora(RELEASES[release]), parity.full_keys("open_sora")[release]
    released = {name: torch.rand(shape).half() for name, shape in known["names"].items()}
    with torch.device("meta"):
        model = spec.build()
    own, extras = to_own(renames(spec), released, {name: tuple(t.shape) for name, t in model.state_dict().items()})
    model.load_state_dict(own, assign=True)
    exported = to_published(renames(spec), model.state_dict(), extras)
    assert exported.keys() == released.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in released.items())


def test_every_release_is_a_variant_with_its_constants() -> None:
    known = parity.full_keys("open_sora")
    assert known.keys() == RELEASES.keys()
    for release, variant in RELEASES.items():
        spec = open_sora(variant)
        fields = published_fields(known[release]["config"])
        assert open_sora(**{**fields, "at_once": AT_ONCE, "name": spec.name}) == spec
        with torch.device("meta"):
            model = spec.build()
        assert sum(p.numel() for p in model.parameters()) == known[release]["parameters"]


def test_constants_are_those_that_float32_holds() -> None:
    latent = open_sora("v1_2").latent
    assert isinstance(latent, Affine)
    shift, scale = torch.tensor([-0.10, 0.34, 0.27, 0.98]), torch.tensor([3.85, 2.32, 2.33, 3.06])
    assert torch.equal(torch.tensor(latent.shift, dtype=torch.float64), shift.double())
    assert torch.equal(torch.tensor(latent.scale, dtype=torch.float64), 1 / scale.double())


def test_parts_are_those_of_the_whole() -> None:
    """Each part alone has the whole's layers, and together they give what the whole gives."""
    whole, spatial, temporal = (small(component=part) for part in ("pipeline", "spatial", "temporal"))
    for alone, part in ((spatial, "spatial"), (temporal, "temporal")):
        of_part = {n: t for n, t in to_published(renames(whole.spec), whole.state_dict()).items() if part in n[:8]}
        named = {name.removeprefix(f"{part}_vae."): tensor for name, tensor in of_part.items()}
        own, _ = to_own(renames(alone.spec), named, {n: tuple(t.shape) for n, t in alone.state_dict().items()})
        alone.load_state_dict(own)
    x = clip_for(whole, 6)
    with torch.no_grad():
        latents = spatial.scaling.normalize(spatial.encode(x).mode())
        posterior = temporal.encode(latents)
        assert verify.difference(posterior.mean, whole.encode(x).mean) <= 1e-12
        video = spatial.decode(spatial.scaling.restore(temporal.decode(posterior)))
        assert verify.difference(video, whole(x)) <= 1e-12


def test_spatial_part_is_the_image_vae() -> None:
    alone = open_sora("v1_2_spatial")
    image = image_vae("sd")
    assert (alone.latent, alone.posterior, alone.pixels) == (image.latent, image.posterior, image.pixels)
    with torch.device("meta"):
        assert alone.build().state_dict().keys() == image.build().state_dict().keys()


def test_names_of_another_component_are_refused() -> None:
    with pytest.raises(SpecError, match=r"is the temporal component; it has no names of 'pipeline'; give 'temporal'"):
        renames(open_sora("v1_2_temporal"), "pipeline")


# --------------------------------------------------------------------------- what sees what


@pytest.mark.parametrize(("component", "frames"), [(part, n) for part, lengths in LENGTHS.items() for n in lengths])
def test_declared_dependency_is_measured(component: str, frames: int) -> None:
    check_dependency(small(component=component), frames)


@pytest.mark.parametrize("frames", [17, pytest.param(18, marks=pytest.mark.thorough)])
def test_declared_dependency_of_pieces_is_measured(frames: int) -> None:
    model = small(piece=17, at_once=4)
    check_dependency(model, frames)
    blocks = model.spec.dependency(frames)
    assert blocks[:17, :17].all()
    assert not blocks[:17, 17:].any()
    assert not blocks[17:, :17].any()


@pytest.mark.parametrize("frames", [1, 4, 5, 6, *(pytest.param(n, marks=pytest.mark.thorough) for n in (9, 17))])
@pytest.mark.parametrize("component", ["pipeline", "temporal"])
def test_declared_dependency_of_honest_time_is_measured(component: str, frames: int) -> None:
    """Groups of four end with the clip; no frame sees a group after its own."""
    model = small_causal(component=component)
    check_dependency(model, frames)
    group = (torch.arange(frames) + -frames % 4) // 4
    later = group[:, None] < group[None, :]
    seen = torch.from_numpy(model.spec.dependency(frames))
    assert not seen[later].any()
    assert torch.from_numpy(model.spec.dependency(frames, "encode")).equal(
        torch.arange(-(-frames // 4))[:, None] >= group[None, :]
    )


def check_dependency(model: VideoAutoencoder, frames: int) -> None:
    x, spec = clip_for(model, frames), model.spec

    def encode(clip: Tensor) -> Tensor:
        posterior = model.encode(clip)
        return torch.cat([posterior.mean, posterior.logvar], 1)

    with torch.no_grad():
        z = model.encode(x).mean
    verify.check_reach(encode, spec.dependency(frames, "encode"), x)
    verify.check_reach(lambda z: model.decode(z, frames=frames), spec.dependency(frames, "decode"), z)
    verify.check_reach(model, spec.dependency(frames), x)


def test_the_norms_are_why_no_stream_goes_through() -> None:
    assert str(open_sora("v1_2", piece=None).stream_limit("encode")).startswith("encoder.temporal.level0.block0.norm_a")
    for spec in (open_sora("v1_2"), open_sora_causal("v1_2"), open_sora("v1_2_spatial")):
        assert spec.stream_limit("encode") is None
        assert spec.stream_limit("decode") is None


# --------------------------------------------------------------------------- streams


def chunks_of(length: int, frames: int) -> list[int]:
    return [min(length, frames - start) for start in range(0, frames, length)]


@pytest.mark.parametrize("frames", [4, 5, 7, 10, 12])
def test_pieces_stream_what_the_whole_clip_gives(frames: int) -> None:
    model = small(piece=5)
    for length in (1, 3, 5, 12):
        verify.check_model_stream(model, clip_for(model, frames), chunks_of(length, frames))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6, 9, 11])
def test_honest_time_streams_what_the_whole_clip_gives(frames: int) -> None:
    model = small_causal()
    x = clip_for(model, frames)
    posterior = model.encode(x)
    video = model.decode(posterior)
    assert video.shape == x.shape
    for length in (1, 2, 4, 7):
        verify.check_model_stream(model, x, chunks_of(length, frames))
        assert sum(p.fit.frames for p in model.encode_stream(x.split(length, 2), frames=frames)) == frames
        latents = posterior.mode().split(length, 2)
        again = torch.cat(list(model.decode_stream(latents, frames=frames)), 2)
        assert verify.difference(again, video) <= 1e-12


@torch.no_grad()
def test_honest_time_by_hand() -> None:
    """The first chunk carries (frames - 1) % 4 + 1 frames, or groups more; then whole groups."""
    model = small_causal()
    x = clip_for(model, 11)
    whole, state, given = model.encode(x), None, []
    for start, end in ((0, 3), (3, 3), (3, 11)):
        posterior, state = model.encode_chunk(x[:, :, start:end], state, last=end == 11)
        given.append(posterior)
    assert [p.fit.frames for p in given] == [3, 0, 8]
    assert verify.difference(torch.cat([p.mean for p in given], 2), whole.mean) <= 1e-12
    _, state = model.encode_chunk(x[:, :, :3])
    with pytest.raises(StreamError, match="groups of 4"):
        model.encode_chunk(x[:, :, 3:6], state)
    with pytest.raises(StreamError, match="frames="):
        next(model.encode_stream(x.split(4, 2)))


@torch.no_grad()
@pytest.mark.parametrize("longer", [6, 7, 8, 9, 13])
def test_prefixes_are_shared_between_lengths_equal_modulo_four_alone(longer: int) -> None:
    model = small_causal()
    x = clip_for(model, longer)
    short, whole = model.encode(x[:, :, :5]), model.encode(x)
    apart = verify.difference(short.mean, whole.mean[:, :, :2])
    video = verify.difference(model.decode(short), model.decode(whole)[:, :, :5])
    if longer % 4 == 1:
        assert max(apart, video) <= 1e-12
    else:
        assert min(apart, video) > 1e-3


# --------------------------------------------------------------------------- draws, memory


@torch.no_grad()
def test_frames_are_drawn_from_a_generator_or_from_given_noise() -> None:
    model = small(piece=5)
    x = clip_for(model, 7, batch=2)
    noise = model.draw(x, torch.Generator().manual_seed(1))
    assert {path: tuple(n.shape) for path, n in noise.items()} == {"encoder.spatial.draw": (2, 4, 7, 2, 2)}
    drawn = model.encode(x, generator=torch.Generator().manual_seed(1)).mean
    assert torch.equal(drawn, model.encode(x, noise=noise).mean)
    assert verify.difference(drawn, model.encode(x).mean) > 1e-3
    still = {path: torch.zeros_like(n) for path, n in noise.items()}
    assert torch.equal(model.encode(x, noise=still).mean, model.encode(x).mean)
    with pytest.raises(VideoError, match="noise is wanted"):
        model.encode(x, noise={path: n[:, :, :5] for path, n in noise.items()})


@torch.no_grad()
def test_frames_at_once_change_memory_and_no_value() -> None:
    all_at_once = small(component="spatial")
    x = clip_for(all_at_once, 6, batch=2)
    wanted = all_at_once.encode(x)
    peaks = []
    for at_once in (1, 5, None):
        model = small(component="spatial", at_once=at_once)
        assert verify.difference(model.encode(x).mean, wanted.mean) <= 1e-12
        assert verify.difference(model.decode(wanted), all_at_once.decode(wanted)) <= 1e-12
        model.to("meta")
        peaks.append(peak_bytes(partial(model.encode, x.to("meta"))))
    assert peaks[0] < peaks[1] < peaks[2]
