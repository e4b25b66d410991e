"""Laws over layers and models that hypothesis draws: whatever `trace` accepts builds and does what its spec says."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from vvae import Framing, SpecError, VideoAutoencoder, VideoAutoencoderSpec
from vvae.content import ContentSpec
from vvae.layers import (
    AfterLeadSpec,
    Average3dSpec,
    BetweenKeyframesSpec,
    CausalAverageSpec,
    CausalConv3dSpec,
    ChannelInterleaveSpec,
    ContentAttentionSpec,
    FrameAttentionSpec,
    FrameConv2dSpec,
    KeyframeBranchesSpec,
    LinearTemporalUpsampleSpec,
    LoneFramesSpec,
    ResidualSpec,
    SpaceToDepthSpec,
    TemporalSubsampleSpec,
    TimePositionsSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec, layer_from_json
from vvae.verify import (
    check_accounting,
    check_halo,
    check_model_stream,
    check_reach,
    check_spec_json,
    check_stream,
    check_traced,
    random_clip,
)
from vvae.verify.strategies import (
    LEAVES,
    TREES,
    Beside,
    Clip,
    clips,
    layer_specs,
    lengths,
    model_specs,
    plans,
    side,
    signals,
    splits,
    wired,
)

CLIPS = signals(st.integers(0, 2), content=True)
NO_HALO = (
    *("frame_attention", "clip_attention", "misfolded_attention", "windowed_content_attention"),
    *("frame_group_norm", "clip_group_norm"),
)
"""Kinds that see the whole frame."""
WAITING = ("look_ahead_conv", "linear_temporal_upsample", "causal_conv3d", "temporal_downsample", "between_keyframes")
"""Kinds that wait for later frames, and such beside which others wait."""
HALF, FEWER = (settings(max_examples=settings().max_examples // part) for part in (2, 5))
"""For what takes longer, and for what many tests share."""


def refusal(spec: LayerSpec, signal: Signal) -> SpecError | None:
    try:
        spec.trace(signal)
    except SpecError as error:
        return error
    return None


@functools.cache
def drawn(**how: Any) -> st.SearchStrategy[tuple[LayerSpec, Signal]]:
    """A layer that fits behind a signal, and the signal."""
    return CLIPS.flatmap(lambda signal: st.tuples(wired(signal, **how), st.just(signal)))


def built(spec: LayerSpec, clip: Clip) -> tuple[nn.Module, torch.Tensor]:
    """The layer in float64 with the clip's content beside it, and the clip."""
    torch.manual_seed(0)
    return Beside(spec.build(clip.signal).double(), clip.features()), clip.tensor()


def smallest(spec: LayerSpec, signal: Signal, frames: int) -> Clip:
    """The smallest clip of so many frames with more than one cell at every place inside."""
    cells = side(spec, signal)
    return Clip(signal, frames=frames, height=cells, width=2 * cells)


@given(
    CLIPS.flatmap(lambda signal: st.tuples(layer_specs(signal), st.just(signal))),
    st.sampled_from([Signal(5, 0, 5), Signal(4, 2, 2), Signal(2, 1, 4), Signal(1)]),
)
def test_trace_accepts_or_says_why_not_in_one_line(given: tuple[LayerSpec, Signal], other: Signal) -> None:
    spec, own = given
    for signal in (own, other):
        error = refusal(spec, signal)
        assert error is None or "\n" not in str(error)
        layer: LayerSpec = spec
        for name in error.path if error else ():
            assert name in layer.children()
            layer = layer.children()[name]


@given(st.data())
def test_what_trace_accepts_builds_and_gives_the_traced_shape(data: st.DataObject) -> None:
    signal = data.draw(signals(st.integers(0, 2)))
    spec = data.draw(wired(signal))
    cells, frames = side(spec, signal), lengths(spec, signal, signal.frames(2))
    check_traced(spec, signal, [(data.draw(st.sampled_from(frames)), cells, 2 * cells), (frames[0], 2 * cells, cells)])


@given(CLIPS.flatmap(layer_specs))
def test_json_gives_an_equal_spec(spec: LayerSpec) -> None:
    again = layer_from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_json() == spec.to_json()
    assert str(again) == str(spec)


@given(drawn(), st.data())
def test_declared_reach_is_the_measured_one_for_any_length(
    given: tuple[LayerSpec, Signal], data: st.DataObject
) -> None:
    spec, signal = given
    frames = data.draw(st.sampled_from(lengths(spec, signal, signal.frames(2))[::-1]))
    module, x = built(spec, smallest(spec, signal, frames))
    if spec.frames(signal, frames):
        check_reach(module, spec.reach(signal, frames), x)


