"""A lead that layers see, but leave as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn

from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError
from vvae.layers.compose import Chain, ChainSpec, CompositeSpec, once
from vvae.layers.layer import join_frames
from vvae.reach import Reach, same_frame
from vvae.signal import Signal
from vvae.spec import Layers, LayerSpec


class LeadPassesBy(Chain):
    """`layers` for the whole clip, but its `lead` frames come out as they went in. `AfterLead` hides the lead.

    Shapes: as the layers', which must keep the lead's channels and size. A stream keeps the lead until the layers have
    given what stands in its place.
    """

    def __init__(self, layers: Mapping[str, nn.Module], lead: int = 1) -> None:
        super().__init__(layers)
        self.lead = lead

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        given = super().forward(x, ctx)
        if not self.lead:
            return given
        kept = ctx.recall(self)
        waiting = x[:, :, : self.lead] if kept is None else kept[0]
        if waiting.shape[2]:
            passed = min(waiting.shape[2], given.shape[2])
            ctx.keep(self, waiting[:, :, passed:])
            given = join_frames(waiting[:, :, :passed], given[:, :, passed:])
        return given

    def extra_repr(self) -> str:
        return f"lead={self.lead}"


class LeadPassesBySpec(CompositeSpec):
    """`layers` for the whole clip, but the lead frames come out as they went in."""

    kind: Literal["lead_passes_by"] = "lead_passes_by"
    layers: Layers

    @property
    def _chain(self) -> ChainSpec:
        return ChainSpec(layers=self.layers)

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        return self._chain.inputs(signal)

    @once
    def trace(self, signal: Signal) -> Signal:
        self.trace_children(signal)
        if "lead" in self.layers:
            raise SpecError("'lead' says how many frames pass by; choose another name for the layer")
        out = self._chain.trace(signal)
        if signal.lead and out.with_time(group=signal.group) != signal:
            raise SpecError(
                f"gives {out}, beside which the lead of {signal} cannot stand; it must keep its channels and size"
            )
        return out

    def frames(self, signal: Signal, frames: int) -> int:
        return self._chain.frames(signal, frames)

    def build(self, signal: Signal) -> LeadPassesBy:
        return LeadPassesBy(self.build_children(signal), signal.lead)

    def reach(self, signal: Signal, frames: int) -> Reach:
        seen = self._chain.reach(signal, frames)
        lead = min(signal.lead, frames)
        seen[:lead] = same_frame(frames)[:lead]
        return seen

    def halo(self, signal: Signal) -> Fraction | None:
        return self._chain.halo(signal)
