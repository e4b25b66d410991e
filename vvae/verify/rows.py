"""What came of a run, as plain values: no torch here, so that it can be read and written anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vvae.errors import VvaeError

State: TypeAlias = Literal["sound", "violated", "crashed", "no time"]
EXIT_CODES: Mapping[State, int] = {"sound": 0, "violated": 1, "crashed": 3, "no time": 3}
Bits: TypeAlias = Sequence[str]
"""A boolean matrix: a string of 0 and 1 for each row."""


@dataclass(frozen=True)
class Row:
    """What came of one law on one part; the fields are those of `Finding`, and the law's formula."""

    law: str
    part: str
    verdict: str
    cases: int = 0
    figure: float | None = None
    seconds: float = 0.0
    message: str = ""
    case: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    formula: str = ""


@dataclass(frozen=True)
class Matrices:
    """Who depends on whom in time in one part: what is declared (None: nothing), and what was measured.

    Rows are frames that come out, columns frames that went in; lead and group are `given` in, `out` out. exact: all
    that is declared must show. told: why there are none. ended: the target crashed or ran out of time there.
    """

    part: str
    measured: Bits = ()
    declared: Bits | None = None
    exact: bool = False
    given: tuple[int, int] = (0, 1)
    out: tuple[int, int] = (0, 1)
    told: str = ""
    ended: Literal["", "crashed", "no time"] = ""

    @property
    def wrong(self) -> int:
        """Places where both disagree, as far as the declaration says something."""
        pairs = zip("".join(self.measured), "".join(self.declared or ()), strict=False)
        return sum(seen > said or (self.exact and seen < said) for seen, said in pairs)


@dataclass(frozen=True)
class Report:
    """A run: of what, how, and what came of it. broken: why the target could not be had at all.

    call: the Python that gives the same subject. note: what was chosen for a name. seconds: how long it took.
    """

    target: str
    call: str
    effort: str
    budget: float
    seconds: float = 0.0
    rows: Sequence[Row] = ()
    matrices: Sequence[Matrices] = ()
    note: str = ""
    claims: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""
    late: bool = False

    @property
    def violated(self) -> list[Row]:
        return self.having("violated")

    def having(self, *verdicts: str) -> list[Row]:
        """The rows with one of these verdicts."""
        return [row for row in self.rows if row.verdict in verdicts]

    @property
    def state(self) -> State:
        """violated where any law is; crashed or no time where something kept a law from being checked."""
        if self.violated:
            return "violated"
        ended = {row.verdict for row in self.rows} | {found.ended for found in self.matrices}
        if "crashed" in ended or (self.broken and not self.late):
            return "crashed"
        return "no time" if self.late or "no time" in ended else "sound"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]


def plain(value: Any) -> Any:
    """A value as JSON holds it: numbers that are not finite as text, what it has no form for as its own text."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def refuse_unclaimed(name: str, rows: Sequence[Row]) -> None:
    """VvaeError, with the reasons, where no law applies: nothing was checked."""
    if all(row.verdict == "not claimed" for row in rows):
        told = "; ".join(dict.fromkeys(f"{row.law} ({row.part}): {row.message}" for row in rows))
        raise VvaeError(f"{name}: nothing was checked: {told}")
