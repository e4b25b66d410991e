"""Tiles and chunks with all that reaches into them give what the whole clip gives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st
from torch import Tensor

from tests.models.tiny import tiny_model
from vvae import VideoAutoencoder, VideoAutoencoderSpec, load_state, save_state
from vvae.arch import image_vae, iv_vae, od_vae, od_vae_streaming, open_sora, reducio, tae, wan
from vvae.cost import peak_bytes
from vvae.errors import StreamError, TileError
from vvae.framing import Framing
from vvae.layers import (
    ClipGroupNormSpec,
    FrameConv2dSpec,
    LinearTemporalUpsampleSpec,
    PosteriorDrawSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalConvSpec,
    TemporalConvUpsampleSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.tiling import Cells, ExactTiling, Frames, Pixels, Positions, exact, in_tiles
from vvae.tiling.rules import Direction
from vvae.tiling.sections import Link, Section, _margin, sections
from vvae.verify import check_tiled, difference, random_clip
from vvae.verify.strategies import side, signals, wired


def shaken(model: VideoAutoencoder) -> VideoAutoencoder:
    """In float64, with weights of which none is zero."""
    generator = torch.Generator().manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


SHORT = {"blocks": 1, "multipliers": (1, 1, 1), "temporal": (True, True)}


@pytest.fixture(scope="module")
def iv() -> VideoAutoencoder:
    """Attention at latent resolution in the middle of both halves."""
    torch.manual_seed(0)
    return shaken(iv_vae(width=2, **SHORT).build())


@pytest.fixture(scope="module")
def other() -> VideoAutoencoder:
    """The same in another family."""
    torch.manual_seed(0)
    return shaken(wan(width=2, latent_channels=4, clamp=False, **SHORT).build())


@pytest.fixture(scope="module")
def small() -> VideoAutoencoder:
    return shaken(tiny_model())


def clip(*size: int) -> Tensor:
    return torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def assert_cut(twin: ExactTiling, x: Tensor) -> None:
    """At least 2 x 2 tiles each way that do not read everything, and 2 chunks where there are any."""
    height, width = twin.spec.filled_size(*x.shape[3:])
    for plan in twin.plans(height, width).values():
        for axis in (plan.rows, plan.columns):
            assert len(axis.spans) >= 2
            assert any(span.read != (0, axis.reads) for span in axis.spans)
    if twin.groups is not None:
        assert x.shape[2] > 1 + twin.groups * twin.spec.framing.group


@torch.no_grad()
@pytest.mark.parametrize(
    "chunk", [pytest.param(None, marks=pytest.mark.thorough), Frames(4)], ids=["at_once", "chunks"]
)
@pytest.mark.parametrize(("name", "size", "tile"), [("iv", (42, 59), 16), ("other", (66, 75), 24)])
def test_models_with_attention_to_latents_in_tiles_are_the_whole(
    name: str, size: tuple[int, int], tile: int, chunk: Frames | None, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    x, twin = clip(9, *size), exact(model, Pixels(tile), chunk)
    assert [section.tiled for parts in twin.sections.values() for section in parts] == [True, False, False, True]
    assert_cut(twin, x)
    posterior, found = model.encode(x), twin.encode(x)
    check_tiled(lambda: posterior, lambda: found, limit=1e-12)
    assert difference(found.logvar, posterior.logvar) <= 1e-12
    assert found.fit == posterior.fit
    wanted = model.decode(posterior)
    check_tiled(lambda: wanted, lambda: twin.decode(posterior), limit=1e-12)
    own = torch.full_like(wanted, torch.nan)
    assert twin.decode(posterior, into=own) is own
    assert difference(own, wanted) < 1e-12
    if chunk:
        assert difference(torch.cat(list(twin.decode_stream(twin.encode_stream(x.split(4, 2)))), 2), wanted) < 1e-12


@torch.no_grad()
def test_a_model_without_attention_runs_in_tiles_from_end_to_end(small: VideoAutoencoder) -> None:
    x, twin = clip(11, 100, 170), exact(small, Pixels(24), Frames(8))
    assert [section.tiled for parts in twin.sections.values() for section in parts] == [True, True]
    assert_cut(twin, x)
    wanted = small.encode(x)
    check_tiled(lambda: wanted, lambda: twin.encode(x), limit=1e-12)
    check_tiled(lambda: small.decode(wanted), lambda: twin.decode(wanted), limit=1e-12)


@torch.no_grad()
def test_one_tile_is_the_model_bit_for_bit(small: VideoAutoencoder) -> None:
    x, twin = clip(5, 40, 24), exact(small, Pixels(64))
    assert torch.equal(twin.encode(x).mean, small.encode(x).mean)
    assert torch.equal(twin(x), small(x))


@torch.no_grad()
def test_the_halo_is_no_larger_than_it_must_be(iv: VideoAutoencoder) -> None:
    """Read with a cell less around them, tiles of the decoder are no longer the whole."""
    z = torch.randn(1, 4, 2, 16, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    twin = exact(iv, Pixels(16), directions=["decode"])
    whole = iv.decode(z)
    check_tiled(lambda: whole, lambda: twin.decode(z), limit=1e-12)
    cell = iv.spec.cell
    twin.sections = {
        "decode": tuple(replace(part, margin=max(part.margin - cell, 0)) for part in twin.sections["decode"])
    }
    assert difference(twin.decode(z), whole) > 1e-9


def test_peak_memory_of_iv_vae_is_below_half() -> None:
    """Live bytes of the decoder, counted; what comes out counts in both."""
    with torch.device("meta"):
        model, z = iv_vae(width=16, blocks=1).build().eval(), torch.zeros(1, 4, 2, 64, 64)
    twin = exact(model, Pixels(256), directions=["decode"])
    assert len(twin.plans(512, 512)["decode"].rows.spans) == 2
    whole, tiled = (peak_bytes(lambda each=each: each.decode(z)) for each in (model, twin))
    assert tiled < 0.5 * whole


LAYERS = signals(st.just(0)).flatmap(lambda signal: st.tuples(wired(signal), st.just(signal)))


@given(drawn=LAYERS, core=st.integers(1, 3))
@torch.no_grad()
def test_any_layer_in_tiles_of_its_halo_is_the_whole(drawn: tuple[LayerSpec, Signal], core: int) -> None:
    spec, signal = drawn
    halo = spec.halo(signal)
    assume(halo is not None)
    note(f"{signal}\n{spec}")
    cell = spec.cell(signal)
    links = [Link("layer", spec, signal)]
    section = Section(tuple(links), True, cell, _margin(links, cell))
    cells = side(spec, signal) * 4
    torch.manual_seed(0)
    module, x = spec.build(signal).double(), random_clip(signal, signal.frames(2), cells, cells + side(spec, signal))
    plan = section.plan(x.shape[3], x.shape[4], core * cell)
    tiled = partial(in_tiles, lambda tile, place: module(tile), x, plan)
    whole = module(x)
    # of small outputs too: a norm may divide by a pixel's small length, so that rounding grows
    check_tiled(lambda: whole, tiled, limit=1e-12 * max(1.0, 1 / float(whole.abs().max() or 1)))


def test_states_of_tiles_are_saved_and_continue(small: VideoAutoencoder, tmp_path: Path) -> None:
    x, twin = clip(9, 48, 48), exact(small, Pixels(24))
    with torch.no_grad():
        first, state = twin.encode_chunk(x[:, :, :5])
        save_state(state, tmp_path / "state.safetensors")
        second, _ = twin.encode_chunk(x[:, :, 5:], load_state(tmp_path / "state.safetensors"), last=True)
        wanted = small.encode(x).mean
        assert difference(torch.cat([first.mean, second.mean], 2), wanted) < 1e-12
        _, plain = small.encode_chunk(x[:, :, :5])
        for other in (small, exact(small, Pixels(16))):
            with pytest.raises(StreamError):
                other.encode_chunk(x[:, :, 5:], state)
        with pytest.raises(StreamError, match="without tiles"):
            twin.encode_chunk(x[:, :, 5:], plain)


def test_gradients_are_those_of_the_whole(small: VideoAutoencoder) -> None:
    x, twin = clip(5, 40, 40), exact(small, Pixels(24), Frames(4))
    wanted = torch.autograd.grad(small(x).square().sum(), small.decoder.parameters())
    found = torch.autograd.grad(twin(x).square().sum(), small.decoder.parameters())
    assert all(difference(a, b) < 1e-11 for a, b in zip(found, wanted, strict=True) if b.abs().max())


@pytest.mark.parametrize(
    ("spec", "direction", "told"),
    [
        (od_vae(width=4, groups=2), "encode", r"encoder\.level0\.block0\.norm_a \(frame_group_norm\)"),
        (od_vae(width=4, groups=2), "decode", r"decoder\.norm_out \(clip_group_norm\)"),
        (image_vae(widths=(4, 8), groups=2), "decode", r"decoder\.norm_out \(frame_group_norm\)"),
        (tae(widths=(8,) * 4, groups=2), "encode", r"encoder\..*clip_group_norm"),
        (open_sora(width=4, groups=2), "decode", r"decoder\..*group_norm"),
        (reducio("ft4"), "decode", r"decoder\..*sees whole frames"),
        (iv_vae(width=2, decoder_attention=(3,)), "decode", r"decoder\.level3\.attend2.*frame_attention"),
    ],
    ids=["od_encode", "od_decode", "image", "tae", "open_sora", "reducio", "attention_at_the_pixels"],
)
def test_what_sees_whole_large_frames_is_refused_by_name(
    spec: VideoAutoencoderSpec, direction: Direction, told: str
) -> None:
    with pytest.raises(TileError, match=told) as caught:
        sections(spec, direction)
    assert "\n" not in str(caught.value)
    assert "preset" in str(caught.value)


def test_sizes_in_another_unit_or_of_broken_cells_are_refused(small: VideoAutoencoder) -> None:
    with pytest.raises(TileError, match=r"latent cells where pixels are meant.*here Cells\(8\) is Pixels\(64\)"):
        exact(small, Cells(8))  # type: ignore[arg-type]
    with pytest.raises(TileError, match=r"latent positions where frames are meant.*here Positions\(3\) is Frames\(9\)"):
        exact(small, None, Positions(3))  # type: ignore[arg-type]
    with pytest.raises(TileError, match="tile=64: 64 says no unit"):
        exact(small, 64)  # type: ignore[arg-type]
    with pytest.raises(TileError, match="multiples of 8 are legal, as 64 or 72"):
        exact(small, Pixels(70))
    with pytest.raises(TileError, match="as 8"):
        exact(small, Pixels(0))
    with pytest.raises(TileError, match="break groups of 4; multiples are legal: 4, 8, 12"):
        exact(small, Pixels(64), Frames(6))
    with pytest.raises(TileError, match=r"into holds"):
        exact(small, Pixels(64)).decode(torch.zeros(1, 16, 1, 4, 4).double(), into=torch.zeros(1))
    assert exact(small, Pixels(64), Frames(9)).groups == exact(small, Pixels(64), Frames(8)).groups == 2


def looking_ahead(**more: LayerSpec) -> VideoAutoencoderSpec:
    """Convolutions in time that see later frames, so that it does not stream; any number of frames."""
    encoder = chain(
        mix=TemporalConvSpec(channels=6),
        fewer=TemporalConvSpec(channels=6, stride=2),
        small=SpatialDownsampleSpec(channels=4),
        **more,
    )
    decoder = chain(
        more=TemporalConvUpsampleSpec(channels=4),
        large=SpatialUpsampleSpec(channels=4),
        mix=TemporalConvSpec(channels=3, kernel=5),
    )
    return VideoAutoencoderSpec(name="ahead", encoder=encoder, decoder=decoder, framing=Framing(group=2))


@torch.no_grad()
@pytest.mark.parametrize("frames", [24, 23])
@pytest.mark.parametrize("tile", [None, Pixels(8)])
def test_chunks_of_a_model_that_looks_ahead_are_read_with_what_reaches_into_them(
    frames: int, tile: Pixels | None
) -> None:
    torch.manual_seed(0)
    model, x = shaken(looking_ahead().build()), clip(frames, 18, 20)
    twin = exact(model, tile, Frames(6))
    assert twin.around == {"encode": (1, 1), "decode": (2, 2)}
    posterior = model.encode(x)
    assert difference(twin.encode(x).mean, posterior.mean) < 1e-12
    wanted = model.decode(posterior)
    assert difference(twin.decode(posterior), wanted) < 1e-12
    twin.around = {"encode": (0, 0), "decode": (0, 0)}
    assert difference(twin.encode(x).mean, posterior.mean) > 1e-9
    assert difference(twin.decode(posterior), wanted) > 1e-9


def test_a_layer_that_sees_the_whole_clip_is_refused_by_name() -> None:
    spec = looking_ahead(norm=ClipGroupNormSpec(groups=2))
    with pytest.raises(TileError, match=r"encoder\.norm \(clip_group_norm\) sees the whole clip") as caught:
        exact(spec.build(), None, Frames(4))
    assert "\n" not in str(caught.value)
    assert exact(spec.build(), None, Frames(4), directions=["decode"]).around == {"decode": (2, 2)}


@torch.no_grad()
def test_noise_inside_is_cut_as_the_tiles_are() -> None:
    """A draw between two convolutions, at half the resolution."""
    encoder = chain(small=SpatialDownsampleSpec(channels=8), draw=PosteriorDrawSpec(), out=FrameConv2dSpec(channels=4))
    decoder = chain(large=SpatialUpsampleSpec(channels=3))
    spec = VideoAutoencoderSpec(name="drawing", encoder=encoder, decoder=decoder, framing=Framing())
    torch.manual_seed(0)
    model, x = shaken(spec.build()), clip(3, 20, 26)
    twin = exact(model, Pixels(8), Frames(1))
    wanted = model.encode(x, generator=torch.Generator().manual_seed(3))
    assert difference(twin.encode(x, generator=torch.Generator().manual_seed(3)).mean, wanted.mean) < 1e-12
    assert difference(model.encode(x).mean, wanted.mean) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("chunk", [None, Frames(4)], ids=["at_once", "chunks"])
def test_a_decoder_that_holds_frames_back_runs_in_tiles(chunk: Frames | None) -> None:
    """Each tile waits for the frame that follows, in its own stream."""
    encoder = chain(small=SpatialDownsampleSpec(channels=8), keep=FrameConv2dSpec(channels=4))
    decoder = chain(
        large=SpatialUpsampleSpec(channels=4), twice=LinearTemporalUpsampleSpec(), out=FrameConv2dSpec(channels=3)
    )
    spec = VideoAutoencoderSpec(
        name="waiting",
        encoder=chain(**{"fewer": TemporalConvSpec(channels=3, kernel=2, stride=2), **encoder.layers}),
        decoder=decoder,
        framing=Framing(group=2),
    )
    torch.manual_seed(0)
    model = shaken(spec.build())
    z = torch.randn(1, 2, 9, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    twin = exact(model, Pixels(8), chunk, directions=["decode"])
    check_tiled(lambda: model.decode(z), lambda: twin.decode(z), limit=1e-12)


@torch.no_grad()
def test_pieces_pass_by_themselves_in_a_twin_too() -> None:
    spec = open_sora(width=4, spatial={"widths": (4, 4), "groups": 2, "blocks": 1}, piece=5, groups=2, blocks=1)
    torch.manual_seed(0)
    model, x = shaken(spec.build()), clip(11, 8, 8)
    twin = exact(model, None, Frames(5))
    posterior = model.encode(x)
    check_tiled(lambda: posterior, lambda: twin.encode(x), limit=1e-12)
    check_tiled(lambda: model.decode(posterior), lambda: twin.decode(posterior), limit=1e-12)


@torch.no_grad()
def test_a_streaming_spec_of_another_family_goes_chunk_by_chunk() -> None:
    torch.manual_seed(0)
    model, x = shaken(od_vae_streaming(width=4, groups=2, blocks=1).build()), clip(13, 16, 16)
    twin = exact(model, None, Frames(4))
    posterior = model.encode(x)
    check_tiled(lambda: posterior, lambda: twin.encode(x), limit=1e-12)
    check_tiled(lambda: model.decode(posterior), lambda: twin.decode(posterior), limit=1e-12)


def test_the_tiles_are_known_before_anything_runs(small: VideoAutoencoder) -> None:
    plans = exact(small, Pixels(64), Frames(8)).plans(100, 200)
    assert all(plan.exact for plan in plans.values())
    assert (len(plans["encode"].rows.spans), len(plans["decode"].columns.spans)) == (2, 4)
    assert plans["decode"].columns.length == 200
