"""Laws over layers that hypothesis draws: whatever `trace` accepts builds and does what its spec says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, example, given, note
from hypothesis import strategies as st

from vvae import SpecError
from vvae.layers import (
    AfterLeadSpec,
    BetweenKeyframesSpec,
    CausalConv3dSpec,
    ChannelInterleaveSpec,
    DepthToSpaceSpec,
    FrameAttentionSpec,
    KeyframeBranchesSpec,
    LinearTemporalUpsampleSpec,
    LoneFramesSpec,
    SpaceToDepthSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalSubsampleSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec, layer_from_json
from vvae.verify import check_reach, check_shape, check_stream, random_clip
from vvae.verify.strategies import LEAVES, layer_specs, plans, side, signals, wired

CLIPS = signals(st.sampled_from([1, 0, 2]))
ANY = CLIPS.flatmap(lambda signal: st.tuples(layer_specs(signal), st.just(signal)))
WIRED = CLIPS.flatmap(lambda signal: st.tuples(wired(signal), st.just(signal)))


def built(spec: LayerSpec, signal: Signal, groups: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The layer in float64, and the smallest clip of so many groups."""
    torch.manual_seed(0)
    cells = side(spec, signal)
    return spec.build(signal).double(), random_clip(signal, signal.frames(groups), cells, cells)


def refusal(spec: LayerSpec, signal: Signal) -> SpecError | None:
    try:
        spec.trace(signal)
    except SpecError as error:
        return error
    return None


@given(ANY, st.sampled_from([Signal(5, 0, 5), Signal(4, 2, 2), Signal(2, 1, 4), Signal(1)]))
def test_trace_accepts_or_says_why_not_in_one_line(drawn: tuple[LayerSpec, Signal], other: Signal) -> None:
    spec, own = drawn
    for signal in (own, other):
        error = refusal(spec, signal)
        assert error is None or "\n" not in str(error)
        layer: LayerSpec = spec
        for name in error.path if error else ():
            assert name in layer.children()
            layer = layer.children()[name]


@given(WIRED)
def test_what_trace_accepts_builds_and_gives_the_traced_shape(drawn: tuple[LayerSpec, Signal]) -> None:
    spec, signal = drawn
    note(f"{signal}\n{spec}")
    cells = side(spec, signal)
    least = 0 if signal.lead else 1
    check_shape(spec, signal, [(signal.frames(least), cells, 2 * cells), (signal.frames(2), 2 * cells, cells)])


@given(ANY)
def test_json_gives_an_equal_spec(drawn: tuple[LayerSpec, Signal]) -> None:
    spec, _ = drawn
    again = layer_from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_json() == spec.to_json()
    assert str(again) == str(spec)


@given(WIRED)
def test_declared_reach_is_the_measured_one(drawn: tuple[LayerSpec, Signal]) -> None:
    spec, signal = drawn
    note(f"{signal}\n{spec}")
    module, clip = built(spec, signal, groups=2)
    if spec.frames(signal, clip.shape[2]):
        check_reach(module, spec.reach(signal, clip.shape[2]), clip)


@given(WIRED, st.data())
def test_a_stream_in_any_chunks_is_the_whole_clip(drawn: tuple[LayerSpec, Signal], data: st.DataObject) -> None:
    spec, signal = drawn
    assume(spec.stream_limit(signal) is None)
    groups = data.draw(st.integers(0 if signal.lead else 1, 3))
    note(f"{signal}\n{spec}")
    module, clip = built(spec, signal, groups)
    assume(clip.shape[2])
    # a norm may divide by a pixel's small length, so that rounding grows
    check_stream(module, signal, clip, [data.draw(plans(groups)), [groups], [0, *[1] * groups, 0]], tolerance=1e-10)


@given(WIRED)
@example((chain(down=SpatialDownsampleSpec(channels=2), up=SpatialUpsampleSpec(channels=2)), Signal(2)))
@example((chain(cells=SpaceToDepthSpec(factor=2), pixels=DepthToSpaceSpec(factor=2)), Signal(2)))
def test_nothing_beyond_the_halo_matters(drawn: tuple[LayerSpec, Signal]) -> None:
    spec, signal = drawn
    halo = spec.halo(signal)
    assume(halo is not None and halo <= 6)
    assert halo is not None
    torch.manual_seed(0)
    note(f"{signal}\n{spec}\nhalo {halo}")
    cells = side(spec, signal)
    module, height = spec.build(signal).double(), -(-20 // cells) * cells
    clip = random_clip(signal, signal.frames(1), height, cells).requires_grad_()
    out = module(clip)
    assume(out.numel())
    size = signal.stride / spec.trace(signal).stride  # rows that come out of one row
    for row in range(out.shape[3]):
        weights = torch.randn_like(out[:, :, :, row])
        (gradient,) = torch.autograd.grad((out[:, :, :, row] * weights).sum(), clip, retain_graph=True)
        seen = gradient.abs().amax((0, 1, 2, 4)).nonzero().flatten().tolist()
        if seen:
            assert min(seen) > row / size - halo - 1
            assert max(seen) < (row + 1) / size + halo


@pytest.mark.parametrize("kind", LEAVES)
@given(data=st.data())
def test_each_kind_alone_sees_what_it_declares_and_streams(kind: str, data: st.DataObject) -> None:
    signal = data.draw(CLIPS)
    spec = data.draw(LEAVES[kind](signal))
    assume(refusal(spec, signal) is None and side(spec, signal) <= 8)
    module, clip = built(spec, signal, groups=2)
    assume(spec.frames(signal, clip.shape[2]))
    check_reach(module, spec.reach(signal, clip.shape[2]), clip)
    check_stream(module, signal, clip, [[0, 1, 1], data.draw(plans(2))])


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
    check_shape(spec, signal, [(signal.frames(0), 4, 2), (signal.frames(3), 2, 4)])
    module, clip = built(spec, signal, groups=3)
    assert spec.stream_limit(signal) is None
    check_reach(module, spec.reach(signal, clip.shape[2]), clip)
    check_stream(module, signal, clip, [[3], [1, 1, 1], [-1, 0, 0, 1, 2, 0], [2, 0, 0, 1]])
