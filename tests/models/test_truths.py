"""Truths in time in words: they follow from the spec, and change with it."""

from __future__ import annotations

import pytest

from tests.models.tiny import tiny_model
from vvae.arch import image_vae, iv_vae, wan
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.framing import Framing
from vvae.layers import CausalConv3dSpec, ClipGroupNormSpec, FrameConv2dSpec, TemporalConvSpec, chain
from vvae.models.truths import DIRECTIONS, ahead, in_time, sights, told
from vvae.spec import LayerSpec

NORM = ClipGroupNormSpec(groups=1)
CAUSAL = CausalConv3dSpec(channels=6)
AHEAD = TemporalConvSpec(channels=6)


def spec(encoder: LayerSpec = CAUSAL, decoder: LayerSpec = CAUSAL, piece: int | None = None) -> VideoAutoencoderSpec:
    """One frame a latent; `encoder` and `decoder` stand before a convolution per frame."""
    return VideoAutoencoderSpec(
        name="x",
        encoder=chain(first=encoder, last=FrameConv2dSpec(channels=6)),
        decoder=chain(first=decoder, last=FrameConv2dSpec(channels=3)),
        framing=Framing(piece=piece),
    )


TRUTHS = [
    (spec(FrameConv2dSpec(channels=6), FrameConv2dSpec(channels=6)), "every frame by itself"),
    (spec(), "group causal"),
    (spec(decoder=AHEAD), "decoder looks 1 latent ahead"),
    (spec(decoder=chain(a=AHEAD, b=AHEAD)), "decoder looks 2 latents ahead"),
    (spec(encoder=AHEAD, decoder=AHEAD), "encoder looks 1 latent ahead, decoder looks 1 latent ahead"),
    (spec(decoder=TemporalConvSpec(channels=6, kernel=15)), "decoder looks 7 latents ahead"),
    (spec(encoder=NORM, decoder=NORM), "sees the whole clip"),
    (spec(encoder=NORM), "encoder sees the whole clip"),
    (spec(encoder=NORM, decoder=AHEAD), "encoder sees the whole clip, decoder looks 1 latent ahead"),
    (spec(encoder=NORM, decoder=NORM, piece=5), "pieces of 5, each seen whole"),
    (spec(piece=5), "pieces of 5, group causal"),
    (spec(decoder=AHEAD, piece=5), "pieces of 5, decoder looks 1 latent ahead"),
    (image_vae(widths=(32,), blocks=1), "every frame by itself"),
    (iv_vae(width=2, latent_channels=2, blocks=1), "group causal"),
    (wan(width=2, latent_channels=2, blocks=1), "group causal"),
    (tiny_model().spec, "group causal"),
]


@pytest.mark.parametrize(("made", "words"), TRUTHS, ids=[words for _, words in TRUTHS])
def test_a_spec_is_told_in_a_few_words(made: VideoAutoencoderSpec, words: str) -> None:
    assert in_time(made) == words


def test_looking_ahead_adds_up_as_the_dependency_does() -> None:
    for count in range(4):
        made = spec(decoder=chain(**{f"layer{i}": AHEAD for i in range(count)}))
        assert ahead(made, "decode") == count
        seen = made.dependency(12, "decode")
        assert int(seen[0].nonzero()[0].max()) == count


def test_layers_are_counted_and_the_first_is_named() -> None:
    made = spec(encoder=chain(a=CAUSAL, b=NORM, c=AHEAD, d=NORM))
    assert told(made, "encode") == [
        "whole clip seen by 2 clip_group_norm; first first.b",
        "1 group ahead seen by 1 temporal_conv; first first.c",
    ]
    assert told(made, "decode") == ["no layer sees the whole clip, none looks ahead"]
    assert [sight.path for sight in sights(made, "encode") if sight.ahead is None] == [
        "encoder.first.b",
        "encoder.first.d",
    ]


def test_what_streams_has_no_layer_that_sees_the_whole_clip() -> None:
    for made, _ in TRUTHS:
        whole = {part: any(sight.ahead is None for sight in sights(made, part)) for part in DIRECTIONS}
        for part in DIRECTIONS:
            assert not (whole[part] and made.stream_limit(part) is None and made.framing.piece is None)
