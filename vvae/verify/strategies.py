"""Signals, layers and chunk plans, drawn at random (hypothesis). Small enough that one drawn layer runs in a moment.

Most drawn trees are wired well, not all: a law over them starts with `trace`, which accepts or raises SpecError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

from hypothesis import strategies as st

from vvae.errors import SpecError
from vvae.layers import (
    AfterLeadSpec,
    BetweenKeyframesSpec,
    CausalAverageSpec,
    CausalConv3dSpec,
    CausalDownsample3dSpec,
    ChainSpec,
    ChannelInterleaveSpec,
    ChannelRMSNormSpec,
    ChannelToTimeSpec,
    DepthToSpaceSpec,
    FrameAttentionSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    GroupCausalConv3dSpec,
    KeyframeBranchesSpec,
    LeadPassesBySpec,
    LearnedMixSpec,
    LinearTemporalUpsampleSpec,
    LoneFramesSpec,
    LookAheadConvSpec,
    ParallelSpec,
    PerPartSpec,
    ResidualSpec,
    SiLUSpec,
    SpaceToDepthSpec,
    SpatialAverageSpec,
    SpatialDownsampleSpec,
    SpatialLinearUpsampleSpec,
    SpatialRepeatSpec,
    SpatialUpsampleSpec,
    TanhSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
    TemporalUpsampleSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec

Leaf = Callable[[Signal], st.SearchStrategy[LayerSpec]]
CHANNELS = st.integers(1, 4)
BEFORE = st.sampled_from(["replicate", "zero"])
MOST_GROUP, MOST_CHANNELS, MOST_STRIDE = 6, 12, 4


def signals(leads: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Signal]:
    """Clips of few channels with small groups, with and without a lead."""
    lead = st.integers(0, 1) if leads is None else leads
    return st.builds(Signal, channels=st.sampled_from([2, 4, 3, 1]), lead=lead, group=st.sampled_from([4, 2, 1, 3]))


def plans(groups: int) -> st.SearchStrategy[list[int]]:
    """A clip of so many groups as groups per chunk; 0: an empty chunk, -1: an empty chunk before the lead."""
    cuts = st.lists(st.integers(0, groups), max_size=4).map(sorted)
    whole = cuts.map(lambda at: [end - start for start, end in zip([0, *at], [*at, groups], strict=True)])
    return st.tuples(st.lists(st.just(-1), max_size=1), whole).map(lambda parts: [*parts[0], *parts[1]])


# --------------------------------------------------------------------------- single layers


def _group_conv(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    divisors = [None, *(n for n in range(1, signal.group + 1) if signal.group % n == 0)]
    return st.builds(
        GroupCausalConv3dSpec,
        channels=CHANNELS,
        kernel=st.sampled_from([3, 1, (2, 1, 1), (4, 1, 3), (5, 3, 1), (7, 1, 1)]),
        group=st.sampled_from(divisors),
        skip=st.sampled_from([0, 0, 0, 1]),
        before=BEFORE,
    )


def _causal_conv(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    return st.builds(
        CausalConv3dSpec,
        channels=CHANNELS,
        kernel=st.sampled_from([3, 1, (2, 3, 3), (4, 1, 1)]),
        stride=st.sampled_from([1, 1, 2]),
        dilation=st.sampled_from([1, 1, 2]),
        before=BEFORE,
    )


def _causal_downsample(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    return st.builds(
        CausalDownsample3dSpec,
        channels=CHANNELS,
        kernel=st.integers(1, 3),
        factor=st.integers(1, 2),
        stride=st.sampled_from([1, 1, 2]),
    )


def _look_ahead(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    return st.builds(
        LookAheadConvSpec,
        channels=CHANNELS,
        kernel=st.integers(2, 4),
        stride=st.sampled_from([1, 1, 2]),
        ahead=st.sampled_from([None, 0, 1]),
        outside=BEFORE,
    )


def _learned_mix(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    def mixed(stride: int, kernel: int) -> LayerSpec:
        mean = CausalAverageSpec(kernel=kernel, stride=stride)
        return LearnedMixSpec(
            branches={"mean": mean, "learned": CausalConv3dSpec(channels=signal.channels, stride=stride)}
        )

    return st.builds(mixed, st.integers(1, 2), st.integers(1, 4))


def _norm(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    # the norm of a single channel is its sign, which has no gradient
    parts = [n for n in range(1, signal.channels // 2 + 1) if signal.channels % n == 0]
    return st.builds(ChannelRMSNormSpec, parts=st.sampled_from(parts), bias=st.booleans()) if parts else st.nothing()


def _group_norm(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    # of one number nothing is left, of two their order alone: each group has three channels or more
    groups = [n for n in range(1, signal.channels // 3 + 1) if signal.channels % n == 0]
    return st.builds(FrameGroupNormSpec, groups=st.sampled_from(groups)) if groups else st.nothing()


def _attention(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    heads = [n for n in range(1, signal.channels + 1) if signal.channels % n == 0]
    return st.builds(FrameAttentionSpec, heads=st.sampled_from(heads))


def _interleave(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    pairs = [(o, i) for o in range(1, 4) for i in range(1, 4) if signal.channels % (o * i) == 0]
    return st.sampled_from(pairs).map(lambda pair: ChannelInterleaveSpec(outer=pair[0], inner=pair[1]))


def _behind_lead(signal: Signal, layers: st.SearchStrategy[LayerSpec]) -> st.SearchStrategy[LayerSpec]:
    """A change of the frame rate, behind the lead where there is one; the lead gets the same channels."""
    if not signal.lead:
        return layers

    def wrapped(layer: LayerSpec) -> LayerSpec:
        channels = getattr(layer, "channels", None)
        on_lead = None if channels is None else FrameConv2dSpec(channels=channels, kernel=1)
        return AfterLeadSpec(layers={"time": layer}, on_lead=on_lead)

    return layers.map(wrapped)


def _fewer_frames(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    factors = st.sampled_from([n for n in range(1, signal.group + 1) if signal.group % n == 0])
    subsample = st.builds(TemporalSubsampleSpec, factor=factors)
    return _behind_lead(signal, subsample | st.builds(TemporalDownsampleSpec, channels=CHANNELS, factor=factors))


def _more_frames(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    factors, shares = st.integers(1, 3), [n for n in range(1, 4) if signal.channels % n == 0]
    kinds = st.one_of(
        st.builds(TemporalRepeatSpec, factor=factors),
        st.builds(TemporalUpsampleSpec, channels=CHANNELS, factor=factors),
        st.builds(ChannelToTimeSpec, factor=st.sampled_from(shares)),
        st.builds(LinearTemporalUpsampleSpec, factor=st.integers(2, 3)),
    )
    return _behind_lead(signal, kinds)


def _space(signal: Signal) -> st.SearchStrategy[LayerSpec]:
    factor = st.integers(1, 2)
    return st.one_of(
        st.builds(SpatialDownsampleSpec, channels=CHANNELS, kernel=st.integers(2, 4), factor=factor),
        st.builds(SpatialUpsampleSpec, channels=CHANNELS, kernel=st.sampled_from([1, 3]), factor=factor),
        st.builds(SpatialLinearUpsampleSpec, factor=factor),
        st.builds(SpatialAverageSpec, factor=factor),
        st.builds(SpatialRepeatSpec, factor=factor),
        st.builds(SpaceToDepthSpec, factor=factor),
        st.builds(DepthToSpaceSpec, factor=factor),
    )


LEAVES: Mapping[str, Leaf] = MappingProxyType(
    {
        "frame_conv2d": lambda signal: st.builds(
            FrameConv2dSpec, channels=CHANNELS, kernel=st.sampled_from([1, 3]), dilation=st.integers(1, 2)
        ),
        "group_causal_conv3d": _group_conv,
        "causal_conv3d": _causal_conv,
        "causal_downsample3d": _causal_downsample,
        "look_ahead_conv": _look_ahead,
        "learned_mix": _learned_mix,
        "channel_rms_norm": _norm,
        "frame_group_norm": _group_norm,
        # not max(x, 0): a frame of few cells may have none above zero, and then it sees nothing
        "activation": lambda signal: st.sampled_from([SiLUSpec(), TanhSpec()]),
        "frame_attention": _attention,
        "channel_interleave": _interleave,
        "fewer frames": _fewer_frames,
        "more frames": _more_frames,
        "space": _space,
        "between_keyframes": lambda signal: st.just(BetweenKeyframesSpec()),
    }
)


# --------------------------------------------------------------------------- trees


def _after(layer: LayerSpec, signal: Signal) -> Signal | None:
    """What the layer gives, or None: it does not fit, or what it gives is too large to be quick."""
    try:
        out = layer.trace(signal)
    except SpecError:
        return None
    small = out.group <= MOST_GROUP and out.channels <= MOST_CHANNELS
    return out if small and Fraction(1, MOST_STRIDE) <= out.stride <= MOST_STRIDE else None


def mend(given: Signal, wanted: Signal) -> LayerSpec | None:
    """A layer that makes one signal out of another; None where the kinds at hand cannot."""
    layers: dict[str, LayerSpec] = {}
    ratio = Fraction(wanted.group, given.group)
    if given.lead != wanted.lead or 1 not in (ratio.numerator, ratio.denominator):
        return None
    if ratio > 1:
        layers["more"] = AfterLeadSpec(layers={"repeat": TemporalRepeatSpec(factor=int(ratio))})
    if ratio < 1:
        layers["fewer"] = AfterLeadSpec(layers={"keep": TemporalSubsampleSpec(factor=int(1 / ratio))})
    scale = wanted.stride / given.stride
    if 1 not in (scale.numerator, scale.denominator):
        return None
    if scale > 1:
        layers["small"] = SpaceToDepthSpec(factor=int(scale))
    if scale < 1:
        layers["large"] = SpatialUpsampleSpec(channels=wanted.channels, kernel=1, factor=int(1 / scale))
    return ChainSpec(layers={**layers, "mix": FrameConv2dSpec(channels=wanted.channels, kernel=1)})


@st.composite
def _row(draw: st.DrawFn, signal: Signal, depth: int, most: int = 3) -> tuple[dict[str, LayerSpec], Signal]:
    """Layers one after the other, and what comes out behind them."""
    layers: dict[str, LayerSpec] = {}
    for number in range(draw(st.integers(0 if depth else 1, most))):
        layer = draw(layer_specs(signal, depth))
        after = _after(layer, signal)
        if after is None:
            break
        layers[f"layer{number}"], signal = layer, after
    return layers, signal


@st.composite
def _residual(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    layers, out = draw(_row(signal, depth))
    same = out == signal and draw(st.booleans())
    return ResidualSpec(layers=layers, shortcut=None if same else mend(signal, out))


@st.composite
def _branches(draw: st.DrawFn, signal: Signal, depth: int) -> dict[str, LayerSpec]:
    """Two or three branches that agree in all but channels."""
    first, out = draw(_row(signal, depth))
    branches: dict[str, LayerSpec] = {"branch0": ChainSpec(layers=first)}
    for number in range(1, draw(st.integers(2, 3))):
        other, end = draw(_row(signal, depth, most=2))
        bridge = None if end.with_channels(out.channels) == out else mend(end, out)
        layers = {**other, "bridge": bridge} if bridge else other
        branches[f"branch{number}"] = ChainSpec(layers=layers)
    return branches


@st.composite
def _per_part(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    share = draw(CHANNELS)
    branches = draw(_branches(signal.with_channels(share), depth))
    # what is read in parts is mixed first: reach knows frames, not which of their channels
    mix = FrameConv2dSpec(channels=share * len(branches), kernel=1)
    return chain(mix=mix, parts=PerPartSpec(branches=branches))


@st.composite
def _after_lead(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    layers, out = draw(_row(signal.with_time(lead=0), depth))
    lone = Signal(signal.channels, 0, 1, signal.stride)
    wanted = Signal(out.channels, 0, 1, out.stride)
    same = lone == wanted and draw(st.booleans())
    return AfterLeadSpec(layers=layers, on_lead=None if same else mend(lone, wanted))


@st.composite
def _lead_passes_by(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    layers, out = draw(_row(signal, depth))
    bridge = mend(out, signal.with_time(group=out.group))
    return LeadPassesBySpec(layers=layers if bridge is None else {**layers, "bridge": bridge})


@st.composite
def _lone_frames(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    layers, _ = draw(_row(signal.with_time(lead=1), depth))
    return LoneFramesSpec(layers=layers, at_once=draw(st.sampled_from([None, 1, 2])))


@st.composite
def _keyframes(draw: st.DrawFn, signal: Signal, depth: int) -> LayerSpec:
    key, out = draw(_row(signal.with_time(group=1), depth, most=2))
    others, _ = draw(_row(signal, depth, most=1))
    between: dict[str, LayerSpec] = {**others, "between": BetweenKeyframesSpec()}
    if draw(st.booleans()):
        between = {"between": BetweenKeyframesSpec(), **others}
    given = _after(ChainSpec(layers=between), signal)
    bridge = None if given is None else mend(given, out.with_time(lead=0, group=max(1, signal.group - 1)))
    if bridge is not None:
        between["bridge"] = bridge
    return KeyframeBranchesSpec(keyframe=ChainSpec(layers=key), between=ChainSpec(layers=between))


def layer_specs(signal: Signal, depth: int = 2) -> st.SearchStrategy[LayerSpec]:
    """Layers behind that signal: trees of the built-in kinds, at most `depth` composites deep."""
    leaves = st.sampled_from(sorted(LEAVES)).flatmap(lambda name: LEAVES[name](signal))
    if not depth:
        return leaves
    inner = depth - 1
    return st.one_of(
        leaves,
        _row(signal, inner).map(lambda row: ChainSpec(layers=row[0])),
        _residual(signal, inner),
        _branches(signal, inner).map(lambda branches: ParallelSpec(branches=branches)),
        _per_part(signal, inner),
        _after_lead(signal, inner),
        _lead_passes_by(signal, inner),
        _lone_frames(signal, inner),
        _keyframes(signal, inner),
    )


def wired(signal: Signal, depth: int = 2) -> st.SearchStrategy[LayerSpec]:
    """Only the layers that `trace` accepts and whose smallest clip is small."""
    return layer_specs(signal, depth).filter(lambda spec: _after(spec, signal) is not None and side(spec, signal) <= 8)


def side(spec: LayerSpec, signal: Signal) -> int:
    """The smallest height and width, in cells of the signal, that is a whole number of cells at every place inside."""
    return (spec.cell(signal) / signal.stride).numerator
