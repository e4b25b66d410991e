"""How layers stand together: one after the other, side by side, around a shortcut, behind the lead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property, wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from pydantic import Field
from torch import Tensor, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError
from vvae.layers.layer import join_channels, join_frames
from vvae.layers.slices import in_a_row, watched
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import AnyLayer, Layers, LayerSpec, at

S = TypeVar("S", bound=LayerSpec)
P = ParamSpec("P")
T = TypeVar("T")
TAKEN = frozenset(dir(nn.Module()))
"""What nn.Module calls its own: no layer can have such a name."""


def once(find: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """What a method found is remembered with the spec, so that a deep tree is not walked over and over."""

    @wraps(find)
    def found(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        known = self.__dict__.setdefault("_known", {})
        asked = (find.__name__, args, *kwargs.items())
        if asked not in known:
            known[asked] = find(self, *args, **kwargs)
        given: T = known[asked]
        return given

    return found


def own_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a module by name; unlike `named_children`, one that stands twice is there twice."""
    return {name: layer for name, layer in module._modules.items() if layer is not None}


class CompositeSpec(LayerSpec):
    """A spec that owns others. A subclass says in `inputs` what each of its children reads."""

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        """Name, child and the signal that the child reads; errors of a child are led by its name."""
        raise NotImplementedError

    def stream_limit(self, signal: Signal) -> str | None:
        """The first child that cannot, led by its path."""
        limits = (limit_of(name, child, read) for name, child, read in self.inputs(signal))
        return next((limit for limit in limits if limit), None)

    def draws(self, signal: Signal) -> dict[str, Signal]:
        found = {}
        for name, child, read in self.inputs(signal):
            found.update({f"{name}.{path}".rstrip("."): drawn for path, drawn in child.draws(read).items()})
        return found

    def halo(self, signal: Signal) -> Fraction | None:
        halos = [child.halo(read) for _, child, read in self.inputs(signal)]
        return None if None in halos else max((h for h in halos if h is not None), default=Fraction(0))

    def cell(self, signal: Signal) -> int:
        return math.lcm(super().cell(signal), *(child.cell(read) for _, child, read in self.inputs(signal)))

    def trace_children(self, signal: Signal) -> dict[str, Signal]:
        """What each child gives."""
        given = {}
        for name, child, read in self.inputs(signal):
            with at(name):
                if not name.isidentifier() or name in TAKEN:
                    raise SpecError(f"{name!r} cannot name a layer; use an identifier that nn.Module does not have")
                given[name] = child.trace(read)
        return given

    def frames_of_children(self, signal: Signal, frames: Mapping[str, int]) -> dict[str, int]:
        """How many frames each child gives for the frames that it reads."""
        given = {}
        for name, child, read in self.inputs(signal):
            with at(name):
                given[name] = child.frames(read, frames[name])
        return given

    def build_children(self, signal: Signal) -> dict[str, nn.Module]:
        return {name: child.build(read) for name, child, read in self.inputs(signal)}


def limit_of(name: str, layer: LayerSpec, signal: Signal) -> str | None:
    """Why the layer of that name cannot stream, led by the path to the one at fault."""
    limit = layer.stream_limit(signal)
    joint = "." if isinstance(layer, CompositeSpec) else ": "
    return None if limit is None else f"{name}{joint}{limit}"


