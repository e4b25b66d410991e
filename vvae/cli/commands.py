"""The commands: parse, call, print. What they do lies in the library."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vvae.errors import VvaeError

app = typer.Typer(
    help="Video autoencoders: reconstruct clips, train models.",
    add_completion=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 2 refused with one line on stderr, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(arguments, prog_name="vvae", standalone_mode=False)
    except VvaeError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        _refuse(f"{error.format_message().rstrip('.')}; see vvae --help")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print("vvae: interrupted", file=sys.stderr)
    raise SystemExit(code or 0)


@app.command()
def reconstruct(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Any video file that FFmpeg reads.")],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A new folder  [default: CLIP_vvae]")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="At most this many frames.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Resize the short side to this many pixels.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="A model's name or file.")] = "vvae-small",
) -> None:
    """Send a clip through a model and back: clips, pictures and figures of what came of it."""
    import vvae
    from vvae.video import reconstruct_clip

    folder = out or Path(f"{clip.stem}_vvae")
    network = vvae.load(model)
    with _progress("reconstruct") as report:
        figures = reconstruct_clip(network, clip, folder, frames=frames, size=size, progress=report)
    _print_figures(folder, figures)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train, on what, how long.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the run lies  [default: runs/RECIPE]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this many minutes.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a model by a recipe."""
    from vvae.training import train as run

    run(recipe, out or Path("runs") / recipe.stem, minutes=minutes, threads=threads)


@app.command("demo-clip")
def demo_clip_command(out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The file to write.")]) -> None:
    """Write a short clip to try things on."""
    from vvae.video.demo import demo_clip

    demo_clip(out)
    print(out)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, from the first step on: frames done and promised, rate, time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))

    def report(done: int, total: int | None) -> None:
        if not bar.tasks:
            bar.add_task(name, total=total)
            bar.start()
        bar.update(bar.tasks[0].id, completed=done, total=total)

    try:
        yield report
    finally:
        if bar.tasks:
            bar.stop()


def _print_figures(folder: Path, figures: dict[str, Any]) -> None:
    height, width = figures["height"], figures["width"]
    inside = "  ".join("-" if value is None else f"{value:.2f}" for value in figures["psnr_per_position"])
    print(f"{figures['model']}: {figures['frames']} frames of {height}x{width} pixels")
    print(f"PSNR  {figures['psnr']:.2f} dB", end="")
    if figures["psnr_lead"] is not None:
        print(f"   lead {figures['psnr_lead']:.2f}", end="")
    print(f"   by position in a group {inside}")
    print(f"SSIM  {figures['ssim']:.4f}")
    print(f"speed {figures['frames_per_second']:.2f} frames per second to encode and decode")
    print(f"see   {folder / 'contact_sheet.png'}, {folder / 'side_by_side.mp4'}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite end from outside cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def _refuse(message: str) -> NoReturn:
    print("vvae:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)
