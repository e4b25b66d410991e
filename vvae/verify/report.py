"""A report as JSON, as Markdown and as a folder. No torch here."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vvae.errors import VvaeError
from vvae.verify.rows import Report, Row, plain
from vvae.verify.snippet import snippet

DEFAULT_FOLDER = Path("verify")


def number(figure: float | None) -> str:
    """A figure in at most nine characters."""
    if figure is None:
        return "-"
    return f"{figure:.1e}" if figure and not 0.01 <= abs(figure) < 1e6 else f"{figure:.4g}"


def counterexample(report: Report, row: Row) -> str:
    """The smallest case that failed, as Python that can be pasted."""
    return snippet(report.call, row.law, row.part, row.case)


def ran(report: Report) -> list[Row]:
    """The rows of laws that were begun."""
    return [row for row in report.rows if row.verdict != "not claimed" and (row.cases or row.verdict == "crashed")]


def reasons(rows: Iterable[Row]) -> dict[str, list[str]]:
    """What rows say, with the case they say it of -> the laws and parts that say it."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        case = ", ".join(f"{name} {value}" for name, value in row.case.items())
        said = f"{row.message} (case: {case})" if case else row.message
        found.setdefault(said, {}).setdefault(row.law, []).append(row.part)
    return {said: [f"{law} ({', '.join(parts)})" for law, parts in laws.items()] for said, laws in found.items()}


def conclusion(report: Report) -> str:
    """The state in one line."""
    violated = list(dict.fromkeys(row.law for row in report.violated))
    rest = [f"{len(rows)} not checked" for rows in [report.having("crashed", "no time")] if rows]
    held = f"{len(report.having('holds', 'measured'))} of {len(ran(report))} checks hold"
    match report.state:
        case "violated":
            return f"violated: {', '.join(violated)}; {', '.join([held, *rest])}"
        case "crashed" | "no time" as state:
            told = "the target crashed" if state == "crashed" else "out of time"
            return f"{told}: {report.broken}" if report.broken else f"{told}: {', '.join([held, *rest])}"
    return f"sound: {held}"


def as_dict(report: Report) -> dict[str, Any]:
    """All of it as JSON holds it; `violated` is led by the names of the laws."""
    violated: dict[str, list[dict[str, Any]]] = {}
    for row in report.violated:
        violated.setdefault(row.law, []).append(
            {
                "part": row.part,
                "formula": row.formula,
                "message": row.message,
                "figure": row.figure,
                "case": row.case,
                "where": row.where,
                "counterexample": counterexample(report, row),
            }
        )
    head = {name: getattr(report, name) for name in ("target", "note", "claims", "effort", "state", "exit_code")}
    found: dict[str, Any] = plain(
        {
            **head,
            "broken": report.broken,
            "seconds": report.seconds,
            "budget": report.budget,
            "versions": report.versions,
            "violated": violated,
            "findings": [asdict(row) for row in report.rows],
            "matrices": {found.part: {**asdict(found), "wrong": found.wrong} for found in report.matrices},
        }
    )
    return found


def markdown(report: Report, pictures: Sequence[str] = ()) -> str:
    """The report to read; `pictures` are files beside it."""
    said = {name: value for name, value in (report.claims or {}).items() if value not in (None, False)}
    claims = ", ".join(f"{name} {value}" for name, value in said.items())
    told = [
        f"# {report.target}",
        f"**{_cell(conclusion(report))}**",
        " · ".join(filter(None, [report.note, claims and f"claims: {claims}", f"{report.effort} effort"])),
        " · ".join([*(f"{name} {version}" for name, version in report.versions.items()), f"{report.seconds:.1f} s"]),
        *_violated(report),
        "## What was checked",
        _table(("law", "part", "cases", "verdict", "figure"), map(_cells, ran(report))),
        *_not_checked(report),
        *_pictures(report, pictures),
        "## What the laws say",
        _table(("law", "part", "states"), ((row.law, row.part, _formula(row)) for row in ran(report))),
    ]
    return "\n\n".join(filter(None, told)) + "\n"


def _violated(report: Report) -> Iterator[str]:
    for row in report.violated:
        yield f"## Violated: {row.law} ({row.part})"
        yield f"> {_formula(row)}"
        yield f"{_cell(row.message)}."
        yield f"The smallest case that was found:\n\n```python\n{counterexample(report, row)}```"


def _not_checked(report: Report) -> Iterator[str]:
    for title, *verdicts in (("could not be checked", "crashed", "no time"), ("does not apply", "not claimed")):
        if found := reasons(report.having(*verdicts)):
            yield f"## What {title}"
            yield _table(("why", "laws"), ((reason, ", ".join(laws)) for reason, laws in found.items()))


def _pictures(report: Report, pictures: Sequence[str]) -> Iterator[str]:
    if report.matrices:
        yield "## Who depends on whom in time"
    for found in report.matrices:
        if (file := f"{found.part}.png") in pictures:
            yield f"![{found.part}: which frames that come out depend on which that went in]({file})"
        if found.told:
            yield f"{found.part}: {_cell(found.told)}."


def _cells(row: Row) -> tuple[str, ...]:
    return row.law, row.part, str(row.cases), row.verdict, number(row.figure)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text, unless they are code."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cell if cell[:1] == '`' else _cell(cell) for cell in line)} |" for line in lines)


def _formula(row: Row) -> str:
    return f"`{row.formula}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`\[\]])", r"\\\1", " ".join(text.split()))


# --------------------------------------------------------------------------- the folder


def free_folder(target: str) -> Path:
    """A place for a report that is not taken: verify/NAME, or verify/NAME-2 and so on."""
    name = re.sub(r"[^\w.-]+", "-", Path(target).name).strip("-.") or "target"
    places = (DEFAULT_FOLDER / (name if number == 1 else f"{name}-{number}") for number in range(1, 10**6))
    return next(place for place in places if not place.exists())


@contextmanager
def report_folder(folder: Path) -> Iterator[Path]:
    """A place to write to, which becomes `folder` when the block ends; after an error nothing is left.

    Raises:
        VvaeError: something is there already, or nothing can be written there.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise VvaeError(f"{folder}: exists already and is not an empty folder; choose another with --out")
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    made = not folder.parent.exists() and folder.parent == DEFAULT_FOLDER
    try:
        part.mkdir(parents=made)
    except OSError as error:
        raise VvaeError(f"{folder}: cannot be written ({error.strerror}); choose another with --out") from None
    try:
        yield part
        if folder.exists():
            folder.rmdir()
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if made and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def write(report: Report, folder: Path) -> None:
    """report.json and report.md, beside the pictures that are there."""
    pictures = sorted(file.name for file in folder.glob("*.png"))
    (folder / "report.json").write_text(json.dumps(as_dict(report), indent=2, allow_nan=False) + "\n")
    (folder / "report.md").write_text(markdown(report, pictures))
