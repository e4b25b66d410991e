"""The laws of parts that are layers of this library: what is told from the outside is their spec's, not a claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from vvae.layers import (
    ChannelInterleaveSpec,
    ClipAttention,
    DepthToSpaceSpec,
    DropFrontSpec,
    FillFrontSpec,
    FrameAttention,
    OpaqueSpec,
    PosteriorDrawSpec,
    ShiftScaleSpec,
    SpaceToDepthSpec,
    SpatialAverageSpec,
    SpatialRepeatSpec,
    TemporalAttention,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
)
from vvae.layers.slices import AT_ONCE
from vvae.spec import LayerSpec
from vvae.verify import laws
from vvae.verify.subject import Part
from vvae.verify.suite import Case, Effort, Law

SIDE = 32
FRAMES = AT_ONCE // SIDE**2 + 4
"""Of a clip that passes in several slices, and in several pieces inside of a norm."""
MANY = 24
"""Modules of a part that is given long clips in a thorough run alone."""
FAR = 8
"""Groups beyond that among which a length that passes is looked for."""

INVERSES: Mapping[type[LayerSpec], Callable[[Any], LayerSpec]] = MappingProxyType(
    {
        ChannelInterleaveSpec: lambda spec: ChannelInterleaveSpec(outer=spec.inner, inner=spec.outer),
        DepthToSpaceSpec: lambda spec: SpaceToDepthSpec(factor=spec.factor),
        FillFrontSpec: lambda spec: DropFrontSpec(),
        ShiftScaleSpec: lambda spec: ShiftScaleSpec(shift=-spec.shift * spec.scale, scale=1 / spec.scale),
        SpaceToDepthSpec: lambda spec: DepthToSpaceSpec(factor=spec.factor),
        SpatialRepeatSpec: lambda spec: SpatialAverageSpec(factor=spec.factor),
        TemporalRepeatSpec: lambda spec: TemporalSubsampleSpec(factor=spec.factor),
    }
)
"""Layers that another one undoes."""

# --------------------------------------------------------------------------- where a law applies


def _with_spec(part: Part) -> str | None:
    return "it has no spec" if part.spec is None else None


def _written(part: Part) -> str | None:
    return "its module cannot be written" if isinstance(part.spec, OpaqueSpec) else _with_spec(part)


def _undone(part: Part) -> str | None:
    return None if type(part.spec) in INVERSES else "no layer undoes it"


def _draws(part: Part) -> str | None:
    return None if isinstance(part.spec, PosteriorDrawSpec) else "it draws nothing itself"


# --------------------------------------------------------------------------- cases


def _short_and_long(part: Part, effort: Effort) -> Iterator[Case]:
    yield {"groups": part.lengths(2, 2)[0], "scale": 1}
    inside = list(part.module.modules())
    if any(isinstance(layer, _ALL_TO_ALL) for layer in inside) or (len(inside) > MANY and effort.seeds == 1):
        return
    yield dict(zip(("groups", "scale"), _long(part), strict=True))


_ALL_TO_ALL = (ClipAttention, FrameAttention, TemporalAttention)
"""What compares each position with each: a long clip takes the square of its length."""


def _long(part: Part) -> tuple[int, int]:
    """Groups, and how many times the size, of a clip that has FRAMES frames of SIDE pixels where it is largest."""
    finer = min(part.out.stride / part.given.stride, Fraction(1))
    most = max(part.given.group, part.out.group)
    least = math.ceil((FRAMES - part.given.lead) / most)
    groups = next((n for n in range(least, least + FAR) if part.takes(n)), None)
    if groups is None:  # clips of one length alone
        groups = part.lengths(1)[0]
    side = math.sqrt(FRAMES * SIDE**2 / part.given.frames(groups))
    return groups, math.ceil(max(SIDE, side) * finer / part.size[0])


def _once(part: Part, effort: Effort) -> Iterator[Case]:
    yield {"groups": part.lengths(2, 1)[-1], "seed": 0}


def _no_clip(part: Part, effort: Effort) -> Iterator[Case]:
    yield {}


# --------------------------------------------------------------------------- one case of each


def _modes(part: Part, groups: int, scale: int) -> float:
    x, spec = part.clip(groups, scale=scale), part.spec
    streams = spec is not None and spec.stream_limit(part.given) is None and not part.given.content and groups > 1
    plan = [groups // 2, groups - groups // 2] if streams else []
    signal = part.given if streams else None
    return laws.check_modes(part.module, x, part.run, training=scale == 1, signal=signal, plan=plan)


def _inverse(part: Part, groups: int, seed: int) -> float:
    assert part.spec is not None
    inverse = INVERSES[type(part.spec)](part.spec).build(part.out)
    return laws.check_undone(part.module, inverse, part.clip(groups, seed))


def _draw(part: Part, groups: int, seed: int) -> float:
    assert isinstance(part.spec, PosteriorDrawSpec)
    return laws.check_draw(part.module, part.clip(groups, seed), part.spec.limits)


def _json(part: Part) -> float:
    assert part.spec is not None
    return laws.check_layer_json(part.spec, part.given)


LAWS: tuple[Law, ...] = (
    Law("modes", laws.check_modes, _modes, _with_spec, _short_and_long),
    Law("undone", laws.check_undone, _inverse, _undone, _once),
    Law("noise", laws.check_draw, _draw, _draws, _once),
    Law("spec_json", laws.check_layer_json, _json, _written, _no_clip),
)
