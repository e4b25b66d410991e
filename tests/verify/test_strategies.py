"""What the strategies draw: all kinds of layers, often enough, and nothing larger than it must be when it shrinks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import vvae.verify.strategies
from vvae import Framing, SpecError
from vvae.layers import (
    ChannelRMSNormSpec,
    FrameGroupNormSpec,
    SiLUSpec,
    TemporalDownsampleSpec,
    chain,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.distribution import Distribution, RareError, sample
from vvae.verify.strategies import (
    LEAVES,
    Clip,
    clips,
    layer_specs,
    lengths,
    model_specs,
    plans,
    side,
    signals,
    splits,
    walk,
    walk_model,
    wired,
)

LAYERS = signals(content=True).flatmap(lambda signal: st.tuples(wired(signal), clips(signal)))
KINDS = [kind for kind, spec in LayerSpec.kinds.items() if spec.__module__.startswith("vvae.layers.")]
NOT_DRAWN = {"opaque"}
"""It has no JSON. Kinds of `vvae.published` are not drawn either: no release is made of them."""
MOST_SPECS = 900
"""Within so many all kinds must have come up often enough."""
SHRUNK = settings(max_examples=300, database=None)
FIRST = settings(SHRUNK, phases=[Phase.generate])


def test_every_kind_of_layer_is_drawn_and_not_the_simplest_alone(
    record_property: Callable[[str, object], None],
) -> None:
    found, wanted = Distribution(), set(KINDS) - NOT_DRAWN
    for number in range(MOST_SPECS // 60):
        for layer, clip in sample(LAYERS, 40, start=number * 40):
            found.add(layer, clip.signal, clip.frames)
        for model in sample(model_specs(), 20, start=number * 40):
            found.add_model(model, model.framing.lead + number % 4 + 1)
        if not found.rare(wanted):
            break
    record_property("drawn", str(found))
    assert len(KINDS) > 50
    assert found.normed.total() > 80
    found.check(wanted)


def test_a_norm_of_one_value_is_named() -> None:
    found = Distribution()
    for norm in (ChannelRMSNormSpec(parts=2), FrameGroupNormSpec(groups=2), FrameGroupNormSpec(groups=1)):
        found.add(norm, Signal(2), 1)
    assert found.rare([], strided=0.0, several=1) == ["a norm over a single channel 2 times, none should be"]


def test_what_is_too_rare_is_named() -> None:
    found = Distribution()
    for frames in range(1, 5):
        found.add(chain(act=SiLUSpec()), Signal(2), frames)
    assert found.rare(["silu"], least=4, strided=0.0, several=1) == []
    assert found.rare(["silu", "tanh"]) == [
        "silu 4 times, at least 20",
        "tanh 0 times, at least 20",
        "a temporal stride in 0% of the specs, at least 30%",
        "1 different depths, at least 4",
    ]
    with pytest.raises(RareError, match=r"^too rare among 4 specs: tanh 0 times, at least 1$"):
        found.check(["tanh"], least=1, strided=0.0, several=1)


def test_a_temporal_stride_inside_counts_once_for_its_spec() -> None:
    halves = TemporalDownsampleSpec(channels=2)
    found = Distribution()
    found.add(chain(outer=chain(a=halves, b=halves)), Signal(2, group=4), 4)
    found.add(chain(keep=TemporalDownsampleSpec(channels=2, factor=1)), Signal(2, group=4), 4)
    assert (found.specs, found.strided) == (2, 1)
    assert found.kinds["temporal_downsample"] == 3
    assert found.depths == {2: 1, 1: 1}
    assert "2 specs, 50% with a temporal stride" in str(found)


def test_a_sample_is_the_same_every_time_and_holds_no_example_over_and_over() -> None:
    found = sample(LAYERS, 20)
    assert found == sample(LAYERS, 20)
    assert found != sample(LAYERS, 20, start=1)
    assert len({str(example) for example in found}) > 15


# --------------------------------------------------------------------------- what is drawn fits


@given(LAYERS)
def test_wired_layers_fit_and_are_small(given: tuple[LayerSpec, Clip]) -> None:
    layer, clip = given
    out = layer.trace(clip.signal)
    assert out.group <= 8
    assert out.channels <= 12
    assert side(layer, clip.signal) <= 8
    assert clip.signal.frames(2) in lengths(layer, clip.signal, 30)


@given(signals(content=True).flatmap(lambda signal: st.tuples(wired(signal, stream=True), st.just(signal))))
def test_layers_that_must_stream_do(given: tuple[LayerSpec, Signal]) -> None:
    layer, signal = given
    assert layer.stream_limit(signal) is None


@given(st.sampled_from(list(LEAVES)), signals(content=True), st.data())
def test_leaves_are_of_their_kind(kind: str, signal: Signal, data: st.DataObject) -> None:
    layer = data.draw(LEAVES[kind](signal))
    assert kind in {inner.kind for inner, _, _ in walk(layer, signal)}
    layer.trace(signal)


def test_trees_of_some_kinds_have_no_leaf_of_another() -> None:
    signal = Signal(2, 1, 2)
    mended = {"frame_conv2d", "temporal_repeat", "temporal_subsample", "spatial_upsample", "space_to_depth"}
    allowed = mended | {"tanh", "between_keyframes"}
    for tree in sample(wired(signal, kinds=("tanh",)), 30):
        leaves = {layer.kind for layer, _, _ in walk(tree, signal)} & LEAVES.keys()
        assert leaves <= allowed


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^kind 'tahn' is unknown; near it: tanh"):
        wired(Signal(1), kinds=("tahn",))


@given(st.integers(0, 5), st.data())
def test_chunks_are_the_whole_clip(frames: int, data: st.DataObject) -> None:
    assert sum(data.draw(splits(frames))) == frames
    plan = data.draw(plans(frames))
    assert sum(groups for groups in plan if groups > 0) == frames
    assert -1 not in plan[1:]


def test_misfits_are_drawn_beside_what_fits() -> None:
    def fits(layer: LayerSpec, signal: Signal) -> bool:
        try:
            layer.trace(signal)
        except SpecError:
            return False
        return True

    found = sample(signals().flatmap(lambda signal: st.tuples(layer_specs(signal), st.just(signal))), 60)
    count = sum(fits(layer, signal) for layer, signal in found)
    assert 20 <= count <= 55


# --------------------------------------------------------------------------- and shrinks


def anything(found: object) -> bool:
    return True


def halves(found: tuple[LayerSpec, Signal]) -> bool:
    return any(layer.kind == "temporal_downsample" and layer.trace(r).group < r.group for layer, r, _ in walk(*found))


def layers_of(*kinds: str) -> st.SearchStrategy[tuple[LayerSpec, Signal]]:
    return signals().flatmap(lambda signal: st.tuples(wired(signal, depth=1, kinds=kinds), st.just(signal)))


@pytest.mark.parametrize(
    ("strategy", "wanted", "smallest"),
    [
        (signals(), anything, Signal(1)),
        (signals(), lambda signal: signal.lead and signal.group > 1, Signal(1, 1, 2)),
        (clips(Signal(2)), lambda clip: clip.frames > 1, Clip(Signal(2), frames=2, width=2)),
        (splits(4), lambda chunks: len(chunks) > 1, [0, 4]),
        (plans(3), lambda chunks: -1 in chunks, [-1, 3]),
        (layers_of("silu", "tanh"), anything, (SiLUSpec(), Signal(1))),
        (layers_of("silu", "temporal_downsample"), halves, (TemporalDownsampleSpec(channels=1), Signal(1, group=2))),
    ],
)
def test_drawn_things_shrink_to_the_smallest(
    strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool], smallest: object
) -> None:
    assert find(strategy, wanted, settings=FIRST if wanted is anything else SHRUNK) == smallest


def test_models_start_from_the_smallest() -> None:
    model = find(model_specs(), anything, settings=FIRST)
    assert (model.framing, model.content) == (Framing(channels=1), None)
    assert [layer.kind for layer, _, _ in walk_model(model)] == [
        "chain",
        "causal_conv3d",
        *["chain"] * 2,
        "frame_conv2d",
    ]


def test_public_names_are_there_and_documented() -> None:
    house = vvae.verify.strategies
    named = {name: getattr(house, name) for name in house.__all__}
    functions = {name: value for name, value in named.items() if inspect.isroutine(value) or inspect.isclass(value)}
    assert len(functions) > 12
    assert [name for name, value in functions.items() if not value.__doc__] == []
