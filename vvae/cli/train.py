"""`vvae train` and `demo-clip`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="What to train, on what, how long: YAML or JSON, or vvae_small.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the run lies  [default: runs/RECIPE]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this many minutes.")] = None,
) -> None:
    """Train a model by a recipe."""
    from vvae.training import train as run

    run(recipe, out or Path("runs") / recipe.stem, minutes=minutes)


def demo_clip(out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The file to write.")]) -> None:
    """Write a short clip to try things on."""
    from vvae.video.demo import demo_clip as write

    write(out)
    print(out)
