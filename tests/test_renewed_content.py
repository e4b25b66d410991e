"""A content image for every few frames of a clip that passes as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vvae import ClipNorm, Framing, SpecError, StreamError, VideoAutoencoder, VideoAutoencoderSpec, WholeClip, verify
from vvae.content import ContentSpec
from vvae.layers import (
    CausalConv3dSpec,
    ClipGroupNormSpec,
    ContentAttentionSpec,
    FrameConv2dSpec,
    LookAheadConvSpec,
    ResidualSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    chain,
)
from vvae.video.steps import decoded, encoded, in_steps

EVERY = 4
CONTENT = ContentSpec(stages={"coarse": SpatialDownsampleSpec(channels=4)}, every=EVERY)


def spec(**fields: Any) -> VideoAutoencoderSpec:
    look = ResidualSpec(layers={"look": ContentAttentionSpec(content="coarse", heads=1, head_width=4)})
    parts = {
        "name": "renewed",
        "encoder": chain(
            down=SpatialDownsampleSpec(channels=4),
            fewer=TemporalDownsampleSpec(channels=4),
            past=CausalConv3dSpec(channels=8),
        ),
        "decoder": chain(
            past=CausalConv3dSpec(channels=4),
            content=look,
            more=TemporalRepeatSpec(),
            up=SpatialUpsampleSpec(channels=4),
            out=CausalConv3dSpec(channels=3),
        ),
        "framing": Framing(group=2),
        "content": CONTENT,
    }
    return VideoAutoencoderSpec(**{**parts, **fields})


def built(own: VideoAutoencoderSpec) -> VideoAutoencoder:
    torch.manual_seed(0)
    return own.build().double()


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    return built(spec())


def clip(frames: int = 10) -> Tensor:
    return verify.random_clip(spec().pixels, frames, 8, 6, batch=2)


@torch.no_grad()
def test_every_stretch_has_its_own_image(model: VideoAutoencoder) -> None:
    x = clip()
    posterior = model.encode(x)
    assert torch.equal(posterior.content, x[:, :, [1, 5, 8]])
    features = model.content(posterior.content)
    assert torch.equal(model.decode(posterior.mode(), frames=10, content=features), model.decode(posterior))
    assert torch.equal(model.encode(clip(9)).content, clip(9)[:, :, [1, 5, 8]])


@pytest.mark.parametrize("plan", [[4, 4, 2], [8, 2], [10], [1] * 10, [3, 7], [0, 8, 0, 1]])
@torch.no_grad()
def test_chunks_are_the_whole_clip(model: VideoAutoencoder, plan: list[int]) -> None:
    x = clip(sum(plan))
    whole = model.encode(x)
    posteriors = list(model.encode_stream(x.split(plan, 2)))
    assert torch.equal(torch.cat([p.content for p in posteriors], 2), whole.content)
    verify.check_model_stream(model, x, plan)
    back = model.decode(whole)
    assert back.shape == x.shape
    plain = model.decode_stream(whole.mode().split(1, 2), frames=sum(plan), content=whole.content)
    assert verify.difference(torch.cat(list(plain), 2), back) <= 1e-12


@torch.no_grad()
def test_with_equal_images_the_clip_passes_as_one(model: VideoAutoencoder) -> None:
    z, image = model.encode(clip()).mode(), clip(1)
    given = model.decode(z, content=image.repeat(1, 1, 3, 1, 1))
    whole = model.decoder(z, WholeClip(content=model.content(image)))
    assert verify.difference(given, whole) <= 1e-12
    pieces = built(spec(framing=Framing(group=2, piece=EVERY), content=CONTENT.replace(every=None)))
    assert verify.difference(pieces.decode(z, content=image.repeat(1, 1, 3, 1, 1)), whole) > 1e-3


@torch.no_grad()
def test_an_image_changes_its_own_frames_and_none_before(model: VideoAutoencoder) -> None:
    posterior = model.encode(clip())
    base = model.decode(posterior)
    for number in range(3):
        images = posterior.content.clone()
        images[:, :, number] = torch.randn_like(images[:, :, number])
        other = model.decode(posterior.mode(), frames=10, content=images)
        changed = (other != base).flatten(3).any(3).any(1).any(0).nonzero().flatten().tolist()
        # the last convolution sees two frames back
        assert changed == [t for t in range(10) if EVERY * number <= t < EVERY * (number + 1) + 2]


def test_the_decoder_goes_on_from_image_to_image(model: VideoAutoencoder) -> None:
    posterior = model.encode(clip())
    content = {name: feature.detach() for name, feature in model.content(posterior.content).items()}
    declared = model.spec.dependency(10, "decode")
    assert declared[EVERY, 0]
    verify.check_reach(lambda z: model.decode(z, content=content), declared, posterior.mean.detach())


def test_a_chunk_is_whole_stretches(model: VideoAutoencoder) -> None:
    with pytest.raises(StreamError, match=r"inside a stretch: give 2 more.*stretches of 4"):
        model.encode_chunk(clip(6))
    posterior, _ = model.encode_chunk(clip(4))
    with pytest.raises(StreamError, match="1 latents end inside a stretch of 2"):
        model.decode_chunk(posterior.mode()[:, :, :1], content=posterior.content)


def test_the_state_is_counted_and_the_spec_survives_json() -> None:
    assert (spec().summary((8, 8, 8)).decode.state_bytes or 0) > 0
    verify.check_spec_json(spec())
    assert spec().chunks("decode").group == 2


NORM = ClipGroupNormSpec(groups=2)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "pieces": ({"framing": Framing(group=2, piece=4)}, "pieces of 4 frames have an image each"),
    "half_groups": ({"content": CONTENT.replace(every=3)}, "take no lead, and a multiple of the group"),
    "whole_clip_norm": ({"decoder": chain(norm=NORM, own=spec().decoder)}, r"decoder\.norm: its norm is over"),
    "look_ahead": (
        {"decoder": chain(**spec().decoder.children(), ahead=LookAheadConvSpec(channels=3))},
        "decoder: .*waits for later frames",
    ),
    "look_ahead_of_the_encoder": (
        {"encoder": chain(**spec().encoder.children(), ahead=LookAheadConvSpec(channels=8))},
        "encoder: .*waits for later frames",
    ),
    "clip_norm": ({"latent": ClipNorm()}, "latent: clip_norm is over all latents"),
    "no_frames": ({"content": {"stages": CONTENT.stages, "every": 0}}, "every"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_renewed_is_no_spec(name: str) -> None:
    fields, told = WRONG[name]
    with pytest.raises(SpecError, match=told):
        spec(**fields)


def test_a_lead_stands_in_no_stretch() -> None:
    lead = {"encoder": FrameConv2dSpec(channels=8), "framing": Framing(lead=1, group=4)}
    look = ContentAttentionSpec(content="coarse", heads=1, head_width=4)
    with pytest.raises(SpecError, match="lead 1 and groups of 4; take no lead"):
        spec(**lead, decoder=chain(look=look, out=FrameConv2dSpec(channels=3)))


@pytest.mark.parametrize("groups", [1, 2])
@torch.no_grad()
def test_a_clip_from_a_file_goes_stretch_by_stretch(model: VideoAutoencoder, groups: int) -> None:
    x = clip(10)[:1]
    steps = in_steps(((frame, None) for frame in x.split(1, 2)), model.spec.chunks("encode"), groups)
    posteriors = (done.posterior for done in encoded(model, steps))
    found = torch.cat(list(decoded(model, posteriors, groups)), 2)
    assert verify.difference(found, model(x).float().clamp(-1, 1)) <= 1e-6
