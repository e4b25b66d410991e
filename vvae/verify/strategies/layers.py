"""Single layers: a strategy for each kind that the library ships.

Kinds of `vvae.published.legacy` are not drawn (no release is made of them), nor is `opaque`, which has no JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from hypothesis import reject
from hypothesis import strategies as st

from vvae.layers import FrameConv2dSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies.in_space import IN_SPACE, OVER_THE_CLIP, Make
from vvae.verify.strategies.in_time import IN_TIME

Leaf = Callable[[Signal], st.SearchStrategy[LayerSpec]]
"""A strategy for the layers of one kind behind a signal."""

MAKES: Mapping[str, Make] = MappingProxyType({**IN_SPACE, **IN_TIME, **OVER_THE_CLIP})


@st.composite
def _leaves(draw: st.DrawFn, signal: Signal, *, kind: str) -> LayerSpec:
    layer = MAKES[kind](draw, signal)
    return reject() if layer is None else layer


LEAVES: Mapping[str, Leaf] = MappingProxyType({kind: partial(_leaves, kind=kind) for kind in MAKES})
"""For each kind a strategy of layers of that kind that `trace` accepts behind the signal, with what they need around
them: what knows groups only stands behind the lead, a norm behind a mix of the channels. Behind a signal where none of
the kind can stand nothing is drawn.
"""

PLAIN = "frame_conv2d"
"""The kind that can stand anywhere."""
WHOLE_CLIP = frozenset({*OVER_THE_CLIP, "temporal_conv", "temporal_conv_upsample", "time_positions"})
"""Kinds that never stream."""
READS = frozenset({"content_attention", "windowed_content_attention"})
"""Kinds that read content."""
HELD_BACK = frozenset({"look_ahead_conv", "linear_temporal_upsample"})
"""Kinds that wait for later frames."""
BOUND = frozenset({"time_positions"})
"""Kinds that take clips of one length alone."""
FRONT = frozenset({"fill_front", "drop_front"})
"""Kinds that belong to the ends of a model."""


def draw_leaf(draw: st.DrawFn, signal: Signal, kinds: st.SearchStrategy[str]) -> LayerSpec:
    """A layer of one of the kinds; a plain convolution where none of the drawn kind can stand."""
    return MAKES[draw(kinds)](draw, signal) or FrameConv2dSpec(channels=signal.channels, kernel=1)
