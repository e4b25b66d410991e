"""Specs broken in one place, each with the error that it must give: a way for every place that raises SpecError."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hypothesis import strategies as st

from vvae.verify.strategies.broken_archs import BROKEN_ARCHITECTURES
from vvae.verify.strategies.broken_layers import BROKEN_LAYERS, BrokenLayer
from vvae.verify.strategies.broken_models import BROKEN_MODELS, Broken

BROKEN: Mapping[str, st.SearchStrategy[Broken] | st.SearchStrategy[BrokenLayer]] = MappingProxyType(
    {**BROKEN_LAYERS, **BROKEN_MODELS, **BROKEN_ARCHITECTURES}
)
"""Every way to break something, by a name that says what is broken."""


def broken_layers() -> st.SearchStrategy[BrokenLayer]:
    """Layers that cannot stand behind their signal: `spec`, `signal`, and what the error `says`.

    >>> broken_layers().example()  # doctest: +SKIP
    BrokenLayer(says='heads', spec=frame_attention(heads=2), signal=Signal(channels=1, ...))
    """
    return st.one_of(list(BROKEN_LAYERS.values()))


def broken_specs() -> st.SearchStrategy[Broken | BrokenLayer]:
    """Anything broken in one place: `meet()` raises the SpecError that `says` describes."""
    return st.one_of(list(BROKEN.values()))