@given(drawn(stream=True), st.data())
def test_a_stream_in_any_chunks_is_the_whole_clip(given: tuple[LayerSpec, Signal], data: st.DataObject) -> None:
    spec, signal = given
    groups = data.draw(st.integers(0 if signal.lead else 1, 3))
    module, x = built(spec, smallest(spec, signal, signal.frames(groups)))
    # a norm may divide by a pixel's small length, so that rounding grows
    check_stream(module, signal, x, [data.draw(plans(groups)), [groups], [0, *[1] * groups, 0]], tolerance=1e-10)


def check_around(spec: LayerSpec, signal: Signal, rows: int) -> None:
    """Nothing beyond the declared halo matters, in a clip of so many rows."""
    halo, cells = spec.halo(signal), side(spec, signal)
    assume(halo is not None and halo <= rows / 3)
    assert halo is not None
    height = -(-rows // cells) * cells
    module, x = built(spec, Clip(signal, frames=signal.frames(2), height=height, width=2 * cells))
    check_halo(module, halo, x, spec.trace(signal).stride / signal.stride)


@given(drawn(kinds=tuple(kind for kind in LEAVES if kind not in NO_HALO)))
def test_nothing_beyond_the_halo_matters(given: tuple[LayerSpec, Signal]) -> None:
    check_around(*given, rows=18)


def leaf(data: st.DataObject, kind: str) -> tuple[LayerSpec, Signal]:
    """A layer of that kind, and the signal that it reads."""
    signal = data.draw(CLIPS)
    assume(signal.content or "content" not in kind)
    return data.draw(LEAVES[kind](signal)), signal


@pytest.mark.parametrize("kind", LEAVES)
@FEWER
@given(data=st.data())
def test_each_kind_alone_sees_what_it_declares_and_streams(kind: str, data: st.DataObject) -> None:
    spec, signal = leaf(data, kind)
    module, x = built(spec, smallest(spec, signal, signal.frames(2)))
    check_reach(module, spec.reach(signal, x.shape[2]), x)
    if spec.stream_limit(signal) is None:
        check_stream(module, signal, x, [[0, 1, 1], data.draw(plans(2))])


@pytest.mark.parametrize("kind", TREES)
@FEWER
@given(data=st.data())
def test_each_composite_of_layers_that_wait_sees_what_it_declares_and_streams(kind: str, data: st.DataObject) -> None:
    signal = data.draw(CLIPS)
    assume(signal.content or "content" not in kind)
    spec = data.draw(TREES[kind](signal, kinds=WAITING, stream=True))
    module, x = built(spec, smallest(spec, signal, signal.frames(3)))
    check_reach(module, spec.reach(signal, x.shape[2]), x)
    check_stream(module, signal, x, [[0, 1, 1, 1], data.draw(plans(3))], tolerance=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if kind not in NO_HALO])
@FEWER
@given(data=st.data())
def test_each_kind_alone_sees_no_cell_beyond_its_halo(kind: str, data: st.DataObject) -> None:
    check_around(*leaf(data, kind), rows=9)


# --------------------------------------------------------------------------- whole models


