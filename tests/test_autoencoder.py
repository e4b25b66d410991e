"""Whole models: sizes, framing, dependency, cost, dtype, compilation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vvae import Framing, SpecError, VideoError, verify
from vvae.arch import iv_vae
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import OperationCounter, flops, peak_bytes
from vvae.layers import (
    FrameAttention,
    GroupCausalConv3d,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    chain,
    opaque,
)

TINY = iv_vae(width=2, latent_channels=2, blocks=1)


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    torch.manual_seed(0)
    return TINY.build().double().eval()


def clip(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize(
    "size", [(7, 17), *(pytest.param(size, marks=pytest.mark.thorough) for size in ((8, 8), (1, 3)))], ids=str
)
@pytest.mark.parametrize("frames", range(1, 65))
@torch.no_grad()
def test_every_length_comes_back_and_has_a_latent_for_every_frame(
    model: VideoAutoencoder, frames: int, size: tuple[int, int]
) -> None:
    x = clip(frames, *size)
    verify.check_accounting(model.encode, model.decode, x, seen=frames in (1, 6))
    positions = TINY.latent_shape(frames, *size)
    assert tuple(model.encode(x).mean.shape[1:]) == positions
    assert TINY.decoded_frames(positions[1]) >= frames


@pytest.fixture(scope="module")
def short() -> VideoAutoencoder:
    """With a level less in space."""
    torch.manual_seed(0)
    return iv_vae(width=2, latent_channels=2, blocks=1, multipliers=(1, 1, 1), temporal=(True, True)).build()


@given(frames=st.integers(1, 64), height=st.integers(1, 64), width=st.integers(1, 64))
@torch.no_grad()
def test_any_drawn_size_comes_back(short: VideoAutoencoder, frames: int, height: int, width: int) -> None:
    verify.check_accounting(short.encode, short.decode, clip(frames, height, width).float(), seen=False)


@torch.no_grad()
def test_fill_is_bit_for_bit_refuse_where_the_size_fits(model: VideoAutoencoder) -> None:
    x = clip(9, 16, 24)
    moments = [model.encode(x, framing=rule) for rule in ("fill", "refuse", "published")]
    for other in moments[1:]:
        assert torch.equal(moments[0].mean, other.mean)
        assert torch.equal(moments[0].logvar, other.logvar)
        assert torch.equal(model.decode(moments[0]), model.decode(other))


@torch.no_grad()
def test_fill_repeats_the_last_frame_row_and_column(model: VideoAutoencoder) -> None:
    x = clip(7, 13, 18)
    filled = nn.functional.pad(x, (0, 6, 0, 3, 0, 2), mode="replicate")
    assert verify.difference(model.encode(x).mean, model.encode(filled, framing="refuse").mean) <= 1e-12
    assert verify.difference(model(x), model(filled)[:, :, :7, :13, :18]) <= 1e-12


@pytest.mark.parametrize(
    ("size", "told"), [((7, 16, 16), "5 or 9 frames"), ((5, 15, 16), "16 x 16"), ((3, 8, 8), "1 or 5 frames")]
)
def test_refuse_names_the_nearest_sizes(model: VideoAutoencoder, size: tuple[int, int, int], told: str) -> None:
    with pytest.raises(VideoError, match=told):
        model.encode(clip(*size), framing="refuse")


def test_published_framing_floors_and_truncates(model: VideoAutoencoder) -> None:
    x = clip(7, 17, 27)
    posterior = model.encode(x, framing="published")
    assert posterior.mean.shape[2:] == (2, 2, 3)
    assert model.decode(posterior).shape[2:] == (5, 16, 24)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.zeros(3, 5, 8, 8), "b c t h w"),
        (torch.zeros(1, 1, 5, 8, 8), "c = 3"),
        (torch.zeros(1, 3, 0, 8, 8), "at least one frame"),
        (torch.zeros(1, 3, 5, 0, 8), "at least one"),
        (torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8), "floating point"),
        (torch.zeros(0, 3, 5, 8, 8), "at least one"),
        (None, "found NoneType"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(model: VideoAutoencoder, bad: torch.Tensor, told: str) -> None:
    with pytest.raises(VideoError, match=told) as caught:
        model.encode(bad)
    assert "\n" not in str(caught.value)


def test_words_that_are_not_known_are_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(VideoError, match="fill, refuse, published"):
        model.encode(clip(1, 8, 8), framing="Fill")  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="encode, decode, reconstruct"):
        TINY.dependency(5, "foo")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="derived"):
        iv_vae(grouping="foo")
    with pytest.raises(SpecError, match="width"):
        iv_vae(width=0)
    with pytest.raises(SpecError, match="near it: width"):
        iv_vae(widht=8)
    with pytest.raises(VideoError, match="three numbers"):
        TINY.summary(size=(5, 8))  # type: ignore[arg-type]


def test_published_framing_refuses_what_it_would_floor_to_nothing(model: VideoAutoencoder) -> None:
    with pytest.raises(VideoError, match="nothing is left"):
        model.encode(clip(5, 7, 16), framing="published")


@pytest.mark.parametrize(
    "wrong", [{"frames": -1}, {"size": (8,)}, {"size": (-1, 5)}, {"size": 8}, {"size": ()}], ids=str
)
def test_a_crop_that_cannot_be_is_refused(model: VideoAutoencoder, wrong: dict[str, object]) -> None:
    with pytest.raises(VideoError):
        model.decode(torch.zeros(1, 2, 2, 2, 2), **wrong)  # type: ignore[arg-type]


def test_latents_of_a_wrong_shape_are_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(VideoError, match="latents"):
        model.decode(torch.zeros(1, 2, 2, 0, 2))
    with pytest.raises(VideoError, match="latents"):
        model.decode(torch.zeros(1, 2, 2, 2, 2, dtype=torch.complex64))
    with pytest.raises(VideoError, match="c = 2"):
        model.decode(torch.zeros(1, 3, 2, 2, 2))
    with pytest.raises(VideoError, match="cannot give"):
        model.decode(torch.zeros(1, 2, 2, 2, 2), frames=6)


def test_lone_frame_and_shorter_clips_are_prefixes(model: VideoAutoencoder) -> None:
    x = clip(13, 8, 8)
    verify.check_prefix(model.encode, TINY.pixels, x, TINY.latents)
    verify.check_first_frame(model.encode, TINY.pixels, x, TINY.latents)


@pytest.mark.parametrize("direction", ["encode", "decode", "reconstruct"])
@pytest.mark.parametrize("frames", [9, 11])
def test_declared_dependency_is_measured(model: VideoAutoencoder, direction: str, frames: int) -> None:
    declared = TINY.dependency(frames, direction)
    x = clip(frames, 8, 8)
    if direction == "encode":
        verify.check_reach(lambda v: model.encode(v).mean, declared, x)
    elif direction == "decode":
        z = model.encode(x).mode().detach()
        verify.check_reach(lambda v: model.decode(v, frames=frames), declared, z)
    else:
        verify.check_reach(model, declared, x)


def test_dependency_is_the_published_one() -> None:
    spec = iv_vae("z4_dim64")
    encode = spec.dependency(37, "encode")
    for k in range(10):
        assert np.flatnonzero(encode[k]).tolist() == list(range(max(0, 4 * k - 20), 4 * k + 1))
    decode = spec.dependency(37, "decode")
    for frame in range(37):
        group = (frame + 3) // 4
        assert np.flatnonzero(decode[frame]).tolist() == list(range(max(0, group - 6), group + 1))
    both = spec.dependency(61)
    assert np.flatnonzero(both[49]).tolist() == list(range(8, 53))
    assert np.flatnonzero(both[60]).tolist() == list(range(16, 61))


@pytest.mark.parametrize(("frames", "encode", "decode"), [(1, 0.276e12, 0.445e12), (17, 6.34e12, 10.43e12)])
def test_full_size_model_costs_no_more_than_what_is_kept(frames: int, encode: float, decode: float) -> None:
    with torch.device("meta"):
        model = iv_vae("z16_dim64").build()
        x = torch.zeros(1, 3, frames, 256, 256)
    z = model.encode(x).mode()
    assert flops(lambda: model.encode(x))["Global"] <= encode
    assert flops(lambda: model.decode(z))["Global"] <= decode


@torch.no_grad()
def test_whole_clip_path_has_no_loop_over_groups(model: VideoAutoencoder) -> None:
    counts = []
    for frames in (5, 65):
        x = clip(frames, 8, 8)
        with OperationCounter() as encode:
            z = model.encode(x).mode()
        with OperationCounter() as decode:
            model.decode(z)
        counts.append((encode.count, decode.count))
    assert counts[0] == counts[1]


@torch.no_grad()
def test_lone_first_frame_costs_one_2d_convolution() -> None:
    conv, x = GroupCausalConv3d(8, 8, group=4), torch.randn(1, 8, 1, 16, 16)
    assert flops(lambda: conv(x))["Global"] == flops(lambda: nn.Conv2d(8, 8, 3, padding=1)(x[:, :, 0]))["Global"]


def test_attention_stores_nothing_of_the_size_of_all_pairs() -> None:
    attention, seen = FrameAttention(4), []

    class Sizes(OperationCounter):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = super().__torch_dispatch__(func, types, args, kwargs)
            seen.extend(t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))
            return out

    x = torch.randn(1, 4, 1, 24, 24, requires_grad=True)
    with Sizes():
        attention(x).sum().backward()
    assert max(seen) < (24 * 24) ** 2 / 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_zero_pixels_in_half_precision_give_no_nan(dtype: torch.dtype) -> None:
    from vvae.layers import ChannelRMSNorm

    x = torch.zeros(1, 4, 2, 3, 3, dtype=dtype)
    x[..., 0] = 1e-4
    x.requires_grad_()
    y = ChannelRMSNorm(4).to(dtype)(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad[..., 1:].eq(0).all()
    assert x.grad.isfinite().all()


def test_half_precision_model_gives_a_float32_posterior(model: VideoAutoencoder) -> None:
    half = TINY.build().to(torch.bfloat16)
    posterior = half.encode(clip(5, 8, 8))
    assert posterior.mean.dtype == torch.float32
    assert half.decode(posterior).dtype == torch.bfloat16


def compiled(*temporal: bool) -> tuple[VideoAutoencoder, VideoAutoencoder]:
    """A small model, and its compiled twin."""
    levels = (1,) * (len(temporal) + 1)
    model = iv_vae(width=2, latent_channels=2, blocks=1, multipliers=levels, temporal=temporal).build().double()
    return model, model.compile(fullgraph=True, backend="eager")


@pytest.mark.parametrize("temporal", [(), pytest.param((True,), marks=pytest.mark.thorough)], ids=str)
@torch.no_grad()
def test_compiled_model_gives_the_same(temporal: tuple[bool, ...]) -> None:
    (model, fast), x = compiled(*temporal), clip(9, 4, 4)
    # not bit for bit: a compiled graph norms the clip as a whole, otherwise it is normed piece by piece
    assert verify.difference(fast.encode(x).mean, model.encode(x).mean) <= 1e-12
    assert verify.difference(fast(x), model(x)) <= 1e-12
    assert fast.state_dict().keys() == model.state_dict().keys()
    torch._dynamo.reset()


@pytest.mark.thorough
@torch.no_grad()
def test_compiled_model_gives_the_same_streaming() -> None:
    (model, fast), x = compiled(True), clip(9, 4, 4)
    chunks = list(fast.decode_stream(fast.encode_stream(x.split(5, 2))))
    assert verify.difference(torch.cat(chunks, 2), model(x)) <= 1e-12
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "fields",
    [
        {"temporal": (True, True, True)},
        {"temporal": (False, False, True)},
        {"temporal": (False, True, False)},
        {"temporal": (False, False, False)},
        {"multipliers": (1, 2), "temporal": (True,)},
        {"multipliers": (1, 1, 2, 2, 2), "temporal": (True, False, True, False)},
        {"multipliers": (1, 1, 1, 1)},
        {"encoder_attention": (0, 2), "decoder_attention": (1,)},
    ],
    ids=str,
)
def test_patterns_that_the_published_code_cannot_run_work(fields: dict[str, object]) -> None:
    spec: VideoAutoencoderSpec = iv_vae(width=2, latent_channels=2, blocks=1, **fields)
    model, group = spec.build().double(), 2 ** sum(fields.get("temporal", (False, True, True)))  # type: ignore[call-overload]
    assert spec.framing.group == group
    x = clip(1 + 2 * group, 16, 16)
    verify.check_reach(lambda v: model.encode(v).mean, spec.dependency(x.shape[2], "encode"), x)
    verify.check_accounting(model.encode, model.decode, x, seen=False)
    verify.check_model_stream(model, x, [3] * (x.shape[2] // 3) + [x.shape[2] % 3])


@torch.no_grad()
def test_sizes_are_filled_to_the_largest_cell_inside() -> None:
    encoder = chain(
        down=SpatialDownsampleSpec(channels=4, kernel=4, factor=4), up=SpatialUpsampleSpec(channels=4, factor=2)
    )
    spec = VideoAutoencoderSpec(
        name="down_and_up", encoder=encoder, decoder=SpatialUpsampleSpec(channels=3), framing=Framing()
    )
    assert (spec.cell, spec.filled_size(5, 8), spec.latent_shape(3, 5, 8)) == (4, (8, 8), (2, 3, 4, 4))
    assert spec.build().double()(clip(3, 5, 7)).shape == (1, 3, 3, 5, 7)


@torch.no_grad()
def test_a_plain_module_stands_among_layers() -> None:
    spec = TINY.replace_at("encoder.level0.block0.act_a", opaque(nn.Conv3d(4, 4, 1), 4))
    assert spec.build().double()(clip(5, 8, 8)).shape == (1, 3, 5, 8, 8)
    with pytest.raises(SpecError, match="cannot be saved"):
        spec.to_json()


def test_summary_tells_what_is_measured() -> None:
    spec = iv_vae("z16_dim64")
    found = spec.summary(size=(5, 64, 64))
    assert found.parameters == 107_798_550
    assert (found.positions, found.numbers) == (256, 48)
    assert found.latent_shape == (16, 2, 8, 8)
    assert (found.lead, found.group) == (1, 4)
    for part, history in ((found.encode, 17), (found.decode, 24)):
        assert part.group_causal
        assert (part.history, part.look_ahead, part.limit) == (history, 0, None)
        assert sum(part.stages.values()) == part.flops
    c, area = 64, 64 * 64
    assert found.encode.state_bytes == 4 * ((3 + 8 * c) * area + 14 * c * area // 4 + 28 * c * area // 16)
    assert "group causal" in str(found)


@torch.no_grad()
def test_peak_bytes_are_those_of_real_tensors() -> None:
    def peaks(device: str) -> list[int]:
        with torch.device(device):
            model = iv_vae(width=4, latent_channels=2).build()
            video, latents = torch.zeros(1, 3, 9, 96, 96), torch.zeros(1, 2, 3, 12, 12)
        return [peak_bytes(lambda: model.encode(video)), peak_bytes(lambda: model.decode(latents))]

    assert all(abs(a - b) <= 0.02 * b for a, b in zip(peaks("meta"), peaks("cpu"), strict=True))


def test_peak_bytes_count_what_is_alive() -> None:
    x = torch.zeros(1024, device="meta")  # 4096 bytes
    assert peak_bytes(lambda: x + 1) == 2 * 4096
    assert peak_bytes(lambda: [y := x + 1, y.add_(1)]) == 2 * 4096
    assert peak_bytes(lambda: ((x + 1) + 1) + 1) == 3 * 4096


@torch.no_grad()
def test_channels_last_changes_the_layout_alone() -> None:
    plain, x = TINY.build().double(), clip(5, 8, 8)
    laid = copy.deepcopy(plain).channels_last()
    kernels = [p for p in laid.parameters() if p.ndim in (4, 5) and min(p.shape[1], p[0, 0].numel()) > 1]
    assert kernels
    assert not any(kernel.is_contiguous() for kernel in kernels)
    assert all(torch.equal(p, q) for p, q in zip(laid.parameters(), plain.parameters(), strict=True))
    assert verify.difference(laid(x), plain(x)) <= 1e-12
