"""All laws over a subject: which apply, in which cases, from small to large, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from vvae.errors import VvaeError
from vvae.spec import nearest
from vvae.verify.findings import LawError, RefusalError, UnableError
from vvae.verify.subject import Model, Part, Subject

Verdict: TypeAlias = Literal["holds", "violated", "measured", "not claimed", "crashed", "no time"]
Case: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """How far the cases of each law go.

    groups: of the longest clip. seeds: random clips of each length. sweep: sizes that are counted through. backend: of
    the compiler.
    """

    groups: int
    seeds: int
    sweep: int
    backend: str


EFFORTS: Mapping[str, Effort] = MappingProxyType(
    {
        "quick": Effort(groups=2, seeds=1, sweep=9, backend="aot_eager"),
        "thorough": Effort(groups=4, seeds=3, sweep=17, backend="inductor"),
    }
)


@dataclass(frozen=True)
class Law:
    """A law in the suite.

    `states` is the public function whose docstring states it, `check` runs one case of it and gives a figure, `cases`
    go from small to large, so that the first that fails is the smallest. `excuse` says why a law does not apply (None:
    it does), `measures` whether its figure is a measurement, not a verdict. `tells` makes one message of all cases that
    fail and all that are refused; None: the first that fails is the last that is run.
    """

    name: str
    states: Callable[..., float]
    check: Callable[..., float]
    excuse: Callable[[Any], str | None]
    cases: Callable[[Any, Effort], Iterable[Case]]
    measures: Callable[[Any], bool] = lambda _: False
    tells: Callable[[Sequence[LawError], Sequence[RefusalError]], str] | None = None

    @property
    def formula(self) -> str:
        """The first paragraph of the docstring that states it, in one line."""
        return " ".join((self.states.__doc__ or "").split("\n\n")[0].split())


@dataclass(frozen=True)
class Finding:
    """What came of one law on one part.

    `figure` is the worst over the cases, `case` the smallest one that failed, `where` what the law says of it.
    """

    law: str
    part: str
    verdict: Verdict
    cases: int = 0
    figure: float | None = None
    seconds: float = 0.0
    message: str = ""
    case: Case = field(default_factory=dict)
    where: Case = field(default_factory=dict)


def all_laws() -> dict[str, tuple[Law, ...]]:
    """Every law by name; those of parts and of models that share a name are one."""
    found: dict[str, tuple[Law, ...]] = {}
    for law in (*_of_parts(), *_of_models()):
        found[law.name] = (*found.get(law.name, ()), law)
    return found


def _of_parts() -> tuple[Law, ...]:
    from vvae.verify.of_own_parts import LAWS as OWN
    from vvae.verify.of_parts import LAWS

    return (*LAWS, *OWN)


def _of_models() -> tuple[Law, ...]:
    from vvae.verify.of_models import LAWS
    from vvae.verify.of_own_models import LAWS as OWN

    return (*LAWS, *OWN)


def applied(subject: Subject, only: Sequence[str] = ()) -> list[tuple[Law, Part | Model, str]]:
    """Each law with the part that it is pointed at and the part's name.

    Raises:
        VvaeError: a law that is not known.
    """
    known = all_laws()
    for name in only:
        if name not in known:
            raise VvaeError(f"law {nearest(name, known)}")
    pairs: list[tuple[Law, Part | Model, str]] = []
    pairs += [(law, part, part.name) for law in _of_parts() for part in subject.parts]
    pairs += [(law, subject.model, "model") for law in _of_models() if subject.model is not None]
    return [pair for pair in pairs if not only or pair[0].name in only]


def verify(
    subject: Subject,
    *,
    effort: str = "quick",
    only: Sequence[str] = (),
    seconds: float | None = None,
    tell: Callable[[str, str, Case], None] = lambda law, part, case: None,
) -> Iterator[Finding]:
    """Findings, one for each law and part, as they come.

    effort: "quick" or "thorough". only: names of laws. seconds: when no further case is begun. `tell` is called with
    law, part and case before each case is run.
    """
    until = None if seconds is None else time.monotonic() + seconds
    for law, part, name in applied(subject, only):
        yield _found(law, part.fresh(), name, EFFORTS[effort], until, tell)


def check(subject: Subject, law: str, part: str, **case: Any) -> float:
    """One case of one law again, as a report gives it: its figure.

    Raises:
        LawError: the law does not hold.
        VvaeError: no such law or part.
    """
    for found, target, name in applied(subject, [law]):
        if name == part:
            return found.check(target.fresh(), **case)
    raise VvaeError(f"{subject.name} has no part {part!r} for the law {law}; its parts: {_parts(subject)}")


def _parts(subject: Subject) -> str:
    return ", ".join([part.name for part in subject.parts] + (["model"] if subject.model else []))


@dataclass
class _Tally:
    """What came of the cases so far."""

    law: Law
    count: int = 0
    figures: list[float] = field(default_factory=list)
    failed: list[tuple[Case, LawError]] = field(default_factory=list)
    refused: list[RefusalError] = field(default_factory=list)

    def run(self, part: Part | Model, case: Case) -> bool:
        """Runs one more case; whether there is a reason to run another one."""
        self.count += 1
        try:
            self.figures.append(self.law.check(part, **case))
        except RefusalError as error:
            self.refused.append(error)
        except LawError as error:
            self.failed.append((case, error))
        return not self.failed or self.law.tells is not None

    @property
    def message(self) -> str:
        errors = [error for _, error in self.failed]
        if self.law.tells is not None:
            return self.law.tells(errors, self.refused)
        return errors[0].message if errors else ""

    @property
    def worst(self) -> float | None:
        told = [error.figure for _, error in self.failed if error.figure is not None]
        return max(told if self.failed else self.figures, default=None)


def _found(
    law: Law, part: Part | Model, name: str, effort: Effort, until: float | None, tell: Callable[..., None]
) -> Finding:
    if excuse := law.excuse(part):
        return Finding(law.name, name, "not claimed", message=excuse)
    started, tally = time.monotonic(), _Tally(law)

    def finding(verdict: Verdict, message: str, figure: float | None = None, **of_case: Any) -> Finding:
        return Finding(law.name, name, verdict, tally.count, figure, time.monotonic() - started, message, **of_case)

    case: Case = {}
    try:
        for case in law.cases(part, effort):
            if until is not None and time.monotonic() > until:
                break
            tell(law.name, name, case)
            if not tally.run(part, case):
                break
    except (NotImplementedError, UnableError) as error:
        return finding("not claimed", f"torch cannot do it here: {_first_line(error):.160}")
    except Exception as error:  # whatever somebody else's model raises
        if not tally.failed:
            return finding("crashed", f"{type(error).__name__}: {_first_line(error)}"[:300], case=dict(case))
    if tally.failed:
        case, broken = tally.failed[0]
        return finding("violated", tally.message, tally.worst, case=dict(case), where=broken.where)
    if not tally.count:
        return finding("no time", "no time was left for a case")
    return finding("measured" if law.measures(part) else "holds", tally.message, tally.worst)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