def model_of(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
    torch.manual_seed(0)
    return spec.build().double()


@HALF
@given(model_specs(), st.data())
def test_any_clip_comes_back_at_its_own_size(spec: VideoAutoencoderSpec, data: st.DataObject) -> None:
    check_spec_json(spec)
    model = model_of(spec)
    clip = data.draw(clips(spec.pixels, st.integers(1, 7)))
    check_accounting(model.encode, model.decode, clip.tensor(), seen=False)


@HALF
@given(model_specs(), st.integers(1, 6))
def test_dependency_of_a_model_is_the_measured_one(spec: VideoAutoencoderSpec, frames: int) -> None:
    model = model_of(spec)
    x = random_clip(spec.pixels, frames, spec.cell, 2 * spec.cell)
    check_reach(model.encode, spec.dependency(frames, "encode"), x)
    with torch.no_grad():
        posterior = model.encode(x)
    content = {} if posterior.content is None else {"content": model.content(posterior.content)}
    z = random_clip(spec.latents, *posterior.mean.shape[2:])
    check_reach(lambda z: model.decode(z, frames=frames, **content), spec.dependency(frames, "decode"), z)


@HALF
@given(model_specs(stream=True), st.data())
def test_a_model_streams_in_any_chunks(spec: VideoAutoencoderSpec, data: st.DataObject) -> None:
    assert spec.stream_limit("encode") is None
    assert spec.stream_limit("decode") is None
    model, frames = model_of(spec), data.draw(st.integers(1, 9))
    x = random_clip(spec.pixels, frames, spec.cell, 2 * spec.cell)
    check_model_stream(model, x, data.draw(splits(frames)), tolerance=1e-10)


# --------------------------------------------------------------------------- what these laws have found

IN_GROUPS = Signal(2, lead=1, group=2)
EARLIER_HALF = chain(
    up=AfterLeadSpec(layers={"linear": LinearTemporalUpsampleSpec()}),
    down=AfterLeadSpec(layers={"first": TemporalSubsampleSpec()}),
)
"""Frames as many as before, which see none after them, yet come one group late."""
BETWEEN = chain(cut=BetweenKeyframesSpec())
FOUND: dict[str, tuple[LayerSpec, Signal]] = {
    "lone frames, none of them": (LoneFramesSpec(layers={"attend": FrameAttentionSpec()}), IN_GROUPS),
    "shares of channels of no frames": (
        LoneFramesSpec(layers={"order": ChannelInterleaveSpec(outer=2, inner=1)}),
        IN_GROUPS,
    ),
    "a lead and nothing between": (chain(cut=BetweenKeyframesSpec(), conv=CausalConv3dSpec(channels=2)), IN_GROUPS),
    "keyframes come late": (KeyframeBranchesSpec(keyframe=EARLIER_HALF, between=BETWEEN), IN_GROUPS),
    "others come late": (
        KeyframeBranchesSpec(keyframe=chain(), between=chain(late=EARLIER_HALF, **BETWEEN.layers)),
        IN_GROUPS,
    ),
    "a lead of two frames that mix": (
        AfterLeadSpec(layers={}, on_lead=CausalConv3dSpec(channels=2)),
        Signal(2, lead=2, group=2),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once_is_right(name: str) -> None:
    spec, signal = FOUND[name]
    check_traced(spec, signal, [(signal.frames(0), 4, 2), (signal.frames(3), 2, 4)])
    module, x = built(spec, smallest(spec, signal, signal.frames(3)))
    assert spec.stream_limit(signal) is None
    check_reach(module, spec.reach(signal, x.shape[2]), x)
    check_stream(module, signal, x, [[3], [1, 1, 1], [-1, 0, 0, 1, 2, 0], [2, 0, 0, 1]])


SHORT: dict[str, tuple[LayerSpec, Signal, int]] = {
    "fewer than a stride": (CausalConv3dSpec(channels=2, kernel=(3, 1, 1), stride=4), Signal(2, group=4), 3),
    "fewer than a stride behind the lead": (AfterLeadSpec(layers={"mean": CausalAverageSpec()}), IN_GROUPS, 2),
    "none behind the lead": (AfterLeadSpec(layers={"mean": Average3dSpec(space=1)}), IN_GROUPS, 1),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_clip_shorter_than_a_group_gives_what_its_spec_says(name: str) -> None:
    spec, signal, frames = SHORT[name]
    check_traced(spec, signal, [(frames, 2, 2)])


def test_keyframes_refuse_a_length_that_a_branch_refuses() -> None:
    spec = KeyframeBranchesSpec(keyframe=chain(), between=chain(at=TimePositionsSpec(length=4), **BETWEEN.layers))
    signal = Signal(2, group=2)
    assert lengths(spec, signal, 6) == [4]
    check_traced(spec, signal, [(4, 2, 2)])


def test_content_coarser_than_all_layers_widens_the_cell() -> None:
    look = ResidualSpec(layers={"at": ContentAttentionSpec(content="coarse", heads=1, head_width=2)})
    spec = VideoAutoencoderSpec(
        name="coarse",
        encoder=FrameConv2dSpec(channels=4),
        decoder=chain(look=look, out=FrameConv2dSpec(channels=3)),
        framing=Framing(),
        content=ContentSpec(stages={"coarse": SpaceToDepthSpec(factor=4), "unread": SpaceToDepthSpec(factor=2)}),
    )
    assert spec.cell == 4
    model = model_of(spec)
    check_accounting(model.encode, model.decode, random_clip(spec.pixels, 2, 3, 5))


LED = {"encoder": CausalConv3dSpec(channels=4, kernel=1), "framing": Framing(lead=1, group=2)}
LOOK = ResidualSpec(layers={"at": ContentAttentionSpec(content="image", heads=1, head_width=2)})
TWICE = AfterLeadSpec(layers={"fewer": TemporalSubsampleSpec(), "more": LinearTemporalUpsampleSpec()})
STREAMS: dict[str, dict[str, Any]] = {
    "latents that are no clip by themselves": {"decoder": chain(twice=TWICE, out=FrameConv2dSpec(channels=3))},
    "one content image for all chunks": {
        "decoder": chain(look=LOOK, twice=TWICE, out=FrameConv2dSpec(channels=3)),
        "content": ContentSpec(stages={"image": FrameConv2dSpec(channels=2)}),
    },
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_model_that_did_not_stream_once_does(name: str) -> None:
    spec = VideoAutoencoderSpec(name="led", **LED, **STREAMS[name])
    check_model_stream(model_of(spec), random_clip(spec.pixels, 7, 2, 4), [1, 2, 4])
