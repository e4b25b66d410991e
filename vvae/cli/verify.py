"""`vvae verify`: whether a layer or a model keeps the laws, ours or somebody else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from vvae.cli import options as o
from vvae.errors import VvaeError

if TYPE_CHECKING:
    from vvae.verify.rows import Report, Row

_STYLES = {"holds": "green", "measured": "green", "violated": "bold red", "crashed": "bold red", "no time": "yellow"}
_WIDTHS = (15, 9, 6, 10)


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="An architecture[:variant], a model's name or file, SPEC.json, or package.module:object.",
        ),
    ],
    input: Annotated[
        str | None,
        typer.Option(metavar="B,C,T,H,W", help="For what has no spec: a clip that it takes; B,C,H,W for images."),
    ] = None,
    lead: Annotated[
        int | None, typer.Option(min=0, max=1, help="Frames that stand alone at the start  [default: 0]")
    ] = None,
    group: Annotated[int | None, typer.Option(min=1, help="Frames in a group after it  [default: 1]")] = None,
    causal: Annotated[bool, typer.Option("--causal", help="Nothing depends on a later group.")] = False,
    causal_encoder: Annotated[
        bool, typer.Option("--causal-encoder", help="Nothing that is encoded depends on a later group.")
    ] = False,
    lookahead: Annotated[
        int | None, typer.Option(min=0, help="Nothing depends on more than so many later groups.")
    ] = None,
    full_width: Annotated[
        bool, typer.Option("--full-width", help="An architecture as published, not in small widths.")
    ] = False,
    law: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these laws.")] = None,
    effort: Annotated[Literal["quick", "thorough"], typer.Option(help="How far the cases go.")] = "quick",
    seconds: Annotated[float, typer.Option(min=0.1, help="No case is begun after so many.")] = 60.0,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes side by side  [default: 2, or 1 on one core]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder for the report  [default: verify/TARGET]")
    ] = None,
    json: o.Json = False,
) -> None:
    """Check the laws of layers and models, and report which hold, with counterexamples where they do not."""
    from vvae.verify.report import as_dict, free_folder, report_folder, write
    from vvae.verify.watched import Order, run

    said = _said(input, lead, group, causal or ("encoder" if causal_encoder else None), lookahead)
    folder = out or free_folder(target)
    order = Order(target, said, full_width, law or (), effort)
    with report_folder(folder) as part:
        with _progress() as tell:
            count = workers or min(2, os.cpu_count() or 1)
            report = run(order, seconds=seconds, workers=count, pictures=part, tell=tell)
        write(report, part)
    if json:
        o.print_json({"folder": str(folder), **as_dict(report)})
    else:
        print_report(report)
        print(f"see   {folder / 'report.md'}")
    raise typer.Exit(report.exit_code)


def _said(
    shape: str | None, lead: int | None, group: int | None, causal: bool | str | None, look_ahead: int | None
) -> dict[str, Any]:
    """What is said of a target, as `targets.Said` takes it."""
    return {"input": _shape(shape), "lead": lead, "group": group, "causal": causal, "look_ahead": look_ahead}


def _shape(text: str | None) -> tuple[int, ...] | None:
    """Numbers from "1,3,9,64,64"."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (4, 5) or not all(part.isdecimal() and int(part) for part in parts):
        raise VvaeError(f"--input {text}: is not b,c,t,h,w (b,c,h,w for images); write it as 1,3,9,64,64")
    return tuple(map(int, parts))


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None, str], None]]:
    """A bar on stderr, from the first law on: laws done, how many there are, and what is being checked."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    told = TextColumn("{task.description}")
    columns = (TextColumn("verify"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), told)
    bar = Progress(*columns, console=Console(stderr=True))

    def tell(done: int, total: int | None, what: str) -> None:
        if not bar.tasks:
            bar.add_task("", total=total)
            bar.start()
        bar.update(bar.tasks[0].id, completed=done, description=what)

    try:
        yield tell
    finally:
        if bar.tasks:
            bar.stop()


# --------------------------------------------------------------------------- the report in 80 columns


def print_report(report: Report) -> None:
    """The table; below it what is violated, what could not be checked, and what does not apply."""
    from vvae.verify.report import conclusion, ran, reasons

    console = Console(highlight=False)
    console.print(report.target, style="bold", markup=False, end=f"  {report.note}\n" if report.note else "\n")
    if ran(report):
        names = ("law", "part", "cases", "verdict", "figure")
        console.print(_line(*names), style="bold")
    for row in ran(report):
        console.print(_row(row), soft_wrap=True)
    for row in report.violated:
        _print_violated(console, report, row)
    for title, *verdicts in (("could not be checked", "crashed", "no time"), ("does not apply", "not claimed")):
        if found := reasons(report.having(*verdicts)):
            console.print(f"\n{title}", style="bold")
        for reason, laws in found.items():
            _print_lines(console, f"{', '.join(laws)}: {reason}", "  ")
    console.print()
    style = "green" if report.state == "sound" else "bold red"
    _print_lines(console, conclusion(report), "", style)


def _line(*cells: str) -> str:
    law, part, cases, verdict, figure = cells
    a, b, c, d = _WIDTHS
    return f"{law:<{a}}{part:<{b}}{cases:>{c}}  {verdict:<{d}}{figure:>9}"


def _row(row: Row) -> Any:
    from rich.text import Text

    from vvae.verify.report import number

    text = Text(_line(row.law, row.part, str(row.cases), row.verdict, number(row.figure)))
    start = sum(_WIDTHS[:3]) + 2
    text.stylize(_STYLES[row.verdict], start, start + len(row.verdict))
    return text


def _print_violated(console: Console, report: Report, row: Row) -> None:
    from vvae.verify.report import counterexample

    console.print(f"\nviolated: {row.law} ({row.part})", style="bold red")
    _print_lines(console, row.formula, "  law    ")
    _print_lines(console, row.message, "  found  ")
    for line in counterexample(report, row).splitlines():
        console.print(f"      {line}", markup=False, soft_wrap=True)


def _print_lines(console: Console, text: str, before: str = "    ", style: str | None = None) -> None:
    """Wrapped, the first line behind `before`, the others as far in."""
    lines = wrap(text, max(console.width, 60), initial_indent=before, subsequent_indent=" " * max(len(before), 2))
    for line in lines:
        console.print(line, style=style, markup=False, soft_wrap=True)
