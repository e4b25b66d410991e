"""Clips that fall into pieces, each of which passes by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vvae import Fit, Framing, SpecError, StreamError, VideoAutoencoder, VideoAutoencoderSpec, VideoError, verify
from vvae.layers import (
    ClipGroupNormSpec,
    FrameConv2dSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    chain,
)

NORM = ClipGroupNormSpec(groups=2)


def pieced(piece: int | None = 4, group: int = 2, **framing: object) -> VideoAutoencoderSpec:
    """A model that sees the whole piece, in groups of `group` frames per latent position."""
    encoder = chain(
        down=SpatialDownsampleSpec(channels=4),
        fewer=TemporalDownsampleSpec(channels=4, factor=group),
        norm=NORM,
        out=FrameConv2dSpec(channels=4),
    )
    decoder = chain(
        widen=FrameConv2dSpec(channels=4),
        norm=NORM,
        more=TemporalRepeatSpec(factor=group),
        up=SpatialUpsampleSpec(channels=3),
    )
    return VideoAutoencoderSpec(
        name="pieced", encoder=encoder, decoder=decoder, framing=Framing(group=group, piece=piece, **framing)
    )


def model(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec.build().double().eval()


def clip(frames: int) -> Tensor:
    return torch.randn(2, 3, frames, 8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 8, 10])
def test_clip_is_its_pieces_one_by_one(frames: int) -> None:
    whole, x = model(pieced()), clip(frames)
    alone = model(pieced(piece=None))
    with torch.no_grad():
        posterior = whole.encode(x)
        parts = [alone.encode(piece) for piece in x.split(4, 2)]
        assert torch.equal(posterior.mean, torch.cat([part.mean for part in parts], 2))
        assert posterior.fit == Fit(frames, 8, 6)
        assert torch.equal(whole.decode(posterior), torch.cat([alone.decode(part) for part in parts], 2))


@pytest.mark.parametrize("plan", [[4, 4, 2], [10], [1, 5, 4], [3] * 3 + [1], [0, 8, 0, 2]])
def test_stream_goes_piece_by_piece(plan: list[int]) -> None:
    spec, x = pieced(), clip(10)
    assert spec.stream_limit("encode") is None
    verify.check_model_stream(model(spec), x, plan, tolerance=0.0)
    with torch.no_grad():
        whole = model(spec).encode(x)
        posteriors = list(model(spec).encode_stream(x.split(plan, 2)))
        assert sum(p.fit.frames for p in posteriors) == 10
        video = torch.cat(list(model(spec).decode_stream(posteriors)), 2)
        tensors = model(spec).decode_stream(whole.mean.split(1, 2), frames=9, size=(7, 5))
        assert torch.equal(torch.cat(list(tensors), 2), video[:, :, :9, :7, :5])


def test_chunk_that_ends_inside_a_piece_is_refused() -> None:
    with pytest.raises(StreamError, match="pieces of 4"):
        model(pieced()).encode_chunk(clip(6))
    with pytest.raises(StreamError, match="whole pieces"):
        model(pieced()).decode_chunk(torch.zeros(1, 2, 3, 4, 3, dtype=torch.float64))


@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9, 11])
def test_dependency_is_that_of_every_piece_by_itself(frames: int) -> None:
    spec = pieced()
    numbers = np.arange(frames) // 4
    assert np.array_equal(spec.dependency(frames), numbers[:, None] == numbers[None, :])
    assert spec.dependency(frames, "encode").shape == (spec.latent_frames(frames), frames)
    verify.check_reach(model(spec), spec.dependency(frames), clip(frames))


def test_counts_are_those_of_the_pieces() -> None:
    spec = pieced()
    assert [spec.latent_frames(n) for n in (1, 2, 4, 5, 8, 9)] == [1, 1, 2, 3, 4, 5]
    assert [spec.filled_frames(n) for n in (1, 2, 4, 5, 8, 9)] == [2, 2, 4, 6, 8, 10]
    assert [spec.floored_frames(n) for n in (1, 2, 4, 5, 7, 9)] == [0, 2, 4, 4, 6, 8]
    assert [spec.decoded_frames(n) for n in (0, 1, 2, 3, 4)] == [0, 2, 4, 6, 8]
    with pytest.raises(VideoError, match="4 or 6 frames"):
        model(spec).encode(clip(5), framing="refuse")


def test_pieces_that_do_not_pass_are_no_spec() -> None:
    with pytest.raises(SpecError, match="pieces of 3"):
        pieced(piece=3)


def test_published_framing_cuts_pieces_only_where_the_release_does() -> None:
    x = clip(8)
    with torch.no_grad():
        cut = model(pieced()).encode(x, framing="published")
        assert torch.equal(cut.mean, model(pieced()).encode(x).mean)
        one = model(pieced(published_pieces=False)).encode(x, framing="published")
        assert torch.equal(one.mean, model(pieced(piece=None)).encode(x).mean)


def test_pieces_that_were_not_asked_for_are_not_decoded() -> None:
    made, calls = model(pieced()), []
    made.decoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        z = made.encode(clip(12)).mode()
        first = made.decode(z, frames=5)
        assert len(calls) == 2
        assert torch.equal(first, made.decode(z)[:, :, :5])


def test_peak_and_page_know_of_pieces() -> None:
    summary = pieced().summary((9, 8, 6))
    assert summary.piece == 4
    assert "pieces of 4" in str(summary)
    assert (summary.encode.history, summary.encode.look_ahead) == (None, None)
    assert summary.encode.state_bytes == 0
    assert not summary.encode.group_causal


def test_scaling_of_every_piece_is_its_own() -> None:
    from vvae import ClipNorm

    spec = pieced().replace(latent=ClipNorm())
    made, x = model(spec), clip(8)
    with torch.no_grad():
        posterior = made.encode(x)
        normalized = made.scaling.normalize(posterior.mode())
        parts = [ClipNorm().normalize(part) for part in posterior.mode().split(2, 2)]
        assert torch.equal(normalized, torch.cat(parts, 2))
        assert torch.equal(made.decode(normalized), made.decode(posterior))


def test_difference_is_seen_by_the_laws() -> None:
    """A clip whose pieces saw each other would be another."""
    x = clip(8)
    with torch.no_grad():
        assert verify.difference(model(pieced()).encode(x).mean, model(pieced(piece=None)).encode(x).mean) > 1e-3
