"""One layer of each kind that sees its own frame alone: how it is drawn behind a signal.

Each function takes hypothesis' `draw` and the signal, and gives a layer that `trace` accepts there, or None where none
of the kind can stand. What keeps a declared reach from being true by chance is drawn around a layer: a mix of the
channels before a norm (which of one number alone, or of equal ones, gives a sign) and before a draw (which reads half
of them), a shortcut around what cuts values off or looks at content, of which a uniform one gives a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st

from vvae.layers import (
    ChannelInterleaveSpec,
    ChannelLayerNormSpec,
    ChannelRMSNormSpec,
    ClampSpec,
    ClipAttentionSpec,
    ClipGroupNormSpec,
    ContentAttentionSpec,
    DepthToSpaceSpec,
    FrameAttentionSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    MisfoldedAttentionSpec,
    PosteriorDrawSpec,
    ReLUSpec,
    ResidualSpec,
    ShiftScaleSpec,
    SiLUSpec,
    SpaceToDepthSpec,
    SpatialAverageSpec,
    SpatialDownsampleSpec,
    SpatialLinearUpsampleSpec,
    SpatialRepeatSpec,
    SpatialUpsampleSpec,
    TanhSpec,
    TemporalAttentionSpec,
    WindowedContentAttentionSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies.clips import CHANNELS

Make = Callable[[st.DrawFn, Signal], LayerSpec | None]
"""How one layer is drawn behind a signal."""

FACTORS = st.integers(1, 2)
ODD = st.sampled_from([1, 3])


def divisors(number: int, most: int = 4) -> st.SearchStrategy[int]:
    return st.sampled_from([n for n in range(1, most + 1) if number % n == 0])


def mix(channels: int) -> FrameConv2dSpec:
    """Every channel that comes out sees all that went in."""
    return FrameConv2dSpec(channels=channels, kernel=1)


def _conv(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return FrameConv2dSpec(channels=draw(CHANNELS), kernel=draw(ODD), dilation=draw(FACTORS))


def _cut_off(make: Callable[[st.DrawFn], LayerSpec]) -> Make:
    return lambda draw, signal: _beside(make(draw))


def _beside(layer: LayerSpec) -> ResidualSpec:
    """The layer and a shortcut: of few cells none may pass, and content may be the same everywhere."""
    return ResidualSpec(layers={"own": layer})


def _clamp(draw: st.DrawFn) -> LayerSpec:
    return ClampSpec(least=draw(st.sampled_from([-1.0, -0.5])), greatest=draw(st.sampled_from([1.0, 2.0])))


def _rms_norm(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    parts, each = draw(FACTORS), draw(st.integers(2, 3))
    return chain(mix=mix(parts * each), norm=ChannelRMSNormSpec(parts=parts, bias=draw(st.booleans())))


def _layer_norm(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return chain(mix=mix(draw(st.integers(3, 4))), norm=ChannelLayerNormSpec())


def _group_norm(spec: type[FrameGroupNormSpec] | type[ClipGroupNormSpec]) -> Make:
    def drawn(draw: st.DrawFn, signal: Signal) -> LayerSpec:
        # of one number nothing is left, of two their order alone: each group has three channels or more
        groups, each = draw(FACTORS), draw(st.integers(3, 4))
        return chain(mix=mix(groups * each), norm=spec(groups=groups))

    return drawn


def _attention(spec: Callable[..., LayerSpec]) -> Make:
    return lambda draw, signal: spec(heads=draw(divisors(signal.channels)))


def _posterior_draw(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    limits = draw(st.sampled_from([None, (-30.0, 20.0)]))
    return chain(mix=mix(2 * draw(st.integers(1, 3))), draw=PosteriorDrawSpec(limits=limits))


def _shift_scale(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    return ShiftScaleSpec(shift=draw(st.sampled_from([0.0, 0.5])), scale=draw(st.sampled_from([1.0, 0.5, 2.0])))


def _interleave(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    outer = draw(divisors(signal.channels))
    return ChannelInterleaveSpec(outer=outer, inner=draw(divisors(signal.channels // outer)))


def _depth_to_space(draw: st.DrawFn, signal: Signal) -> LayerSpec:
    factor = draw(FACTORS)
    layer = DepthToSpaceSpec(factor=factor)
    return layer if signal.channels % factor**2 == 0 else chain(mix=mix(factor**2), cells=layer)


def _resampled(spec: Callable[..., LayerSpec], **fields: st.SearchStrategy[Any]) -> Make:
    """A change of size by 1 or 2."""

    def drawn(draw: st.DrawFn, signal: Signal) -> LayerSpec:
        return spec(factor=draw(FACTORS), **{name: draw(field) for name, field in fields.items()})

    return drawn


def _content_attention(draw: st.DrawFn, signal: Signal) -> LayerSpec | None:
    if not signal.content:
        return None
    return _beside(ContentAttentionSpec(**_looks(draw, signal)))


def _windowed(draw: st.DrawFn, signal: Signal) -> LayerSpec | None:
    """Windows of two positions or more, of which whole ones lie in the clip, too."""
    if not signal.content:
        return None
    fields = _looks(draw, signal)
    scale: Fraction = signal.content[fields["content"]].stride / signal.stride
    windows = [w for w in ((1, 2), (2, 2), (2, 4), (4, 4), (8, 8)) if all((n * scale).denominator == 1 for n in w)]
    if not windows:
        return None
    return _beside(WindowedContentAttentionSpec(window=draw(st.sampled_from(windows)), **fields))


def _looks(draw: st.DrawFn, signal: Signal) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(signal.content)))
    return {"content": name, "heads": draw(FACTORS), "head_width": draw(st.integers(1, 3)), "bias": draw(st.booleans())}


IN_SPACE: Mapping[str, Make] = MappingProxyType(
    {
        "frame_conv2d": _conv,
        "silu": lambda draw, signal: SiLUSpec(),
        "tanh": lambda draw, signal: TanhSpec(),
        "relu": _cut_off(lambda draw: ReLUSpec()),
        "clamp": _cut_off(_clamp),
        "shift_scale": _shift_scale,
        "posterior_draw": _posterior_draw,
        "channel_interleave": _interleave,
        "channel_rms_norm": _rms_norm,
        "channel_layer_norm": _layer_norm,
        "frame_group_norm": _group_norm(FrameGroupNormSpec),
        "frame_attention": _attention(FrameAttentionSpec),
        "content_attention": _content_attention,
        "windowed_content_attention": _windowed,
        "space_to_depth": _resampled(SpaceToDepthSpec),
        "depth_to_space": _depth_to_space,
        "spatial_average": _resampled(SpatialAverageSpec),
        "spatial_repeat": _resampled(SpatialRepeatSpec),
        "spatial_linear_upsample": _resampled(SpatialLinearUpsampleSpec),
        "spatial_downsample": _resampled(SpatialDownsampleSpec, channels=CHANNELS, kernel=st.integers(2, 4)),
        "spatial_upsample": _resampled(SpatialUpsampleSpec, channels=CHANNELS, kernel=ODD),
    }
)

OVER_THE_CLIP: Mapping[str, Make] = MappingProxyType(
    {
        "clip_group_norm": _group_norm(ClipGroupNormSpec),
        "clip_attention": _attention(ClipAttentionSpec),
        "temporal_attention": _attention(TemporalAttentionSpec),
        "misfolded_attention": _attention(MisfoldedAttentionSpec),
    }
)
"""Norms and attention over all frames."""
