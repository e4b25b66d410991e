"""One layer of each kind that sees other frames, or changes how many there are: how it is drawn behind a signal.

As in `in_space`. What knows groups only stands behind the lead, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from hypothesis import strategies as st

from vvae.layers import (
    AfterLeadSpec,
    Average3dSpec,
    BetweenKeyframesSpec,
    CausalAverageSpec,
    CausalConv3dSpec,
    CausalDownsample3dSpec,
    ChannelToTimeSpec,
    Conv3dSpec,
    Downsample3dSpec,
    DropFrontSpec,
    FillFrontSpec,
    GroupCausalConv3dSpec,
    LinearTemporalUpsampleSpec,
    LookAheadConvSpec,
    TemporalConvSpec,
    TemporalConvUpsampleSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
    TemporalUpsampleSpec,
    TimePositionsSpec,
    Upsample3dSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies.clips import CHANNELS
from vvae.verify.strategies.in_space import FACTORS, ODD, Make, divisors, mix
from vvae.verify.strategies.wiring import GROUPS, MOST_GROUP, mend

BEFORE = st.sampled_from(["replicate", "zero"])


def _group_conv(draw: st.DrawFn, signal: Signal) -> LayerSpec | None:
    if signal.lead > 1:
        return None
    group = draw(st.sampled_from([None, *(n for n in range(1, signal.group + 1) if signal.group % n == 0)]))
    skip = draw(st.sampled_from([0, 0, 0, 1]))
    return GroupCausalConv3dSpec(
        channels=draw(CHANNELS),
        kernel=draw(st.sampled_from([3, 1, (2, 1, 1), (4, 1, 3), (5, 3, 1), (7, 1, 1)])),
        group=group,
        skip=skip if skip < (group or signal.group) else 0,
        before=draw(BEFORE),
    )


def _stride(draw: st.DrawFn, signal: Signal, most_lead: int) -> int:
    """One that shortens the groups evenly; 1 behind a longer lead."""
    return draw(divisors(signal.group)) if signal.lead <= most_lead else 1


def _causal_conv(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return CausalConv3dSpec(
        channels=draw(CHANNELS),
        kernel=draw(st.sampled_from([3, 1, (2, 3, 3), (4, 1, 1)])),
        stride=_stride(draw, signal, most_lead=1),
        dilation=draw(FACTORS),
        before=draw(BEFORE),
    )


def _causal_downsample(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    stride, factor = _stride(draw, signal, most_lead=1), draw(FACTORS)
    kernel = draw(st.integers(factor, 3))
    return CausalDownsample3dSpec(channels=draw(CHANNELS), kernel=kernel, factor=factor, stride=stride)


def _causal_average(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return CausalAverageSpec(kernel=draw(st.integers(1, 4)), stride=_stride(draw, signal, most_lead=1))


def _over_time(spec: type[TemporalConvSpec], most_lead: int) -> Make:
    def drawn(draw: st.DrawFn, signal: Signal) -> LayerSpec | None:
        if signal.lead > most_lead:
            return None
        kernel = draw(st.integers(2, 4))
        return spec(
            channels=draw(CHANNELS),
            kernel=kernel,
            stride=_stride(draw, signal, most_lead=0),
            ahead=draw(st.sampled_from([None, 0, 1])),
            outside=draw(BEFORE),
        )

    return drawn


def _conv3d(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return Conv3dSpec(channels=draw(CHANNELS), kernel=draw(st.sampled_from([3, 1, (1, 3, 3), (3, 1, 1), (5, 1, 3)])))


def _downsample3d(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    time, space = draw(divisors(signal.group)), draw(FACTORS)
    kernel = draw(st.integers(max(time, space), max(time, space) + 1))
    return Downsample3dSpec(channels=draw(CHANNELS), kernel=kernel, time=time, space=space)


def _average3d(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return Average3dSpec(time=draw(divisors(signal.group)), space=draw(FACTORS))


def _upsample3d(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return Upsample3dSpec(channels=draw(CHANNELS), kernel=draw(ODD), time=draw(FACTORS), space=draw(FACTORS))


def _conv_upsample(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return TemporalConvUpsampleSpec(
        channels=draw(CHANNELS), kernel=draw(ODD), factor=draw(_more(signal.group)), outside=draw(BEFORE)
    )


def _channel_to_time(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    factor = draw(_more(signal.group))
    layer = ChannelToTimeSpec(factor=factor)
    return layer if signal.channels % factor == 0 else chain(mix=mix(factor), frames=layer)


def _more(group: int, least: int = 1) -> st.SearchStrategy[int]:
    """How many times more frames a group may have."""
    return st.sampled_from([n for n in (1, 2, 3) if n >= least and (n == least or n * group <= MOST_GROUP)])


def _positions(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return TimePositionsSpec(length=signal.frames(GROUPS))


def _between(draw: st.DrawFn, signal: Signal) -> LayerSpec | None:
    return BetweenKeyframesSpec() if signal.group > 1 else None


def _behind_lead(make: Callable[[st.DrawFn, Signal], LayerSpec]) -> Make:
    """The layer behind the lead, where there is one; the lead gets the same channels and size."""

    def drawn(draw: st.DrawFn, signal: Signal) -> LayerSpec:
        layer = make(draw, signal.with_time(lead=0))
        if not signal.lead:
            return layer
        lone = signal.with_time(lead=0, group=1)
        wanted = layer.trace(signal.with_time(lead=0)).with_time(group=1)
        return AfterLeadSpec(layers={"time": layer}, on_lead=None if lone == wanted else mend(lone, wanted))

    return drawn


IN_TIME: Mapping[str, Make] = MappingProxyType(
    {
        "conv3d": _conv3d,
        "causal_conv3d": _causal_conv,
        "group_causal_conv3d": _group_conv,
        "look_ahead_conv": _over_time(LookAheadConvSpec, most_lead=1),
        "temporal_conv": _over_time(TemporalConvSpec, most_lead=2),
        "causal_average": _causal_average,
        "causal_downsample3d": _causal_downsample,
        "between_keyframes": _between,
        "temporal_subsample": _behind_lead(lambda draw, s: TemporalSubsampleSpec(factor=draw(divisors(s.group)))),
        "temporal_downsample": _behind_lead(
            lambda draw, s: TemporalDownsampleSpec(channels=draw(CHANNELS), factor=draw(divisors(s.group)))
        ),
        "temporal_repeat": _behind_lead(lambda draw, s: TemporalRepeatSpec(factor=draw(_more(s.group)))),
        "temporal_upsample": _behind_lead(
            lambda draw, s: TemporalUpsampleSpec(channels=draw(CHANNELS), factor=draw(_more(s.group)))
        ),
        "linear_temporal_upsample": _behind_lead(
            lambda draw, s: LinearTemporalUpsampleSpec(factor=draw(_more(s.group, least=2)))
        ),
        "channel_to_time": _behind_lead(_channel_to_time),
        "temporal_conv_upsample": _behind_lead(_conv_upsample),
        "downsample3d": _behind_lead(_downsample3d),
        "average3d": _behind_lead(_average3d),
        "upsample3d": _behind_lead(_upsample3d),
        "fill_front": _behind_lead(lambda draw, s: FillFrontSpec()),
        "drop_front": _behind_lead(lambda draw, s: DropFrontSpec()),
        "time_positions": _behind_lead(_positions),
    }
)
