"""Laws in tests of your own: `assert_laws(module, input=(1, 3, 5, 16, 16))`. Torch is imported when it is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from vvae.verify.rows import Row, refuse_unclaimed
from vvae.verify.snippet import snippet, target_call

_effort = "quick"


class LawsError(AssertionError):
    """Laws that do not hold: which, what was found, and the smallest case. `rows` hold the same as values."""

    def __init__(self, message: str, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def effort() -> str:
    """How far cases go where `assert_laws` is not told."""
    return _effort


def set_effort(effort: str) -> None:
    """How far cases go from now on where `assert_laws` is not told: "quick" or "thorough"."""
    global _effort
    _effort = effort


def assert_laws(
    what: object,
    *,
    input: Sequence[int] | None = None,
    lead: int | None = None,
    group: int | None = None,
    causal: bool | Literal["encoder", "decoder"] | None = None,
    look_ahead: int | None = None,
    full_width: bool = False,
    laws: Sequence[str] = (),
    effort: str | None = None,
    seconds: float | None = None,
) -> None:
    """Every law holds of a layer, a spec, a model or what a name stands for.

    what, input, lead, group, causal, look_ahead, full_width: as for `verify.target`. laws: only these. effort: "quick"
    or "thorough" (that of `--vvae-profile` in pytest by default). seconds: no case is begun after so many.

    Raises:
        LawsError: a law does not hold, the target fails in one, or there was no time for one.
        VvaeError: nothing of that name, claims that are missing or wrong, a law that is not known, none that applies.
    """
    __tracebackhide__ = True
    from vvae.verify.suite import verify
    from vvae.verify.targets import target

    said: dict[str, Any] = {"input": input, "lead": lead, "group": group, "causal": causal, "look_ahead": look_ahead}
    subject = target(what, full_width=full_width, **said)
    findings = verify(subject, effort=effort or _effort, only=laws, seconds=seconds)
    rows = [Row(**asdict(finding), formula=_formula(finding.law)) for finding in findings]
    refuse_unclaimed(subject.name, rows)
    checked = [row for row in rows if row.verdict != "not claimed"]
    if failed := [row for row in checked if row.verdict not in ("holds", "measured")]:
        name = repr(what) if isinstance(what, str) else "module"
        call = target_call(name, said, full_width=full_width)
        raise LawsError(_message(subject.name, len(checked), failed, call), failed)


def _formula(law: str) -> str:
    from vvae.verify.suite import all_laws

    return all_laws()[law][0].formula


def _message(name: str, checked: int, failed: Sequence[Row], call: str) -> str:
    lines = [f"{len(failed)} of {checked} checks fail for {name}"]
    for row in failed:
        lines += ["", f"{row.law} ({row.part}): {row.verdict}", f"  law    {row.formula}", f"  found  {row.message}"]
        lines += ["  again", *_again(row, call)] if row.case else []
    return "\n".join(lines)


def _again(row: Row, call: str) -> Iterable[str]:
    """The smallest case as code; `module` is what was given."""
    return (f"      {line}".rstrip() for line in snippet(call, row.law, row.part, row.case).splitlines())
