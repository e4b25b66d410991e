"""`vvae bench`: how fast specs run and what memory they take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vvae.cli import options as o

if TYPE_CHECKING:
    from vvae.bench import Report

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def size(text: str) -> tuple[int, int, int]:
    """Frames, height and width from "17x128x128"."""
    if (found := o.clip_size(text)) is None:
        raise typer.BadParameter(f"{text!r} is not FRAMESxHEIGHTxWIDTH; write it as 17x128x128")
    return found


def bench(
    specs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SPEC]...", help="ARCHITECTURE[:VARIANT], a model's name or file."),
    ] = None,
    clip: Annotated[list[str] | None, typer.Option("--size", metavar="TxHxW", help="Clip sizes to time.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Paired rounds.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only these: speed, memory, growth, costs.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Time compiled twins too (minutes to compile).")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny clips, two rounds: only to see that it runs.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write speed.json and speed.md here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Time specs beside units of the same machine; peak memory, growth, costs."""
    # read when torch takes its first large tensor; without it, handing out memory hides what is compared
    os.environ.setdefault(LARGE_PAGES, "1")
    from vvae.bench import PARTS, QUICK, Plan, run, write

    sizes = tuple(size(text) for text in clip or ())
    for option, value, legal in (("--device", device, ("cpu", "cuda")), *(("--part", p, PARTS) for p in part or ())):
        if value not in legal:
            raise typer.BadParameter(f"{option} {value!r} is unknown; it is one of {', '.join(legal)}")
    given = {"specs": specs, "sizes": sizes, "rounds": rounds, "parts": part, "compiled": compile, "device": device}
    base = QUICK if quick else Plan()
    plan = Plan.model_validate({**base.model_dump(), **{key: value for key, value in given.items() if value}})
    report = run(plan, lambda text: print(text, file=sys.stderr, flush=True))
    if out:
        write(report, out, "speed" if device == "cpu" else f"speed_{device}")
    print(report.model_dump_json(indent=1)) if json else _show(report)


def _show(report: Report) -> None:
    from vvae.bench import verdict_table

    targets = verdict_table(report)
    table = Table(*targets.columns, title=targets.title)
    for row in targets.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for sentence in report.missing:
        console.print(sentence, highlight=False)
