"""Layers for every frame as a clip of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context, WholeClip
from vvae.errors import SpecError
from vvae.layers.compose import Chain, ChainSpec, CompositeSpec, once
from vvae.layers.layer import fold_frames, unfold_frames
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import Layers, LayerSpec


class LoneFrames(Chain):
    """`layers` for every frame as a clip of its own: each frame is a lead without groups.

    `at_once` frames run at one time, all of them if None; fewer take less memory and give the same.
    """

    def __init__(self, layers: Mapping[str, nn.Module], at_once: int | None = None) -> None:
        super().__init__(layers)
        self.at_once = at_once

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        own = WholeClip(content=ctx.content)
        if not x.shape[2]:
            return super().forward(x, own)
        frames = fold_frames(x).unsqueeze(2)
        parts = [Chain.forward(self, part, own).squeeze(2) for part in frames.split(self.at_once or len(frames))]
        return unfold_frames(parts[0] if len(parts) == 1 else torch.cat(parts), x.shape[0])


class LoneFramesSpec(CompositeSpec):
    """`layers` for every frame as a clip of its own, `at_once` of them at one time (None: all)."""

    kind: Literal["lone_frames"] = "lone_frames"
    layers: Layers
    at_once: PositiveInt | None = None

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        return ChainSpec(layers=self.layers).inputs(signal.with_time(lead=1))

    @once
    def trace(self, signal: Signal) -> Signal:
        self.trace_children(signal)
        if super().draws(signal) or self.reads():
            raise SpecError("a layer that draws or reads content cannot stand among lone frames; take a chain")
        if "at_once" in self.layers:
            raise SpecError("'at_once' says how many frames run at one time; choose another name for the layer")
        end = ChainSpec(layers=self.layers).trace(signal.with_time(lead=1))
        if end.lead != 1:
            raise SpecError(f"a lone frame must stay one frame, but {end.lead} come out; its layers must keep the lead")
        return end.with_time(lead=signal.lead, group=signal.group)

    def frames(self, signal: Signal, frames: int) -> int:
        return frames

    def build(self, signal: Signal) -> LoneFrames:
        return LoneFrames(self.build_children(signal), self.at_once)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.same_frame(frames)

    def draws(self, signal: Signal) -> dict[str, Signal]:
        return {}

    def stream_limit(self, signal: Signal) -> str | None:
        return None

    def halo(self, signal: Signal) -> Fraction | None:
        return ChainSpec(layers=self.layers).halo(signal.with_time(lead=1))
