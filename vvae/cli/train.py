"""`vvae train` and `demo-clip`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vvae.cli import options as o
from vvae.errors import VvaeError

if TYPE_CHECKING:
    from vvae.training.outlook import Outlook

PATIENCE = 60
"""Seconds in which the first of several processes has said what is wrong, and `torchrun` ends the others."""


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="What to train, on what, how long: a YAML or JSON file, or vvae_small."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the run lies  [default: runs/RECIPE]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this many minutes.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it takes, and draw the first batch; train nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print the result as JSON, and nothing else.")
    ] = False,
) -> None:
    """Train a model by a recipe; the same command under torchrun uses several processes."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would print torch's hints on speed
    from vvae.training.loop import check
    from vvae.training.loop import train as run
    from vvae.training.parallel import processes
    from vvae.training.recipe_file import read

    if json and not dry_run:
        raise VvaeError("--json: belongs to --dry-run; a run writes log.jsonl")
    folder = out or Path("runs") / recipe.stem
    with _said_once():
        given = read(recipe)
        check(given, processes())
    if not dry_run:
        file = run(given, folder, minutes=minutes)
        if file is not None and _first():
            print(f"see   {file}")
    elif _first():
        from vvae.training.outlook import look_ahead

        found = look_ahead(given, folder, processes())
        o.print_json(found.to_dict()) if json else _print(found)


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _said_once() -> Iterator[None]:
    """Under `torchrun` every process finds the same fault, and the first says it.

    The others wait, since the end of one is the end of all, be it before that.
    """
    try:
        yield
    except VvaeError:
        if _first():
            raise
        with suppress(KeyboardInterrupt):
            time.sleep(PATIENCE)
        raise SystemExit(2) from None


def _print(found: Outlook) -> None:
    from rich.console import Console

    from vvae.cli.tables import rows_table
    from vvae.tiling.budget import told

    rows = [["stage", "steps", "clips", "frames", "pixels", "learn", "judge", "memory", "GFLOP"]]
    for stage in found.stages:
        side, judge = f"{stage.size}x{stage.size}", f"{stage.discriminator:,}" if stage.discriminator else "-"
        counts = [f"{stage.steps:,}", str(stage.clips), str(stage.frames), side, f"{stage.learning:,}", judge]
        rows.append([stage.name, *counts, told(stage.memory), f"{stage.flops / 1e9:,.2f}"])
    console = Console(highlight=False)
    console.print(f"[bold]{found.model}[/bold]  {found.parameters:,} parameters", soft_wrap=True)
    console.print(f"steps {found.steps:,}, processes {found.processes}")
    console.print()
    console.print(rows_table(rows))
    console.print()
    console.print("a step of one process, at its largest; learn, judge: parameters of model, discriminator")
    console.print(f"see   {found.picture}", soft_wrap=True, markup=False)


def demo_clip(out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The file to write.")]) -> None:
    """Write a short clip to try things on."""
    from vvae.video.demo import demo_clip as write

    write(out)
    print(out)
