"""Models whose decoder reads features of one frame of each piece."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from vvae import Framing, LayerSpec, SpecError, VideoAutoencoder, VideoAutoencoderSpec, VideoError, verify
from vvae import reach as reach_of
from vvae.content import ContentSpec
from vvae.context import Context
from vvae.layers import FrameConv2dSpec, SpatialDownsampleSpec, SpatialUpsampleSpec, chain
from vvae.layers.layer import Layer
from vvae.reach import Reach
from vvae.signal import Signal


class AddFeature(Layer):
    """Adds a feature of the content to every frame."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x + ctx.content[self.name] if self.name in ctx.content else x


class AddFeatureSpec(LayerSpec):
    kind: Literal["tests.add_feature"] = "tests.add_feature"
    name: str

    def trace(self, signal: Signal) -> Signal:
        if self.name not in signal.content:
            raise SpecError(f"no content {self.name!r}; the content has {', '.join(signal.content) or 'nothing'}")
        return signal

    def build(self, signal: Signal) -> AddFeature:
        return AddFeature(self.name)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach_of.same_frame(frames)

    def reads(self) -> frozenset[str]:
        return frozenset({self.name})


STAGES = {
    "fine": FrameConv2dSpec(channels=4),
    "coarse": SpatialDownsampleSpec(channels=4),
    "unread": SpatialDownsampleSpec(channels=8),
}


def spec(read: str = "coarse", **fields: object) -> VideoAutoencoderSpec:
    return VideoAutoencoderSpec(
        **{
            "name": "with_content",
            "encoder": SpatialDownsampleSpec(channels=4),
            "decoder": chain(
                widen=FrameConv2dSpec(channels=4), add=AddFeatureSpec(name=read), up=SpatialUpsampleSpec(channels=3)
            ),
            "framing": Framing(piece=3),
            "content": ContentSpec(stages=STAGES),
            **fields,
        }
    )


@pytest.fixture
def model() -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec().build().double().eval()


def clip(frames: int) -> Tensor:
    return torch.randn(2, 3, frames, 8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_content_is_the_middle_frame_of_each_piece(model: VideoAutoencoder) -> None:
    x = clip(8)
    posterior = model.encode(x)
    images = x[:, :, [1, 4, 6]]
    assert torch.equal(posterior.content, images)
    wanted = model.decode(posterior.mode(), frames=8, content=images)
    assert torch.equal(model.decode(posterior), wanted)
    assert torch.equal(model(x), wanted)
    assert torch.equal(model.decode(posterior.mode(), frames=8, content=model.content(images)), wanted)
    assert not torch.equal(model.decode(posterior.mode(), frames=8, content=None), wanted)


@torch.no_grad()
def test_stream_reads_the_content_of_its_own_pieces(model: VideoAutoencoder) -> None:
    x = clip(8)
    whole = model.encode(x)
    wanted = model.decode(whole)
    posteriors = model.encode_stream(x.split(2, 2))
    assert torch.equal(torch.cat(list(model.decode_stream(posteriors)), 2), wanted)
    for content in (whole.content, model.content(whole.content)):
        chunks = model.decode_stream(whole.mode().split(4, 2), frames=8, content=content)
        assert torch.equal(torch.cat(list(chunks), 2), wanted)


@torch.no_grad()
def test_one_image_serves_one_piece(model: VideoAutoencoder) -> None:
    x = clip(3)
    z = model.encode(x).mode()
    assert torch.equal(model.decode(z, content=x[:, :, 1]), model(x))
    with pytest.raises(VideoError, match="1 images for 2 pieces"):
        model.decode(model.encode(clip(6)).mode(), content=x[:, :, 1])


def test_latents_without_content_are_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(VideoError, match="content=None"):
        model.decode(torch.zeros(1, 2, 3, 4, 3, dtype=torch.float64))


def test_content_for_a_model_that_has_none_is_refused() -> None:
    plain = VideoAutoencoderSpec(
        name="plain", encoder=FrameConv2dSpec(channels=4), decoder=FrameConv2dSpec(channels=3), framing=Framing()
    ).build()
    with pytest.raises(VideoError, match="without content"):
        plain.decode(torch.zeros(1, 2, 1, 4, 4), content=torch.zeros(1, 3, 4, 4))


def test_only_stages_that_are_needed_are_there() -> None:
    assert set(dict(spec("coarse").build().content.named_children())) == {"fine", "coarse"}
    assert set(dict(spec("fine").build().content.named_children())) == {"fine"}


def test_content_that_is_wrong_is_no_spec() -> None:
    with pytest.raises(SpecError, match="no content 'other'"):
        spec("other")
    with pytest.raises(SpecError, match="leave it out"):
        spec(decoder=SpatialUpsampleSpec(channels=3))
    with pytest.raises(SpecError, match=r"content.*nothing"):
        spec(content=None)


def test_spec_with_content_comes_back_from_its_text() -> None:
    verify.check_spec_json(spec())
    assert spec().replace_at("content.fine", channels=7).content.stages["fine"].channels == 7


def test_summary_counts_the_content_with_the_decoder(model: VideoAutoencoder) -> None:
    found = model.spec.summary((3, 8, 8))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
