"""Trees of layers: composites of drawn layers, mended where their ends must agree, so that `trace` accepts them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType

from hypothesis import reject
from hypothesis import strategies as st

from vvae.layers import (
    AfterLeadSpec,
    BetweenKeyframesSpec,
    ChainSpec,
    KeyframeBranchesSpec,
    LeadPassesBySpec,
    LearnedMixSpec,
    LoneFramesSpec,
    ParallelSpec,
    PerPartSpec,
    ResidualSpec,
    WithContentSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec, one_of
from vvae.verify.strategies.clips import CHANNELS, signals
from vvae.verify.strategies.in_space import mix
from vvae.verify.strategies.layers import LEAVES, PLAIN, READS, WHOLE_CLIP, draw_leaf
from vvae.verify.strategies.wiring import MOST_SIDE, after, mend, side

NOT_ALONE = frozenset({"posterior_draw", *READS})
"""Kinds that cannot stand among lone frames."""


@dataclass(frozen=True)
class Choice:
    """What may be drawn: leaves of these `kinds`, at most `depth` composites around one; only layers that can
    `stream`, or keep the lead.
    """

    kinds: tuple[str, ...]
    depth: int
    stream: bool = False
    keep_lead: bool = False

    def kind(self, signal: Signal) -> st.SearchStrategy[str]:
        """Names of kinds; where there is content, those that read it more often than others."""
        return self._kinds_with_content if signal.content else self._kinds_without

    @cached_property
    def _kinds_with_content(self) -> st.SearchStrategy[str]:
        return st.sampled_from([*self.kinds, *[kind for kind in self.kinds if kind in READS] * 3])

    @cached_property
    def _kinds_without(self) -> st.SearchStrategy[str]:
        return st.sampled_from([kind for kind in self.kinds if kind not in READS] or [PLAIN])

    @cached_property
    def inner(self) -> Choice:
        """The same, one composite deeper."""
        return replace(self, depth=self.depth - 1)

    @cached_property
    def led(self) -> Choice:
        """Only layers that keep the lead."""
        return replace(self, keep_lead=True)

    @cached_property
    def alone(self) -> Choice:
        """What can stand among lone frames."""
        kinds = tuple(kind for kind in self.kinds if kind not in NOT_ALONE)
        return replace(self, kinds=kinds or (PLAIN,), keep_lead=True)

    def after(self, layer: LayerSpec, signal: Signal) -> Signal | None:
        """What the layer gives, or None: it does not fit, or is not what may be drawn."""
        out = after(layer, signal)
        if out is None or side(layer, signal) > MOST_SIDE or (self.keep_lead and out.lead != signal.lead):
            return None
        return None if self.stream and layer.stream_limit(signal) is not None else out


Composite = Callable[[st.DrawFn, Signal, Choice], LayerSpec | None]


def draw_row(draw: st.DrawFn, signal: Signal, choice: Choice, most: int = 3) -> tuple[dict[str, LayerSpec], Signal]:
    """Layers one after the other, and what comes out behind them."""
    layers: dict[str, LayerSpec] = {}
    for number in range(draw(st.integers(0, most))):
        layer = draw(_tree(signal, choice))
        out = choice.after(layer, signal)
        if out is not None:
            layers[f"layer{number}"], signal = layer, out
    return layers, signal


def _chain(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    return ChainSpec(layers=draw_row(draw, signal, choice)[0])


def _residual(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    layers, out = draw_row(draw, signal, choice.led)
    same = out == signal and draw(st.booleans())
    return ResidualSpec(layers=layers, shortcut=None if same else mend(signal, out))


def _branches(draw: st.DrawFn, signal: Signal, choice: Choice, count: int, *, same: bool) -> dict[str, LayerSpec]:
    """Branches that give the `same`, or agree in all but channels."""
    first, out = draw_row(draw, signal, choice.led)
    branches: dict[str, LayerSpec] = {"branch0": ChainSpec(layers=first)}
    for number in range(1, count):
        other, end = draw_row(draw, signal, choice.led, most=2)
        fits = end == out if same else end.with_channels(out.channels) == out
        bridge = None if fits else mend(end, out)
        branches[f"branch{number}"] = ChainSpec(layers={**other, "bridge": bridge} if bridge else other)
    return branches


def _parallel(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    return ParallelSpec(branches=_branches(draw, signal, choice, draw(st.integers(2, 3)), same=False))


def _learned_mix(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    return LearnedMixSpec(branches=_branches(draw, signal, choice, 2, same=True))


def _per_part(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    share, count = draw(CHANNELS), draw(st.integers(2, 3))
    branches = _branches(draw, signal.with_channels(share), choice, count, same=False)
    # what is read in parts is mixed first: reach knows frames, not which of their channels
    return chain(mix=mix(share * count), parts=PerPartSpec(branches=branches))


def _after_lead(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    layers, out = draw_row(draw, signal.with_time(lead=0), choice)
    lone, wanted = signal.with_time(lead=0, group=1), out.with_time(lead=0, group=1)
    same = lone == wanted and draw(st.booleans())
    return AfterLeadSpec(layers=layers, on_lead=None if same else mend(lone, wanted))


def _lead_passes_by(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    layers, out = draw_row(draw, signal, choice.led)
    bridge = mend(out, signal.with_time(group=out.group))
    return LeadPassesBySpec(layers=layers if bridge is None else {**layers, "bridge": bridge})


def _lone_frames(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    layers, _ = draw_row(draw, signal.with_time(lead=1), choice.alone)
    return LoneFramesSpec(layers=layers, at_once=draw(st.sampled_from([None, 1, 2])))


def _keyframes(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec | None:
    if signal.group < 2:
        return None
    key, out = draw_row(draw, signal.with_time(group=1), choice.led, most=2)
    wanted = out.with_time(group=1)
    if wanted != out and (keep := mend(out, wanted)):
        key["bridge"] = keep
    between: dict[str, LayerSpec] = {"between": BetweenKeyframesSpec()}
    others, end = draw_row(draw, signal, choice.led, most=1)
    given = BetweenKeyframesSpec().trace(end) if end.group > 1 else None
    if given is None:
        others, given = {}, BetweenKeyframesSpec().trace(signal)
    bridge = mend(given, out.with_time(lead=0, group=signal.group - 1))
    layers = {**others, **between, **({"bridge": bridge} if bridge else {})}
    return KeyframeBranchesSpec(keyframe=ChainSpec(layers=key), between=ChainSpec(layers=layers))


def _with_content(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    layers, out = draw_row(draw, signal, choice.led)
    bridge = None if out == signal else mend(out, signal)
    return WithContentSpec(layers={**layers, "bridge": bridge} if bridge else layers)


COMPOSITES: dict[str, Composite] = {
    "chain": _chain,
    "residual": _residual,
    "parallel": _parallel,
    "learned_mix": _learned_mix,
    "per_part": _per_part,
    "after_lead": _after_lead,
    "lead_passes_by": _lead_passes_by,
    "lone_frames": _lone_frames,
    "keyframe_branches": _keyframes,
    "with_content": _with_content,
}
# a leaf comes first, so that a tree shrinks to one
_SHAPES = st.sampled_from(["leaf", *[name for name in COMPOSITES if name != "with_content"], "leaf"])
_SHAPES_WITH_CONTENT = st.sampled_from(["leaf", *COMPOSITES, "with_content"])


@st.composite
def _tree(draw: st.DrawFn, signal: Signal, choice: Choice) -> LayerSpec:
    shapes = _SHAPES_WITH_CONTENT if signal.content else _SHAPES
    shape = draw(shapes) if choice.depth else "leaf"
    layer = None if shape == "leaf" else COMPOSITES[shape](draw, signal, choice.inner)
    if layer is not None and choice.after(layer, signal) is not None:
        return layer
    return draw_leaf(draw, signal, choice.kind(signal))


def _able(kinds: Collection[str], stream: bool) -> tuple[str, ...]:
    """Those of the kinds that can stream, if they must."""
    for kind in kinds:
        one_of("kind", kind, LEAVES)
    return tuple(kind for kind in kinds if not (stream and kind in WHOLE_CLIP)) or (PLAIN,)


@st.composite
def _around(
    draw: st.DrawFn, signal: Signal, *, name: str, kinds: Collection[str] = LEAVES, stream: bool = False
) -> LayerSpec:
    choice = Choice(_able(kinds, stream), 0, stream)
    layer = COMPOSITES[name](draw, signal, choice)
    return reject() if layer is None or choice.after(layer, signal) is None else layer


TREES: Mapping[str, Callable[..., st.SearchStrategy[LayerSpec]]] = MappingProxyType(
    {name: partial(_around, name=name) for name in COMPOSITES}
)
"""For each kind of composite a strategy of such behind a signal, around leaves of these `kinds`, which `stream` if they
must. Behind a signal where none can stand nothing is drawn.
"""


def wired(
    signal: Signal, depth: int = 2, *, kinds: Collection[str] = LEAVES, stream: bool = False
) -> st.SearchStrategy[LayerSpec]:
    """Layers behind that signal: trees of the built-in kinds, at most `depth` composites deep, that `trace` accepts.

    Leaves are of these `kinds`; `stream`: only layers that can stream. Content is read where the signal has some.
    What is bound to clips of one length takes those of two groups. The smallest clip is at most 8 cells high.

    Raises:
        SpecError: an unknown kind.

    >>> wired(Signal(2), depth=1).example()  # doctest: +SKIP
    residual
      layer0: causal_conv3d(channels=2)
    """
    choice = Choice(_able(kinds, stream), depth, stream)
    return _tree(signal, choice).filter(lambda spec: choice.after(spec, signal) is not None)


def layer_specs(signal: Signal, depth: int = 2) -> st.SearchStrategy[LayerSpec]:
    """Layers of which some fit behind that signal and behind each other and some do not: `trace` accepts or refuses."""
    meant = st.just(signal) | signals(content=True)
    rows = st.lists(meant.flatmap(lambda read: wired(read, depth - 1)), min_size=1, max_size=3)
    misfits = rows.map(lambda row: ChainSpec(layers={f"layer{number}": layer for number, layer in enumerate(row)}))
    return wired(signal, depth) | misfits
