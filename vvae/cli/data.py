"""`vvae data check`: what is in a folder of clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from vvae.cli import options as o

if TYPE_CHECKING:
    from vvae.video.survey import Survey

data = typer.Typer(help="Clips to train on.", rich_markup_mode=None)


@data.callback()
def _group() -> None:
    """Clips to train on."""  # without it typer would make the one command the group itself


@data.command()
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder of clips and of further folders, or a clip.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="A new table of stretches without a cut  [default: none]")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Leave shorter stretches out of the table.")] = 17,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes side by side  [default: as many as cores, at most 8]")
    ] = None,
    json: o.Json = False,
) -> None:
    """Look through clips: frames, fps, cuts, black and still frames, what cannot be read; a table to train from."""
    from vvae.video.clips import clips_in
    from vvae.video.output import refuse_taken
    from vvae.video.survey import survey_all, write_stretches

    if out is not None:
        refuse_taken(out)
    there = clips_in(folder)
    with o.progress("check", "clips") as report:
        found = survey_all(there.clips, min(workers or min(os.cpu_count() or 1, 8), len(there.clips)), report)
    stretches = [one for clip in found for one in clip.stretches]
    long = [one for one in stretches if one.end - one.start >= frames]
    if out is not None:
        write_stretches(out, long)
    counted = {
        "clips": len(found),
        "frames": sum(clip.frames for clip in found),
        "not_readable": sum(clip.wrong is not None for clip in found),
        "stretches": len(stretches),
        "long_enough": len(long),
        "passed_over": [str(path) for path in there.others],
    }
    if json:
        told = [{**asdict(clip), "path": str(clip.path)} for clip in found]
        for clip in told:
            del clip["stretches"]  # they follow from frames and cuts
        o.print_json({"table": None if out is None else str(out), **counted, "found": told})
    else:
        _print(folder, found, counted, frames, out)
    raise typer.Exit(1 if counted["not_readable"] else 0)


def _print(folder: Path, found: Sequence[Survey], counted: dict[str, Any], frames: int, out: Path | None) -> None:
    from vvae.cli.tables import rows_table

    console = Console(highlight=False)
    rows = [["clip", "frames", "fps", "size", "cuts", "black", "still"]]
    for clip in found:
        name = escape(os.path.relpath(clip.path, folder) if folder.is_dir() else clip.path.name)
        size, shares = f"{clip.height}x{clip.width}", (f"{share:.0%}" for share in (clip.black, clip.still))
        rows.append([name, str(clip.frames), f"{clip.fps:.5g}", size, str(len(clip.cuts)), *shares])
    console.print(rows_table(rows))
    console.print()
    for clip in found:
        if clip.wrong is not None:
            kept = f" (the first {clip.frames} frames are good)" if clip.frames else ""
            console.print(f"not readable: {clip.wrong}{kept}", style="bold red", markup=False, soft_wrap=True)
    if counted["passed_over"]:
        console.print(f"passed over, as they are no clips: {len(counted['passed_over'])}")
    console.print(f"clips {counted['clips']}, frames {counted['frames']}")
    console.print(
        f"stretches without a cut {counted['stretches']}, of {frames} frames or more {counted['long_enough']}"
    )
    if out is not None:
        console.print(f"see   {out}", soft_wrap=True, markup=False)
