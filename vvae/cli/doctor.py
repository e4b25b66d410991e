"""`vvae doctor`: whether torch on this machine is fit for the work."""

from __future__ import annotations

from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from vvae.cli import options as o

if TYPE_CHECKING:
    from vvae.doctor import Report, Row

_STYLES = {"fit": "green", "unfit": "bold red", "hint": "yellow", "skipped": "yellow"}
_NAME, _FIGURE = 34, 9


def doctor(
    part: Annotated[
        list[str] | None, typer.Option(help="Only these: machine, convolution, attention, video, compile.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="DEVICE", help="Only these, as cpu or cuda:0  [default: all]")
    ] = None,
    compile_limit: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="What one torch.compile may take.")
    ] = 180,
    json: o.Json = False,
) -> None:
    """Check that torch computes, compiles and writes clips here as it should; and what to do where not."""
    from vvae.doctor import examine

    with Console(stderr=True).status("") as status:
        report = examine(
            part or (),
            device or (),
            compile_seconds=compile_limit,
            say=lambda name, done, total: status.update(f"{done} of {total} done, now {name}"),
        )
    o.print_json(report.model_dump()) if json else print_report(report)
    raise typer.Exit(0 if report.fit else 1)


def print_report(report: Report) -> None:
    """The table, device by device; what to do stands under the row."""
    console = Console(highlight=False)
    console.print("  ".join(f"{name} {version}" for name, version in report.versions.items()), soft_wrap=True)
    console.print()
    console.print(f"{'check':<{_NAME}}{'figure':>{_FIGURE}}{'limit':>{_FIGURE}}  verdict", style="bold")
    for device, rows in groupby(report.rows, lambda row: row.device):
        console.print(f"{device}: {report.devices.get(device, '')}".rstrip(": "), style="bold", soft_wrap=True)
        for row in rows:
            _print_row(console, row)
    bad = sum(row.verdict == "unfit" for row in report.rows)
    console.print()
    console.print(f"not fit: {bad} of {len(report.rows)} checks" if bad else f"fit: {len(report.rows)} checks")


def _print_row(console: Console, row: Row) -> None:
    figures = "".join(f"{_number(figure):>{_FIGURE}}" for figure in (row.figure, row.limit))
    style = _STYLES[row.verdict]
    console.print(f"{row.name:<{_NAME}}{figures}  [{style}]{row.verdict}[/{style}]", soft_wrap=True)
    if row.verdict != "fit":
        for text in filter(None, (row.found, row.advice and f"-> {row.advice}")):
            for line in wrap(text, max(console.width, 60) - 4, subsequent_indent="   " if text != row.found else ""):
                console.print(f"    {line}", markup=False, soft_wrap=True)


def _number(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1e}" if 0 < abs(figure) < 0.01 else f"{figure:g}"
