"""Two branches mixed by a learned number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError
from vvae.layers.compose import Parallel, ParallelSpec, align, once, own_layers
from vvae.signal import Signal


class LearnedMix(Parallel):
    """Two branches that read the whole input: a first + (1 - a) second, where a = sigmoid(factor).

    `factor` is one learned number, `initial` at first; both branches give the same shape, which comes out.
    Source: `mix_factor` of the resamplers in OD-VAE's code.
    """

    def __init__(self, branches: Mapping[str, nn.Module], initial: float = 2.0) -> None:
        super().__init__(branches)
        self.factor = nn.Parameter(torch.tensor([float(initial)]))

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        first, second = align(ctx, self, [branch(x, ctx) for branch in own_layers(self).values()])
        return second.lerp(first, self.factor.sigmoid())


class LearnedMixSpec(ParallelSpec):
    """Two branches that read the whole input, mixed by one learned number, `initial` before its sigmoid at first."""

    kind: Literal["learned_mix"] = "learned_mix"  # type: ignore[assignment]
    initial: float = 2.0

    @once
    def trace(self, signal: Signal) -> Signal:
        given = self.trace_children(signal)
        if len(given) != 2:
            raise SpecError(f"one number mixes two branches, found {len(given)}; give two")
        if "factor" in given:
            raise SpecError("'factor' names the learned number; choose another name for the branch")
        (name, first), (other, second) = given.items()
        if first != second:
            raise SpecError(
                f"branches that are mixed must give the same: {name!r} gives {first}, but {other!r} {second}"
            )
        return first

    def build(self, signal: Signal) -> LearnedMix:
        return LearnedMix(self.build_children(signal), self.initial)
