"""What is asked of every layer in the tables of these tests."""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from vvae import verify
from vvae.signal import Signal
from vvae.spec import LayerSpec

Table = Mapping[str, tuple[LayerSpec, Signal]]
AT_ONCE = 8
"""Layers that are compiled together: the compiler takes half of the time for them that it takes one by one."""


def broken_laws(spec: LayerSpec, signal: Signal, without: Set[str]) -> list[str]:
    """The laws of the suite that the layer does not keep, without those that a test here asks more of."""
    torch.manual_seed(0)
    laws = [name for name in verify.all_laws() if name not in without]
    found = verify.verify(verify.layer_subject(spec, signal), only=laws)
    good = ("holds", "not claimed")
    return [f"{f.law}: {f.verdict}: {f.message} {dict(f.case)}" for f in found if f.verdict not in good]


def bunches(table: Table) -> list[list[str]]:
    """The names of a table, so many at once."""
    names = list(table)
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]


def compiled_differences(layers: Mapping[str, tuple[torch.nn.Module, Tensor]]) -> dict[str, float]:
    """How far each layer is from itself in one graph with the others, without a break."""

    def run(clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: layers[name][0](clip) for name, clip in clips.items()}

    with torch.no_grad():
        clips = {name: x for name, (_, x) in layers.items()}
        given = torch.compile(run, fullgraph=True, backend="eager")(clips)
        want = run(clips)
    torch._dynamo.reset()
    return {name: verify.difference(given[name], want[name]) for name in layers}
