"""Which exact way through a model fits into the memory there is: predicted from the spec, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import TileError, VideoError
from vvae.gaussian import DiagonalGaussian
from vvae.tiling.budget import parse_bytes, told, usable
from vvae.tiling.need import Asked, cost, needed
from vvae.tiling.presets import PresetWay, fitting, preset
from vvae.tiling.rules import Direction, TilingRule
from vvae.tiling.sections import groups_around, sections
from vvae.tiling.way import Way
from vvae.whole_clips import Content

BOTH: tuple[Direction, Direction] = ("encode", "decode")
MOST_GROUPS = 16
_USUAL_FRAMES = 8  # of a step without a budget: enough to keep a processor busy
_MOST_TILES = 4  # along the longer side: smaller tiles read much more than they keep


@dataclass(frozen=True)
class Plan:
    """How clips go through a model, and the bytes that takes. All exact plans of a model give the same.

    >>> chosen = plan(model.spec, (17, 256, 256), "2GiB")  # doctest: +SKIP
    >>> video = chosen.decode(model, chosen.encode(model, video).mode())  # doctest: +SKIP
    """

    ways: tuple[tuple[Direction, Way | PresetWay], ...]
    needs: int | None = None
    asked: Asked | None = field(default=None, compare=False, repr=False)

    @property
    def exact(self) -> bool:
        """Whether what comes out is what the model gives for the whole clip."""
        return all(way.exact for _, way in self.ways)

    def way(self, direction: Direction) -> Way | PresetWay:
        """The way in that direction.

        Raises:
            VideoError: the plan is for the other one.
        """
        found = dict(self.ways)
        if direction not in found:
            raise VideoError(f"a plan to {' and '.join(found)} does not say how to {direction}; ask for that direction")
        return found[direction]

    def encode(self, model: VideoAutoencoder, x: Tensor) -> DiagonalGaussian:
        """The posterior of clips `b c t h w`.

        Raises:
            VideoError: a GPU's memory does not suffice all the same; says which plan needs less.
        """
        with self.guard():
            return self.way("encode").encoded(model, x)

    def decode(
        self,
        model: VideoAutoencoder,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
    ) -> Tensor:
        """The clips of latents; arguments as of `model.decode`, errors as of `encode`."""
        with self.guard():
            return self.way("decode").decoded(model, latents, frames=frames, size=size, content=content)

    def to_dict(self) -> dict[str, Any]:
        """For a record beside the result."""
        return {"exact": self.exact, "needs": self.needs, **{name: way.to_dict() for name, way in self.ways}}

    def __str__(self) -> str:
        needs = [] if self.needs is None else [f"needs {told(self.needs)}"]
        return "; ".join([*(f"{direction}: {way}" for direction, way in self.ways), *needs, *["exact"] * self.exact])

    @contextmanager
    def guard(self) -> Iterator[None]:
        """VideoError in place of a GPU's complaint that its memory is full."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise VideoError(f"{self._place} has too little memory for {self}; {self._less()}") from None

    @property
    def _place(self) -> str:
        return "the device" if self.asked is None else f"device {self.asked.device}"

    def _less(self) -> str:
        """What needs less than this plan."""
        if self.asked is None or self.needs is None:
            return "give a budget of memory, so that smaller steps are taken"
        try:
            return f"this one would fit a budget of {told(self.needs - 1)}: {_chosen(self.asked, self.needs - 1)}"
        except VideoError as error:
            return str(error)


def steps(encode: int, decode: int) -> Plan:
    """Streams in steps of so many groups, whatever they need."""
    return Plan((("encode", Way(encode)), ("decode", Way(decode))))


def usual_plan(spec: VideoAutoencoderSpec) -> Plan:
    """A stream in steps of about 8 frames, whatever it needs; all frames at once where a model cannot stream."""
    groups = _usual_groups(spec)
    return Plan(tuple((each, Way(None if spec.stream_limit(each) else groups)) for each in BOTH))


def plan(
    spec: VideoAutoencoderSpec,
    size: tuple[int | None, int, int],
    budget: str | int | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch: int = 1,
    directions: Sequence[Direction] = BOTH,
    files: bool = False,
) -> Plan:
    """The most efficient exact way that stays within `budget` (bytes, or as "8GiB"): of the process, or of the GPU.

    `size`: frames, height and width of `batch` clips. Ways are all frames at once, a stream in longer or shorter steps,
    some clips of the batch at a time, and last tiles with all that reaches into them. All of them give the same.
    Without a budget it is what the system has left, less a margin. `files`: clips come from files and go to files in
    steps; frames may then be None.

    Raises:
        VideoError: no exact way fits. Says the least that one needs, and which published tilings, another function than
            the model, would fit.
    """
    asked = Asked(spec, size, dtype, str(device), batch, tuple(directions), files)
    return _chosen(asked, _in_bytes(budget, device), _usual_groups(spec) if budget is None else MOST_GROUPS)


