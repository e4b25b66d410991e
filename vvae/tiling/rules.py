"""The rules by which releases cut big clips, as data: which tiles and chunks, and how what comes of them is joined.

A rule counts in two units. What is read: frames and pixels when encoding, latent positions and cells when decoding.
What is given: the other way round. Nothing here knows a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vvae.errors import SpecError, TileError
from vvae.spec import Spec
from vvae.tiling.units import Cells, Frames, Pixels, Positions, Unit, checked

Window: TypeAlias = tuple[int, int]
"""First sample and the one behind the last."""
Direction: TypeAlias = Literal["encode", "decode"]


@dataclass(frozen=True)
class Compression:
    """How a model compresses: `cell` x `cell` pixels to a cell, `group` frames to a position but the first `lead`."""

    cell: int = 1
    group: int = 1
    lead: int = 0

    def pixels(self, cells: Cells) -> Pixels:
        """As many pixels as so many cells are."""
        return Pixels(self.cell * checked(cells, Cells, "cells"))

    def cells(self, pixels: Pixels) -> Cells:
        """As many cells as so many pixels are; TileError where one would be broken."""
        return Cells(self._whole(checked(pixels, Pixels, "pixels"), 0, self.cell, "pixels"))

    def frames(self, positions: Positions) -> Frames:
        """As many frames as the first so many positions are."""
        count = checked(positions, Positions, "positions")
        return Frames(count if count < self.lead else self.lead + (count - self.lead) * self.group)

    def positions(self, frames: Frames) -> Positions:
        """As many positions as the first so many frames are; TileError where a group would be broken."""
        count = checked(frames, Frames, "frames")
        return Positions(self.lead + self._whole(count, self.lead, self.group, "frames"))

    def expect(self, found: Any, wanted: type[Unit], name: str) -> int:
        """How many of `wanted` that is; TileError for anything else, which says what it is here."""
        try:
            return checked(found, wanted, name)
        except TileError as error:
            known: dict[type, Callable[[Any], Unit]] = {Cells: self.pixels, Positions: self.frames}
            same = known[type(found)](found) if type(found) in known else None
            told = f"; here {found!r} is {same!r}" if type(same) is wanted else ""
            raise TileError(f"{error}{told}") from None

    def gives(self, direction: Direction) -> tuple[Callable[[int], int], Callable[[int], int]]:
        """How many samples come of so many, in time and along a side; TileError for a broken group or cell."""
        if direction == "encode":
            return lambda n: int(self.positions(Frames(n))), lambda n: int(self.cells(Pixels(n)))
        return lambda n: int(self.frames(Positions(n))), lambda n: int(self.pixels(Cells(n)))

    @staticmethod
    def _whole(count: int, first: int, size: int, told: str) -> int:
        """The groups of `size` behind the `first`."""
        groups, rest = divmod(count - first, size)
        if rest or groups < 0:
            low = first + max(groups, 0) * size
            near = " or ".join(str(n) for n in sorted({low, low + size}) if n)
            legal = f"{first} + a multiple of {size}" if first else f"a multiple of {size}"
            raise TileError(f"{count} {told} are broken off; {legal} is legal, as {near}")
        return groups


class TilingData(Spec):
    """A piece of a rule; numbers that cannot be are a TileError."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except SpecError as error:
            raise TileError(str(error)) from None


class TimeTiles(TilingData):
    """Chunks of `window` that share `overlap` with the one before them; both in the unit that is read.

    Of what a chunk gives, the first `shared` stand for the same time as the last of the chunk before it. "drop" leaves
    them out; "ramp" blends them with those before, linearly; "mean" takes the mean of all chunks that give a frame.
    """

    window: PositiveInt
    overlap: NonNegativeInt = 0
    shared: NonNegativeInt = 0
    join: Literal["drop", "mean", "ramp"] = "drop"

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.overlap >= self.window:
            raise SpecError(f"chunks of {self.window} that share {self.overlap} never move on; share fewer")
        return self

    def windows(self, length: int) -> list[Window]:
        """The chunks of a clip; each holds more than it shares, the last one perhaps less than `window`.

        >>> TimeTiles(window=9, overlap=1, shared=1).windows(20)
        [(0, 9), (8, 17), (16, 20)]
        """
        starts = range(0, max(length - self.overlap, 1), self.window - self.overlap)
        return [(start, min(start + self.window, length)) for start in starts]

    def fault(self, direction: Direction, by: Compression) -> str | None:
        """Why chunks would not meet where the clip goes on; None: they do."""
        step = self.window - self.overlap
        if direction == "decode":
            wanted = by.lead + (self.overlap - by.lead) * by.group
            if self.overlap < by.lead or self.shared != wanted:
                return (
                    f"chunks share {self.overlap} latent positions, so {max(wanted, by.lead)} frames (at least "
                    f"{by.lead} position), but the rule says {self.shared}"
                )
            return None
        if step % by.group or (self.overlap - by.lead) % by.group:
            return (
                f"chunks of {self.window} frames that share {self.overlap} break groups of {by.group}; share {by.lead} "
                f"+ whole groups, and let each chunk bring whole groups of its own"
            )
        wanted = by.lead + (self.overlap - by.lead) // by.group
        if self.shared != wanted:
            return f"chunks share {self.overlap} frames, so {wanted} latent positions, but the rule says {self.shared}"
        return None