def _one_after_the_other(layers: Mapping[str, LayerSpec], signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
    for name, layer in layers.items():
        yield name, layer, signal
        with at(name):
            signal = layer.trace(signal)


class Chain(nn.Module):
    """Layers one after the other, under their own names."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        return in_a_row(_flat(self), x, ctx)[0]


def _flat(module: nn.Module, without: str = "") -> list[nn.Module]:
    """The layers of a module in their order, those of a chain among them in its place."""
    flat: list[nn.Module] = []
    for name, layer in own_layers(module).items():
        if name != without:
            flat.extend(_flat(layer) if type(layer) is Chain and not watched(layer) else [layer])
    return flat


class ChainSpec(CompositeSpec):
    """`layers` one after the other; a layer's path is its name, without a step for the chain's field."""

    kind: Literal["chain"] = "chain"
    layers: Layers

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        return _one_after_the_other(self.layers, signal)

    @once
    def trace(self, signal: Signal) -> Signal:
        return next(reversed(self.trace_children(signal).values()), signal)

    @once
    def frames(self, signal: Signal, frames: int) -> int:
        for name, layer, read in self.inputs(signal):
            with at(name):
                frames = layer.frames(read, frames)
        return frames

    def build(self, signal: Signal) -> Chain:
        return Chain(self.build_children(signal))

    def reach(self, signal: Signal, frames: int) -> Reach:
        seen = reach.same_frame(frames)
        for _, layer, read in self.inputs(signal):
            seen = reach.then(seen, layer.reach(read, seen.shape[0]))
        return seen

    def halo(self, signal: Signal) -> Fraction | None:
        halo = Fraction(0)
        for _, layer, read in self.inputs(signal):
            own = layer.halo(read)
            if own is None:
                return None
            halo += own * read.stride / signal.stride
        return halo


def chain(**layers: LayerSpec) -> ChainSpec:
    """`chain(norm=..., act=..., conv=...)`: the layers in this order under these names."""
    return ChainSpec(layers=layers)


def align(ctx: Context, layer: nn.Module, parts: list[Tensor]) -> list[Tensor]:
    """What all branches have in time; the surplus of the faster ones is kept for the next step."""
    held = ctx.recall(layer)
    if held is not None:
        parts = [join_frames(old, new) for old, new in zip(held, parts, strict=True)]
    frames = min(part.shape[2] for part in parts)
    if held is not None or any(part.shape[2] != frames for part in parts):
        ctx.keep(layer, *(part[:, :, frames:] for part in parts))
    return [part[:, :, :frames] for part in parts]


def _agree(given: Mapping[str, Signal], what: Callable[[Signal], Any], told: str) -> None:
    """SpecError unless all branches are equal in `what`."""
    (first_name, first), *others = given.items()
    for name, signal in others:
        if what(signal) != what(first):
            raise SpecError(f"{told}: {first_name!r} gives {first}, but {name!r} gives {signal}")


def _agree_in_frames(given: Mapping[str, int]) -> int:
    if len(set(given.values())) > 1:
        told = ", ".join(f"{name!r} {frames}" for name, frames in given.items())
        raise SpecError(f"branches that meet must give equally many frames, but they give {told}")
    return next(iter(given.values()))


class Residual(nn.Module):
    """`layers` one after the other, plus the shortcut (the input itself if there is none)."""

    def __init__(self, layers: Mapping[str, nn.Module], shortcut: nn.Module | None = None) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.shortcut = shortcut

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        y, own = in_a_row(_flat(self, without="shortcut"), x, ctx)
        short = x if self.shortcut is None else self.shortcut(x, ctx)
        y, short = align(ctx, self, [y, short])
        return y.add_(short) if own and y.dtype == short.dtype else y + short


class ResidualSpec(CompositeSpec):
    """`layers` one after the other, plus `shortcut`."""

    kind: Literal["residual"] = "residual"
    layers: Layers
    shortcut: AnyLayer | None = None

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        yield from _one_after_the_other(self.layers, signal)
        if self.shortcut is not None:
            yield "shortcut", self.shortcut, signal

    def halo(self, signal: Signal) -> Fraction | None:
        halos = [
            ChainSpec(layers=self.layers).halo(signal),
            self.shortcut.halo(signal) if self.shortcut else Fraction(0),
        ]
        return None if None in halos else max(h for h in halos if h is not None)

    @once
    def trace(self, signal: Signal) -> Signal:
        self.trace_children(signal)
        if "shortcut" in self.layers:
            raise SpecError("'shortcut' names the shortcut; choose another name for the layer")
        body, short = self._branches
        ends = {"layers": body.trace(signal), "shortcut": short.trace(signal)}
        _agree(ends, lambda end: end, "both sides of a residual must give the same signal; add or change its shortcut")
        return ends["layers"]

    @once
    def frames(self, signal: Signal, frames: int) -> int:
        body, short = self._branches
        return _agree_in_frames({"layers": body.frames(signal, frames), "shortcut": short.frames(signal, frames)})

    def build(self, signal: Signal) -> Residual:
        children = self.build_children(signal)
        shortcut = children.pop("shortcut", None)
        return Residual(children, shortcut)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.union(branch.reach(signal, frames) for branch in self._branches)

    @cached_property
    def _branches(self) -> tuple[LayerSpec, LayerSpec]:
        short = ChainSpec(layers={} if self.shortcut is None else {"shortcut": self.shortcut})
        return ChainSpec(layers=self.layers), short


class Parallel(nn.Module):
    """Branches that all read the whole input; their channels are joined in order."""

    def __init__(self, branches: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        parts = [branch(x, ctx) for branch in own_layers(self).values()]
        return join_channels(align(ctx, self, parts))


class PerPart(Parallel):
    """Branches that each read their own equal part of the channels; their outputs are joined in order."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        shares = x.chunk(len(self._modules), 1)
        parts = [branch(share, ctx) for branch, share in zip(own_layers(self).values(), shares, strict=True)]
        return join_channels(align(ctx, self, parts))


class ParallelSpec(CompositeSpec):
    """Branches that all read the whole input; their channels are joined in order."""

    kind: Literal["parallel"] = "parallel"
    branches: Layers = Field(min_length=1)

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        for name, branch in self.branches.items():
            yield name, branch, signal

    @once
    def trace(self, signal: Signal) -> Signal:
        given = self.trace_children(signal)
        _agree(given, lambda end: end.with_channels(0), "branches may differ in channels only; make the rest agree")
        first = next(iter(given.values()))
        return first.with_channels(sum(end.channels for end in given.values()))

    def frames(self, signal: Signal, frames: int) -> int:
        return _agree_in_frames(self.frames_of_children(signal, dict.fromkeys(self.branches, frames)))

    def build(self, signal: Signal) -> nn.Module:
        return Parallel(self.build_children(signal))

    def reach(self, signal: Signal, frames: int) -> Reach:
        return reach.union(branch.reach(read, frames) for _, branch, read in self.inputs(signal))


class PerPartSpec(ParallelSpec):
    """Branches that each read their own equal part of the channels; their outputs are joined in order."""

    kind: Literal["per_part"] = "per_part"  # type: ignore[assignment]

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        share, rest = divmod(signal.channels, len(self.branches))
        if rest:
            count = len(self.branches)
            raise SpecError(f"{signal.channels} channels cannot be shared by {count} branches; make them a multiple")
        for name, branch in self.branches.items():
            yield name, branch, signal.with_channels(share)

    def build(self, signal: Signal) -> PerPart:
        return PerPart(self.build_children(signal))


def parallel(**branches: LayerSpec) -> ParallelSpec:
    """Every branch reads all channels."""
    return ParallelSpec(branches=branches)


def per_part(**branches: LayerSpec) -> PerPartSpec:
    """Every branch reads its own equal part of the channels."""
    return PerPartSpec(branches=branches)


class AfterLead(nn.Module):
    """`layers` for the groups; the lead frames go through `on_lead`, or pass by as they are."""

    def __init__(self, layers: Mapping[str, nn.Module], lead: int, on_lead: nn.Module | None = None) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.lead = lead
        self.on_lead = on_lead

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        lead, rest = x[:, :, :0], x
        if self.lead and x.shape[2] and ctx.recall(self) is None:
            ctx.keep(self, lead)  # the mark that the lead has passed
            lead, rest = x[:, :, : self.lead], x[:, :, self.lead :]
            if self.on_lead is not None:
                lead = self.on_lead(lead, ctx)
        for name, layer in own_layers(self).items():
            if name != "on_lead":
                rest = layer(rest, ctx)
        return join_frames(lead, rest) if lead.shape[2] else rest


class AfterLeadSpec(CompositeSpec):
    """`layers` for the groups; the lead frames go through `on_lead`, or pass by as they are."""

    kind: Literal["after_lead"] = "after_lead"
    layers: Layers
    on_lead: AnyLayer | None = None

    def inputs(self, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
        yield from _one_after_the_other(self.layers, signal.with_time(lead=0))
        if self.on_lead is not None:
            yield "on_lead", self.on_lead, signal.with_time(lead=0, group=1)

    def halo(self, signal: Signal) -> Fraction | None:
        lead, rest = (branch.halo(read) for branch, read in self._branches(signal))
        return None if lead is None or rest is None else max(lead, rest)

    @once
    def trace(self, signal: Signal) -> Signal:
        self.trace_children(signal)
        if taken := {"on_lead", "lead"} & self.layers.keys():
            raise SpecError(f"{min(taken)!r} names the lead's own; choose another name for the layer")
        lead, rest = (branch.trace(read) for branch, read in self._branches(signal))
        if signal.lead:
            _agree(
                {"lead": lead, "groups": rest},
                lambda end: end.with_time(lead=0, group=1),
                "lead and groups must have equal channels and stride; give or change on_lead",
            )
        if lead.frames(1) != 1:
            raise SpecError(f"on_lead makes {lead.frames(1)} frames of one; it must keep the number of frames")
        return rest.with_time(lead=signal.lead)

    def frames(self, signal: Signal, frames: int) -> int:
        _, (body, read) = self._branches(signal)
        return signal.lead + body.frames(read, frames - signal.lead) if frames >= signal.lead else frames

    def build(self, signal: Signal) -> AfterLead:
        children = self.build_children(signal)
        on_lead = children.pop("on_lead", None)
        return AfterLead(children, signal.lead, on_lead)

    def reach(self, signal: Signal, frames: int) -> Reach:
        (on_lead, lone), (body, read) = self._branches(signal)
        return reach.beside(on_lead.reach(lone, signal.lead), body.reach(read, frames - signal.lead))

    def _branches(self, signal: Signal) -> tuple[tuple[LayerSpec, Signal], tuple[LayerSpec, Signal]]:
        on_lead = ChainSpec(layers={} if self.on_lead is None else {"on_lead": self.on_lead})
        return (on_lead, signal.with_time(lead=0, group=1)), (ChainSpec(layers=self.layers), signal.with_time(lead=0))
