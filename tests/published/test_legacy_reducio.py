"""Options of Reducio-VAE's code of which no release makes use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.layers.test_content import Beside
from vvae import verify
from vvae.context import StreamStep, module_names
from vvae.errors import SpecError, StreamError, VideoError
from vvae.layers import FrameAttention
from vvae.published.legacy.fusion import (
    ChannelGateSpec,
    ClipPositionsSpec,
    ContentMixSpec,
    ContentSumSpec,
    StoredNormSpec,
)
from vvae.published.legacy.reducio import (
    EarlyDownsample3dSpec,
    SkipFramesSpec,
    WindowedFrameAttention,
    WindowedFrameAttentionSpec,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec, layer_from_json

BESIDE = Signal(4, group=2, content={"image": Signal(3), "half": Signal(3, stride=2 * Signal(1).stride)})
LAYERS: dict[str, LayerSpec] = {
    "sum": ContentSumSpec(content="image", length=4),
    "mix": ContentMixSpec(content="image", length=4),
    "clip_positions": ClipPositionsSpec(length=4, side=6),
    "gate": ChannelGateSpec(start=0.5),
    "stored_norm": StoredNormSpec(),
    "windowed": WindowedFrameAttentionSpec(heads=2, window=(4, 5)),
    "early_down": EarlyDownsample3dSpec(channels=5),
    "early_down_in_space": EarlyDownsample3dSpec(channels=5, time=1),
    "skip": SkipFramesSpec(count=1),
}
every_layer = pytest.mark.parametrize("name", list(LAYERS))


def clip(frames: int = 4) -> Tensor:
    return verify.random_clip(BESIDE, frames, 6, 6, batch=2)


def image() -> Tensor:
    return verify.random_clip(Signal(3), 1, 6, 6, batch=2, seed=3)


def layer(name: str) -> Beside:
    torch.manual_seed(0)
    return Beside(LAYERS[name].build(BESIDE).double(), {"image": image()})


@every_layer
def test_layer_gives_what_it_declares(name: str) -> None:
    spec, module = LAYERS[name], layer(name)
    out, y = spec.trace(BESIDE), module(clip())
    assert tuple(y.shape[:3]) == (2, out.channels, spec.frames(BESIDE, 4))
    assert y.shape[3] == 6 / out.stride
    verify.check_reach(module, spec.reach(BESIDE, 4), clip())
    assert layer_from_json(spec.to_json()) == spec


@every_layer
def test_layer_keeps_channels_last_and_nothing_of_a_past_call(name: str) -> None:
    verify.check_layout(layer(name).float(), clip().float())
    verify.check_stateless(layer(name), clip())
    verify.check_untouched(layer(name), clip())


@every_layer
def test_layer_streams_or_says_why_not(name: str) -> None:
    spec, module = LAYERS[name], layer(name)
    if spec.stream_limit(BESIDE) is None:
        verify.check_stream(module, BESIDE, clip(), [[1, 1], [2]])
    else:
        with pytest.raises(StreamError, match="whole clip"):
            module(clip(), StreamStep(module_names(module), {}))


@pytest.mark.parametrize("name", ["sum", "mix", "clip_positions"])
def test_layer_takes_clips_of_its_length_only(name: str) -> None:
    with pytest.raises(SpecError, match="no other length"):
        LAYERS[name].frames(BESIDE, 6)
    with pytest.raises(VideoError, match=r"give (that|as) many"):
        layer(name)(clip(6))


@pytest.mark.parametrize("make", [ContentSumSpec, ContentMixSpec])
def test_content_of_another_size_is_refused(make: type[ContentSumSpec] | type[ContentMixSpec]) -> None:
    with pytest.raises(SpecError, match="cells of 2 pixels"):
        make(content="half", length=4).trace(BESIDE)
    with pytest.raises(SpecError, match="near it: image"):
        make(content="imag", length=4).trace(BESIDE)
    assert make(content="image", length=4).reads() == {"image"}


def test_positions_by_pixel_take_any_clip_of_as_many_pixels() -> None:
    module = layer("clip_positions")
    assert module(clip().reshape(2, 4, 4, 3, 12)).shape == (2, 4, 4, 3, 12)


def test_stored_norm_is_a_batch_norm_in_evaluation() -> None:
    module, norm = layer("stored_norm").layer, nn.BatchNorm3d(4).double().eval()
    for name, value in norm.state_dict().items():
        if value.ndim:
            value.copy_(torch.rand_like(value) + 0.5)
            module.get_buffer(name).copy_(value) if "running" in name else module.get_parameter(name).data.copy_(value)
    assert verify.difference(module(clip()), norm(clip())) <= 1e-12


def test_a_window_of_a_frame_sees_itself_alone() -> None:
    torch.manual_seed(0)
    module, plain = WindowedFrameAttention(4, 2, window=(3, 2)).double(), FrameAttention(4, 2).double()
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        given = module(clip())
        for i in (0, 3):
            for j in (0, 2, 4):
                part = (..., slice(i, i + 3), slice(j, j + 2))
                assert verify.difference(given[part], plain(clip()[part])) <= 1e-12


def test_early_downsampling_sees_no_later_group() -> None:
    signal = Signal(4, group=2)
    verify.check_group_causal(layer("early_down"), signal, clip(8), LAYERS["early_down"].trace(signal))


def test_skipping_all_frames_is_refused() -> None:
    with pytest.raises(SpecError, match="give more"):
        SkipFramesSpec(count=4).frames(BESIDE, 4)