class SpaceTiles(TilingData):
    """Square tiles of `window`, one every `stride`, cut off at the border; both in the unit that is read.

    Of what a tile gives, the first `blend` rows (columns) are blended linearly with the last of the tile above (to the
    left), and the first `keep` rows and columns remain. The tiles come row by row, and the neighbour that is
    blended with has been blended itself. A tile may lie wholly inside the one before it.
    """

    window: PositiveInt
    stride: PositiveInt
    blend: NonNegativeInt = 0
    keep: PositiveInt

    @model_validator(mode="after")
    def _without_gaps(self) -> Self:
        if self.stride > self.window:
            raise SpecError(f"tiles of {self.window}, one every {self.stride}, leave gaps; take a stride as small")
        return self

    def windows(self, length: int) -> list[Window]:
        """The tiles along one side.

        >>> SpaceTiles(window=32, stride=24, blend=1, keep=3).windows(56)
        [(0, 32), (24, 56), (48, 56)]
        """
        return _every(self.stride, self.window, length)

    def fault(self, direction: Direction, by: Compression) -> str | None:
        """Why unlike rows would be joined; None: they all stand for the same place."""
        more, less = (1, by.cell) if direction == "encode" else (by.cell, 1)
        found = tuple(less * given for given in (self.keep, self.blend))
        wanted = tuple(more * read for read in (self.stride, self.window - self.stride))
        if found != wanted or self.window % less or self.stride % less:
            return (
                f"tiles of {self.window}, one every {self.stride}, keep {self.keep} and blend {self.blend}; at cells "
                f"of {by.cell} pixels they must keep {wanted[0] / less:g} and blend {wanted[1] / less:g}, all whole"
            )
        return None


def _every(stride: int, window: int, length: int) -> list[Window]:
    return [(start, min(start + window, length)) for start in range(0, length, stride)]


class ContentTiles(TilingData):
    """Tiles of a content image, in pixels; what comes of them stays in tiles.

    Each feature is blended with that of the tile above and to the left as tiles of a clip are, but over
    int(length / (1 + overlap) * overlap) of its rows or columns, `length` being that of the neighbour's feature.
    """

    window: PositiveInt
    stride: PositiveInt
    overlap: float = Field(ge=0)

    def windows(self, length: int) -> list[Window]:
        """The tiles along one side."""
        return _every(self.stride, self.window, length)

    def blend(self, length: int) -> int:
        """Rows or columns over which a feature is blended with a neighbour of that length."""
        return int(length / (1 + self.overlap) * self.overlap)


class Tiles(TilingData):
    """One direction of a rule: chunks in time, and tiles in space inside each chunk; None: that axis stays whole.

    The rule applies to clips of which one side (frames, height, width) is greater than its limit in `above`; None:
    that side is not looked at.
    """

    time: TimeTiles | None = None
    space: SpaceTiles | None = None
    above: tuple[NonNegativeInt | None, NonNegativeInt | None, NonNegativeInt | None] = (0, 0, 0)

    def applies(self, frames: int, height: int, width: int) -> bool:
        """Whether a clip of that size is cut at all."""
        sides = zip((frames, height, width), self.above, strict=True)
        return any(limit is not None and side > limit for side, limit in sides)

    def faults(self, direction: Direction, by: Compression) -> list[str]:
        """What would be joined wrongly, in a phrase each."""
        found = [part.fault(direction, by) for part in (self.time, self.space) if part is not None]
        return [f"{direction}: {fault}" for fault in found if fault]


