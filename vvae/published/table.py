"""The names of a released checkpoint against one's own, as data: a table is a list of `Rename` rows.

A row is read from own to published, and the first row whose own name fits is taken. Since no published name may be made
twice, the way back is known: a table can be used in both directions, and exports without the released file.

    Rename("head.2.", "head.conv.")                                             # everything below a prefix
    Rename("down.{i}.conv1.weight", "level{i}.conv_a.weight")                   # {i}: a part of a name without a dot
    Rename("*.residual.0.gamma", "*.norm_a.weight", "view", shape=(0, 1, 1, 1)) # *: anything; (c, 1, 1, 1) <-> (c)
    Rename(("q.weight", "k.weight", "v.weight"), "to_qkv.weight", "cat")        # three (c, c) <-> one (3c, c)
    Rename("loss.", None)                                                       # kept beside the model, and exported
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from vvae.errors import SpecError

_HOLE = re.compile(r"(\{[a-z]\w*\}|\*)")


@dataclass(frozen=True)
class Rename:
    """One row: the published name (several for "cat"), the own name (None: an extra), and what is done to the tensor.

    "same" keeps the shape; "view" reshapes; "cat" joins the published tensors on axis 0, in order, after the same
    reshape if a shape is given. Names may hold holes, `{word}` for a part without a dot and one `*` for anything, the
    same ones on both sides; a name that ends in "." stands for everything below it.

    `shape` is the published shape: 0 takes the own axis at that place, -1 what remains, anything else is a size.
    `shares` says how the tensors of a "cat" divide axis 0, (2, 1) for instance; without it they are equal.
    """

    published: str | tuple[str, ...]
    own: str | None
    op: Literal["same", "view", "cat"] = "same"
    shape: tuple[int, ...] | None = None
    shares: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for wrong, repair in self._faults():
            if wrong:
                raise SpecError(f"{self} cannot be reversed; {repair}")

    def _faults(self) -> list[tuple[bool, str]]:
        several = isinstance(self.published, tuple)
        names = [*self.sources, *([] if self.own is None else [self.own])]
        holes = [sorted(set(_HOLE.findall(_pattern(name)))) for name in names]
        return [
            (self.op not in ("same", "view", "cat"), 'op is one of "same", "view", "cat"'),
            (several != (self.op == "cat"), 'give a tuple of published names for "cat", one name otherwise'),
            (several and len(self.sources) < 2, 'a "cat" joins two tensors or more'),
            (self.own is None and self.op != "same", 'an extra (own=None) is kept as it is: op "same"'),
            (self.shape is None and self.op == "view", 'give "view" the published shape, (0, 1, 1) for instance'),
            (self.shape is not None and self.op == "same", 'only "view" and "cat" take a shape'),
            (
                self.shape is not None and not _is_rule(self.shape),
                "a shape has sizes, 0 for own axes and one -1 at most",
            ),
            (self.shares is not None and self.op != "cat", 'only "cat" takes shares'),
            (self.shares is not None and not self._shares_fit(), "give one positive share for each published name"),
            (self.own is not None and any(h != holes[0] for h in holes), "use the same {holes} and * in all names"),
            (any(_pattern(name).count("*") > 1 for name in names), "use * once at most"),
        ]

    def _shares_fit(self) -> bool:
        shares = self.shares or ()
        return len(shares) == len(self.sources) and min(shares, default=0) > 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The published names, in order."""
        return self.published if isinstance(self.published, tuple) else (self.published,)

    def pieces(self, own: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes into which an own tensor of shape `own` is split on axis 0, one for each published tensor."""
        if self.op != "cat":
            return [tuple(own)]
        shares = self.shares or (1,) * len(self.sources)
        if not own or own[0] % sum(shares):
            raise SpecError(
                f"{self.own}: shape {tuple(own)} is not split by shares {shares}; axis 0 must be their multiple"
            )
        return [(own[0] // sum(shares) * share, *own[1:]) for share in shares]

    def published_shapes(self, own: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes of the published tensors for an own tensor of shape `own`."""
        pieces = self.pieces(own)
        return pieces if self.shape is None else [self._viewed(self.shape, piece) for piece in pieces]

    def _viewed(self, rule: Sequence[int], own: tuple[int, ...]) -> tuple[int, ...]:
        sizes = [(own[axis] if axis < len(own) else 0) if size == 0 else size for axis, size in enumerate(rule)]
        known = math.prod(size for size in sizes if size != -1)
        shape = tuple(math.prod(own) // max(known, 1) if size == -1 else size for size in sizes)
        if math.prod(shape) != math.prod(own):
            raise SpecError(
                f"{self.own}: shape {own} has no view {tuple(rule)}; give a shape of {math.prod(own)} values"
            )
        return shape


@dataclass(frozen=True)
class Placement:
    """Where one own tensor comes from: its row and the published names, in order."""

    row: Rename
    published: tuple[str, ...]


def place(table: Iterable[Rename], own_names: Iterable[str]) -> dict[str, Placement]:
    """Own name -> its place in the published checkpoint.

    Raises SpecError where no row fits an own name, or two own names are given the same published one.
    """
    return dict(_placements(tuple(table), tuple(own_names)))


@lru_cache(maxsize=64)
def _placements(table: tuple[Rename, ...], own_names: tuple[str, ...]) -> Mapping[str, Placement]:
    rows = [(_regex(row.own), row) for row in table if row.own is not None]
    placements: dict[str, Placement] = {}
    makers: dict[str, str] = {}
    for own in own_names:
        placements[own] = _place_one(rows, own)
        for name in placements[own].published:
            if name in makers:
                raise SpecError(f"published {name} would come from {makers[name]} and {own}; make the rows differ")
            makers[name] = own
    return placements


def _place_one(rows: Iterable[tuple[re.Pattern[str], Rename]], own: str) -> Placement:
    for regex, row in rows:
        if found := regex.fullmatch(own):
            return Placement(row, tuple(_fill(source, found.groupdict()) for source in row.sources))
    raise SpecError(f"no row of the table of renames gives {own} a published name; add one")


def published_shapes(table: Iterable[Rename], own_shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of the published checkpoint, extras aside, from the own ones alone."""
    return {
        name: shape
        for own, placement in place(table, own_shapes).items()
        for name, shape in zip(placement.published, placement.row.published_shapes(own_shapes[own]), strict=True)
    }


def extra_names(table: Iterable[Rename], names: Iterable[str]) -> set[str]:
    """Those of the published names that a row keeps beside the model (own=None)."""
    regexes = [_regex(row.sources[0]) for row in table if row.own is None]
    return {name for name in names if any(regex.fullmatch(name) for regex in regexes)}


def translate(name: str, pattern: str, into: str) -> str | None:
    """`name`, which fits the first pattern, as the second one says it; None where it does not fit.

    >>> translate("level2.conv.space.weight", "*.space.{tensor}", "*.{tensor}")
    'level2.conv.weight'
    """
    found = _regex(pattern).fullmatch(name)
    return _fill(into, found.groupdict()) if found else None


def _is_rule(shape: Sequence[int]) -> bool:
    return min(shape, default=0) >= -1 and list(shape).count(-1) <= 1


def _pattern(name: str) -> str:
    return f"{name}*" if name.endswith(".") else name


def _group(hole: str) -> str:
    return "any_" if hole == "*" else f"{hole[1:-1]}_"


def _regex(name: str) -> re.Pattern[str]:
    parts: list[str] = []
    seen: set[str] = set()
    for text in _HOLE.split(_pattern(name)):
        if not _HOLE.fullmatch(text):
            parts.append(re.escape(text))
        elif text in seen:
            parts.append(f"(?P={_group(text)})")
        else:
            seen.add(text)
            parts.append(f"(?P<{_group(text)}>{'.+' if text == '*' else '[^.]+'})")
    return re.compile("".join(parts))


def _fill(name: str, values: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: values[_group(hole[0])], _pattern(name))