def within(
    chosen: Plan,
    spec: VideoAutoencoderSpec,
    size: tuple[int | None, int, int],
    budget: str | int | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch: int = 1,
    files: bool = False,
) -> Plan:
    """A plan that somebody chose (`exact_plan`, `preset_plan`), with the bytes it needs; arguments as of `plan`.

    Raises:
        VideoError: it needs more than the budget, or than there is.
    """
    asked = Asked(spec, size, dtype, str(device), batch, tuple(direction for direction, _ in chosen.ways), files)
    found = [(needed(asked, direction, _rule(way)) + _beside(asked, direction), way) for direction, way in chosen.ways]
    (needs, way), there = max(found, key=lambda each: each[0]), _in_bytes(budget, device)
    if there is not None and needs > there:
        raise VideoError(
            f"{spec.name} needs {told(needs)} for {asked} {way}, but there are {told(there)}; give more memory, a "
            f"smaller size, or smaller tiles and chunks"
        )
    return replace(chosen, needs=needs, asked=asked)


def _rule(way: Way | PresetWay) -> Way | TilingRule:
    return way if isinstance(way, Way) else preset(way.name)


def _in_bytes(budget: str | int | None, device: torch.device | str) -> int | None:
    if budget is None:
        return usable(device)
    return parse_bytes(budget) if isinstance(budget, str) else budget


def _usual_groups(spec: VideoAutoencoderSpec) -> int:
    return max(1, _USUAL_FRAMES // spec.chunks("encode").group)


def _chosen(asked: Asked, budget: int | None, most: int = MOST_GROUPS) -> Plan:
    found = [(direction, *_first_fit(asked, direction, most, budget)) for direction in asked.directions]
    direction, way, needs = max(found, key=lambda each: each[2])
    if budget is not None and needs > budget:
        raise VideoError(_refusal(asked, direction, way, needs, budget))
    return Plan(tuple((direction, way) for direction, way, _ in found), needs, asked)


def _beside(asked: Asked, direction: Direction) -> int:
    """The state of the stream in the other direction, where both run side by side."""
    others: list[Direction] = [other for other in asked.directions if other != direction and asked.files]
    return sum(cost(asked, other, Way(1)).state for other in others if asked.spec.stream_limit(other) is None)


def _first_fit(asked: Asked, direction: Direction, most: int, budget: int | None) -> tuple[Way, int]:
    """The first of the ways that fits, or the one that needs least, and what it needs."""
    beside, tried = _beside(asked, direction), []
    for way in _ways(asked, direction, most):
        need = needed(asked, direction, way) + beside
        if budget is None or need <= budget:
            return way, need
        tried.append((way, need))
    return min(tried, key=lambda each: each[1])


def _ways(asked: Asked, direction: Direction, most: int) -> Iterator[Way]:
    """All exact ways, the most efficient first."""
    streams, in_chunks = asked.spec.stream_limit(direction) is None, _in_chunks(asked, direction)
    lengths = [groups for groups in _halves(most) if in_chunks and _is_cut(asked, groups)]
    for clips in _halves(asked.batch):
        own = None if clips == asked.batch else clips
        if not (asked.files and streams):
            yield Way(clips=own)
        yield from (Way(groups, own) for groups in lengths)
    few = 1 if asked.batch > 1 else None
    for tile in _tiles(asked, direction):
        yield Way(1 if in_chunks else None, few, tile)


def _in_chunks(asked: Asked, direction: Direction) -> bool:
    """Whether clips can go in steps; those that are held also where a model does not stream, but sees finitely far."""
    if asked.spec.framing.piece:  # one after the other in any case
        return asked.files
    streams = asked.spec.stream_limit(direction) is None
    if streams or asked.files:
        return streams
    try:
        groups_around(asked.spec, direction)
    except TileError:
        return False
    return True


def _halves(count: int) -> list[int]:
    """The number and its halves down to 1."""
    return [count >> n for n in range(count.bit_length())]


def _is_cut(asked: Asked, groups: int) -> bool:
    """Whether a stream in such steps has more than one; of files it may have any number."""
    frames = asked.size[0]
    return asked.files or frames is None or frames > asked.spec.chunks("encode").frames(groups)


def _tiles(asked: Asked, direction: Direction) -> list[int]:
    """Sides of tiles in pixels, larger ones first; none where a tile would read all there is."""
    try:
        tiled = [part for part in sections(asked.spec, direction) if part.tiled]
    except TileError:
        return []
    cell, around, longer = math.lcm(*(part.cell for part in tiled)), 2 * tiled[0].margin, max(asked.size[1:])
    sides = (-(-longer // (count * cell)) * cell for count in range(2, _MOST_TILES + 1))
    return list(dict.fromkeys(side for side in sides if side + around < longer))


def _refusal(asked: Asked, direction: Direction, way: Way, needs: int, budget: int) -> str:
    """What to do where nothing fits."""
    return (
        f"{asked.spec.name} needs {told(needs)} to {direction} {asked} ({way}; no exact way needs less), but there are "
        f"{told(budget)}; give more memory or a smaller size{_inexact(asked, direction, budget)}"
    )


def _inexact(asked: Asked, direction: Direction, budget: int) -> str:
    """The published tilings that fit: another function than the model."""
    found = []
    for name in fitting(asked.spec) if asked.size[0] is not None else ():
        need = needed(asked, direction, preset(name))
        if need <= budget:
            found.append(f"{name} ({told(need)})")
    return f", or, not exact, a published tiling that fits: {', '.join(found)}" if found else ""
