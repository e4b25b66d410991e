"""Keyframes: the lead and the first frame of every group, apart from the frames between them.

`KeyframeSplit` and `KeyframeMerge` undo each other: `merge(split(x)) == x`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from torch import Tensor, cat, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError
from vvae.layers.compose import AfterLead, CompositeSpec, once
from vvae.layers.layer import channels_first, channels_last, join_frames, split_axis
from vvae.layers.time import TemporalSubsample
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import AnyLayer, LayerSpec, at


class KeyframeSplit(nn.Module):
    """`b c lead+n*group h w` -> keyframes `b c lead+n h w` and the frames between `b c n*(group-1) h w`."""

    def __init__(self, group: int, lead: int = 1) -> None:
        super().__init__()
        self.group, self.lead = group, lead

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> tuple[Tensor, Tensor]:
        lead = self.lead if x.shape[2] and ctx.recall(self) is None else 0
        if x.shape[2]:
            ctx.keep(self, x[:, :, :0])  # the mark that the lead has passed
        groups = split_axis(channels_last(x)[:, lead:], 1, (x.shape[2] - lead) // self.group, self.group)
        keyframes = join_frames(x[:, :, :lead], channels_first(groups[:, :, 0]))
        return keyframes, channels_first(groups[:, :, 1:].flatten(1, 2))


class KeyframeMerge(nn.Module):
    """Keyframes `b c lead+n h w` and the frames between `b c n*(group-1) h w` -> `b c lead+n*group h w`."""

    def __init__(self, group: int, lead: int = 1) -> None:
        super().__init__()
        self.group, self.lead = group, lead

    def forward(self, frames: tuple[Tensor, Tensor], ctx: Context = WHOLE_CLIP) -> Tensor:
        key, between = frames
        lead = self.lead if key.shape[2] and ctx.recall(self) is None else 0
        if key.shape[2]:
            ctx.keep(self, key[:, :, :0])
        inner = split_axis(channels_last(between), 1, key.shape[2] - lead, self.group - 1)
        groups = cat([channels_last(key)[:, lead:].unsqueeze(2), inner], 2).flatten(1, 2)
        return join_frames(key[:, :, :lead], channels_first(groups))


class BetweenKeyframes(KeyframeSplit):
    """`b c lead+n*group h w` -> the frames between keyframes, `b c n*(group-1) h w`."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:  # type: ignore[override]
        return super().forward(x, ctx)[1]


class BetweenKeyframesSpec(LayerSpec):
    """The frames between keyframes."""

    kind: Literal["between_keyframes"] = "between_keyframes"

    def trace(self, signal: Signal) -> Signal:
        if signal.group < 2:
            raise SpecError(f"groups of {signal.group} have no frames between keyframes; it needs groups of at least 2")
        return signal.with_time(lead=0, group=signal.group - 1)

    def build(self, signal: Signal) -> BetweenKeyframes:
        return BetweenKeyframes(signal.group, signal.lead)

    def reach(self, signal: Signal, frames: int) -> Reach:
        self.frames(signal, frames)
        numbers = range(signal.lead, frames)
        return reach.same_frame(frames)[[t for t in numbers if (t - signal.lead) % signal.group]]

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class KeyframeBranches(nn.Module):
    """The layer `keyframe` makes the keyframes out of the keyframes, `between` the others out of the whole clip."""

    def __init__(self, keyframe: nn.Module, between: nn.Module, *, group: int, lead: int = 1) -> None:
        super().__init__()
        self.keyframe, self.between = keyframe, between
        self.keep = AfterLead({"first": TemporalSubsample(group)}, lead)
        self.merge = KeyframeMerge(group, lead)

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        keys = self.keep(x, ctx)
        pictures: Tensor = self.merge(self._ready(self.keyframe(keys, ctx), self.between(x, ctx), ctx), ctx)
        return pictures

    def _ready(self, key: Tensor, between: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """What both branches have; the surplus of the faster one is kept for the next step."""
        held = ctx.recall(self)
        if held is not None:
            key, between = join_frames(held[0], key), join_frames(held[1], between)
        lead, inner = self.merge.lead if ctx.recall(self.merge) is None else 0, self.merge.group - 1
        groups = max(0, min(key.shape[2] - lead, between.shape[2] // inner))
        keys, others = min(lead + groups, key.shape[2]), groups * inner
        if held is not None or (keys, others) != (key.shape[2], between.shape[2]):
            ctx.keep(self, key[:, :, keys:], between[:, :, others:])
        return key[:, :, :keys], between[:, :, :others]


class KeyframeBranchesSpec(CompositeSpec):
    """`keyframe` makes the keyframes out of the keyframes, `between` the other frames out of the whole clip.

    Each is computed only where it is kept. Both must give as many frames as they stand for.
    Source: the two heads of IV-VAE's decoder.
    """

    kind: Literal["keyframe_branches"] = "keyframe_branches"
    keyframe: AnyLayer
    between: AnyLayer

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        yield "keyframe", self.keyframe, signal.with_time(group=1)
        yield "between", self.between, signal

    @once
    def trace(self, signal: Signal) -> Signal:
        if signal.group < 2:
            raise SpecError(f"groups of {signal.group} have no frames between keyframes; it needs groups of at least 2")
        given = self.trace_children(signal)
        key, between = given["keyframe"], given["between"]
        wanted = {
            "keyframe": key.with_time(lead=signal.lead, group=1),
            "between": key.with_time(lead=0, group=signal.group - 1),
        }
        for name, want in wanted.items():
            with at(name):
                if given[name] != want:
                    raise SpecError(f"gives {given[name]}, but {want} is needed beside the other branch")
        return between.with_time(lead=signal.lead, group=signal.group)

    def frames(self, signal: Signal, frames: int) -> int:
        groups = self.whole_groups(signal, frames)
        self.frames_of_children(signal, {"keyframe": signal.lead + groups, "between": frames})
        return frames

    def build(self, signal: Signal) -> KeyframeBranches:
        return KeyframeBranches(**self.build_children(signal), group=signal.group, lead=signal.lead)

    def reach(self, signal: Signal, frames: int) -> Reach:
        groups = self.whole_groups(signal, frames)
        keys = [t for t in range(frames) if t < signal.lead or (t - signal.lead) % signal.group == 0]
        others = [t for t in range(frames) if t not in set(keys)]
        seen = reach.same_frame(frames)
        seen[keys] = reach.then(seen[keys], self.keyframe.reach(signal.with_time(group=1), signal.lead + groups))
        seen[others] = self.between.reach(signal, frames)
        return seen
