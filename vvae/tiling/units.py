"""Numbers that say what they count: pixels, latent cells, frames, latent positions. Unlike ones never mix."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, TypeVar

from vvae.errors import TileError


class Unit:
    """A whole number of at least 0 of one thing. Adds to, and compares with, its like alone.

    >>> Pixels(256) + 2 * Pixels(56)
    Pixels(368)

    Raises:
        TileError: no such number, or another unit where this one is meant.
    """

    __slots__ = ("count",)
    told: ClassVar[str] = ""
    converts: ClassVar[str] = ""
    count: int

    def __init__(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise TileError(f"{count!r} is no number of {self.told}; give a whole number of at least 0")
        object.__setattr__(self, "count", count)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} is frozen")

    def __add__(self, other: object) -> Self:
        return type(self)(self.count + self._like(other, "+"))

    def __sub__(self, other: object) -> Self:
        return type(self)(self.count - self._like(other, "-"))

    def __mul__(self, times: int) -> Self:
        return type(self)(self.count * times)

    __rmul__ = __mul__

    def __lt__(self, other: object) -> bool:
        return self.count < self._like(other, "<")

    def __le__(self, other: object) -> bool:
        return self.count <= self._like(other, "<=")

    def __gt__(self, other: object) -> bool:
        return self.count > self._like(other, ">")

    def __ge__(self, other: object) -> bool:
        return self.count >= self._like(other, ">=")

    def __eq__(self, other: object) -> bool:
        return self.count == self._like(other, "==")

    def __hash__(self) -> int:
        return hash((type(self), self.count))

    def __int__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.count})"

    def __str__(self) -> str:
        return f"{self.count} {self.told}"

    def _like(self, other: object, sign: str) -> int:
        if type(other) is not type(self):
            raise TileError(f"{self!r} {sign} {other!r}: {mixed(other, type(self))}")
        return other.count


class Pixels(Unit):
    """Pixels of the clip along a side."""

    told, converts = "pixels", "Compression.pixels(cells)"


class Cells(Unit):
    """Cells of the latents along a side."""

    told, converts = "latent cells", "Compression.cells(pixels)"


class Frames(Unit):
    """Frames of the clip."""

    told, converts = "frames", "Compression.frames(positions)"


class Positions(Unit):
    """Positions of the latents in time."""

    told, converts = "latent positions", "Compression.positions(frames)"


U = TypeVar("U", bound=Unit)
_ALIKE: dict[type[Unit], type[Unit]] = {Pixels: Cells, Cells: Pixels, Frames: Positions, Positions: Frames}


def mixed(found: object, wanted: type[Unit]) -> str:
    """What is wrong with `found` where `wanted` is meant, and how the one becomes the other."""
    if not isinstance(found, Unit):
        return f"{found!r} says no unit where {wanted.told} are meant; give {wanted.__name__}(...)"
    if _ALIKE[wanted] is type(found):
        return f"{found.told} where {wanted.told} are meant; convert them: {wanted.converts}"
    return f"{found.told} where {wanted.told} are meant; the one is in time, the other in space"


def checked(found: Any, wanted: type[U], name: str) -> int:
    """How many of `wanted` that is.

    Raises:
        TileError: another unit, or none.
    """
    if type(found) is not wanted:
        raise TileError(f"{name}={found!r}: {mixed(found, wanted)}")
    return int(found)