class TilingRule(TilingData):
    """How a release encodes and decodes what is too long or too big for it. Another function than the whole clip."""

    encode: Tiles = Tiles()
    decode: Tiles = Tiles()
    content: ContentTiles | None = None

    @property
    def in_time(self) -> bool:
        """Whether clips are cut in time."""
        return self.encode.time is not None or self.decode.time is not None

    def faults(self, by: Compression) -> list[str]:
        """What would be joined wrongly, in a phrase each; nothing: the rule is aligned for such a model."""
        return [*self.encode.faults("encode", by), *self.decode.faults("decode", by)]


def overlapping(sample: int, latent: int, overlap: float) -> tuple[SpaceTiles, SpaceTiles]:
    """Encoding and decoding tiles of `sample` pixels and `latent` cells, of which the share `overlap` is in common.

    Source: `tiled_encode`, `tiled_decode` of diffusers' `AutoencoderKL` and the code that took them over.
    """
    in_pixels, in_cells = int(sample * overlap), int(latent * overlap)
    encode = SpaceTiles(window=sample, stride=int(sample * (1 - overlap)), blend=in_cells, keep=latent - in_cells)
    decode = SpaceTiles(window=latent, stride=int(latent * (1 - overlap)), blend=in_pixels, keep=sample - in_pixels)
    return encode, decode


def extended(sample: int, latent: int, overlap: float) -> tuple[SpaceTiles, SpaceTiles]:
    """Encoding and decoding tiles, one every `sample` pixels and `latent` cells, larger than that by `overlap`.

    Source: `ReducioVAE`.
    """
    encode = SpaceTiles(window=int(sample * (1 + overlap)), stride=sample, blend=int(latent * overlap), keep=latent)
    decode = SpaceTiles(window=int(latent * (1 + overlap)), stride=latent, blend=int(sample * overlap), keep=sample)
    return encode, decode


def blended(
    by: Compression,
    tile: Pixels | None = None,
    overlap: Pixels | None = None,
    *,
    chunk: Frames | None = None,
    shared: Frames | None = None,
    join: Literal["drop", "mean", "ramp"] = "ramp",
) -> TilingRule:
    """Aligned tiles and chunks for any model that compresses so, both directions alike.

    Tiles of `tile` pixels blend over the `overlap` that they share; chunks of `chunk` frames share `shared` (the lead
    alone if None), joined as `join` says. None: frames, or the clip, stay whole.

    >>> rule = blended(Compression(cell=8, group=4, lead=1), Pixels(256), Pixels(64), chunk=Frames(17))
    >>> rule.decode.space.window, rule.decode.time.window
    (32, 5)

    Raises:
        TileError: another unit, broken cells or groups, or tiles that never move on. Says what is legal.
    """
    asked: dict[str, tuple[Any, type[Unit]]] = {"tile": (tile, Pixels), "overlap": (overlap, Pixels)}
    asked.update(chunk=(chunk, Frames), shared=(shared, Frames))
    for name, (given, unit) in asked.items():
        if given is not None:
            by.expect(given, unit, name)
    encode: dict[str, Any] = {}
    decode: dict[str, Any] = {}
    if tile is not None:
        common = Pixels(0) if overlap is None else overlap
        cells, of_them = by.cells(tile), by.cells(common)
        if of_them >= cells:
            most = by.pixels(Cells(max(int(cells) - 1, 0)))
            raise TileError(f"tiles of {tile} that share {common} never move on; share at most {most}")
        pixels_on, cells_on = int(tile - common), int(cells - of_them)
        encode["space"] = SpaceTiles(window=int(tile), stride=pixels_on, blend=int(of_them), keep=cells_on)
        decode["space"] = SpaceTiles(window=int(cells), stride=cells_on, blend=int(common), keep=pixels_on)
    if chunk is not None:
        both = Frames(by.lead) if shared is None else shared
        positions, of_both = by.positions(chunk), by.positions(both)
        encode["time"] = TimeTiles(window=int(chunk), overlap=int(both), shared=int(of_both), join=join)
        decode["time"] = TimeTiles(window=int(positions), overlap=int(of_both), shared=int(both), join=join)
    return TilingRule(encode=Tiles(**encode), decode=Tiles(**decode))
