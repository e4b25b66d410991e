"""Where tiles and chunks are read, what each gives, what of it is kept, and how it fades in: whole numbers alone.

Known before anything runs. Nothing here knows a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from vvae.errors import TileError
from vvae.tiling.rules import Compression, Direction, SpaceTiles, Tiles, TilingRule, TimeTiles, Window

Gives: TypeAlias = Callable[[int], int]
"""How many samples come of so many that are read, along one axis."""
Join: TypeAlias = Literal["ramp", "mean"]


@dataclass(frozen=True)
class Span:
    """One window along an axis.

    It reads the samples `read` and gives `gives`. Of these, `keep` from number `skip` on are laid from sample `at` of
    the result on. The first `fade` that it gives are blended with the last `fade` that the window before it gave.
    """

    read: Window
    gives: int
    skip: int
    keep: int
    at: int
    fade: int = 0


@dataclass(frozen=True)
class Axis:
    """The windows along one axis, from `reads` samples to `length` of them."""

    reads: int
    length: int
    spans: tuple[Span, ...]
    join: Join = "ramp"

    def overhang(self, number: int) -> int:
        """The last samples of a window that the next one blends with."""
        return self.spans[number + 1].fade if number + 1 < len(self.spans) else 0

    @property
    def borders(self) -> tuple[int, ...]:
        """Where in the result a window ends and the next one begins."""
        return tuple(span.at for span in self.spans[1:])


@dataclass(frozen=True)
class TilePlan:
    """What is read and laid where. `time` is None where each tile has all frames, however many come of them.

    `aligned`: only samples that stand for the same place and time are joined. `exact`: what comes out is what the
    whole clip gives. Sizes are frames, height, width (in positions and cells for latents).
    """

    time: Axis | None
    rows: Axis
    columns: Axis
    aligned: bool = True
    exact: bool = False

    @property
    def tiles(self) -> int:
        """How many tiles run, in all chunks."""
        return (len(self.time.spans) if self.time else 1) * len(self.rows.spans) * len(self.columns.spans)

    @property
    def whole(self) -> bool:
        """Whether the clip passes in one call."""
        return self.tiles == 1

    def check(self, size: Sequence[int]) -> None:
        """TileError unless a clip of that size is what the plan was made for."""
        axes = (self.time, self.rows, self.columns)
        wanted = [axis.reads if axis else found for axis, found in zip(axes, size, strict=True)]
        if list(size) != wanted:
            raise TileError(
                f"a plan for {tuple(wanted)} (frames, height, width) does not fit {tuple(size)}; make one for that size"
            )

    def to_dict(self) -> dict[str, Any]:
        """What was done, for a record beside the result."""
        axes = {"chunks": self.time, "rows": self.rows, "columns": self.columns}
        windows = {name: [list(span.read) for span in axis.spans] for name, axis in axes.items() if axis}
        return {"aligned": self.aligned, "exact": self.exact, **windows}


def whole_axis(reads: int, gives: Gives) -> Axis:
    """An axis in one window."""
    length = gives(reads)
    return Axis(reads, length, (Span((0, reads), length, 0, length, 0),))


def time_axis(rule: TimeTiles, reads: int, gives: Gives) -> Axis:
    """The chunks of a clip by the rule of a release.

    Raises:
        TileError: a chunk that gives no more frames than it shares.
    """
    windows = rule.windows(reads)
    given = [gives(end - start) for start, end in windows]
    shared = rule.shared if len(windows) > 1 else 0
    if rule.join != "drop" and any(count < shared for count in given):
        raise TileError(f"chunks that give {min(given)} cannot share {shared}; take longer ones, or share fewer")
    spans: list[Span] = []
    at = 0
    for number, (window, count) in enumerate(zip(windows, given, strict=True)):
        begins = number > 0 and shared > 0
        if rule.join == "drop":
            skip = min(shared, count) if begins else 0
            spans.append(Span(window, count, skip, count - skip, at))
            at += count - skip
        else:
            at -= shared if begins else 0
            spans.append(Span(window, count, 0, count, at, fade=shared if begins else 0))
            at += count
    return Axis(reads, at, tuple(spans), "mean" if rule.join == "mean" else "ramp")


def space_axis(rule: SpaceTiles, reads: int, gives: Gives) -> Axis:
    """The tiles along one side by the rule of a release."""
    windows = rule.windows(reads)
    given = [gives(end - start) for start, end in windows]
    fades = [0, *(min(rule.blend, *both) for both in pairwise(given))]
    spans: list[Span] = []
    at = 0
    for window, count, fade in zip(windows, given, fades, strict=True):
        keep = min(rule.keep, count)
        spans.append(Span(window, count, 0, keep, at, fade))
        at += keep
    return Axis(reads, at, tuple(spans))


def laid_out(
    rule: Tiles, size: tuple[int, int, int], gives: tuple[Gives, Gives, Gives], *, aligned: bool = True
) -> TilePlan:
    """One direction of a rule for a clip of that size (frames, height, width); in one window where it does not apply.

    `gives`: how many frames, rows and columns come of so many.
    """
    cut = rule.applies(*size)
    time = time_axis(rule.time, size[0], gives[0]) if cut and rule.time else whole_axis(size[0], gives[0])
    rows, columns = (
        space_axis(rule.space, side, of) if cut and rule.space else whole_axis(side, of)
        for side, of in zip(size[1:], gives[1:], strict=True)
    )
    return TilePlan(time, rows, columns, aligned=aligned)


def tile_plan(rule: TilingRule, direction: Direction, size: tuple[int, int, int], by: Compression) -> TilePlan:
    """A rule for any encoder or decoder that compresses so, and a clip (latents) of that size.

    Raises:
        TileError: a size that is no whole groups and cells.
    """
    tiles = rule.encode if direction == "encode" else rule.decode
    in_time, in_space = by.gives(direction)
    for count, gives in zip(size, (in_time, in_space, in_space), strict=True):
        gives(count)  # refuses the clip as a whole, before a chunk or tile of it
    aligned = not tiles.faults(direction, by)
    return laid_out(tiles, size, (in_time, in_space, in_space), aligned=aligned)


def halo_axis(side: int, core: int, margin: int, *, cell: int, read: Fraction, given: Fraction) -> Axis:
    """Tiles of which `core` pixels are kept, read with `margin` pixels more on each side; cut off at the border.

    All in pixels of the clip: `side` is its length, `core` and `margin` are multiples of `cell`. What is read has cells
    of `read` pixels, what is given of `given`.
    """
    end = side // given * given  # what is left over of a broken cell gives nothing
    spans: list[Span] = []
    for start in range(0, int(end), core):
        stop = min(start + core, int(end))
        # the window ends where the clip does, or inside it at a whole cell
        first, last = max(start - margin, 0), min(-(-stop // cell) * cell + margin, side)
        window = int(first // read), int(last // read)
        gives, skip, keep = (int(n // given) for n in (last - first, start - first, stop - start))
        spans.append(Span(window, gives, skip, keep, int(start // given)))
    return Axis(int(side // read), int(end // given), tuple(spans))


def reach_axis(frames: int, groups: int, around: tuple[int, int], *, read: int, given: int, gives: Gives) -> Axis:
    """Chunks of which `groups` groups are kept, read with those `around` them; cut off at the ends of the clip.

    `read` and `given`: frames of a group in what is read and in what comes of it.
    """
    total = -(-frames // read)
    spans: list[Span] = []
    for start in range(0, total, groups):
        stop, first = min(start + groups, total), max(start - around[0], 0)
        last = min((stop + around[1]) * read, frames)
        count, skip = gives(last - first * read), (start - first) * given
        keep = min((stop - start) * given, count - skip)
        spans.append(Span((first * read, last), count, skip, keep, start * given))
    return Axis(frames, gives(frames), tuple(spans))
