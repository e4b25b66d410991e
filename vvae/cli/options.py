"""What commands have in common: options, devices and dtypes, progress, results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from vvae.errors import CheckpointError, VvaeError

if TYPE_CHECKING:
    import torch

    from vvae.autoencoder import VideoAutoencoder
    from vvae.tiling import Plan
    from vvae.tiling.rules import Direction
    from vvae.video.selection import Selection

DEFAULT_MODEL = "vvae-small"
_RELEASED = (".pth", ".pt", ".ckpt", ".bin")
_DTYPES = Literal["float32", "bfloat16", "float16", "float64"]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Model = Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="A model's name or file.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[_DTYPES, typer.Option(help="What the model computes in.")]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Stay within it, as 2GiB or 500MB; changes no frame  [default: what is free]"),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS_OR_PRESET", help="Frames in exact tiles of that side; or the rule of a release, not exact."
    ),
]
Chunk = Annotated[int | None, typer.Option(min=1, metavar="FRAMES", help="So many frames in a step; changes no frame.")]
Frames = Annotated[int | None, typer.Option(min=1, help="At most this many frames.")]
Start = Annotated[int, typer.Option(min=0, help="Leave out this many frames at the beginning.")]
Size = Annotated[int | None, typer.Option(min=1, help="Resize the short side to this many pixels.")]
Stream = Annotated[int | None, typer.Option(min=0, metavar="N", help="The video stream of the file, by its index.")]
AllowPartial = Annotated[bool, typer.Option("--allow-partial", help="Take the frames before a damaged end.")]
Clip = Annotated[Path, typer.Argument(metavar="CLIP", help="A video file, a folder of pictures, or a picture.")]


class Stopped(BaseException):
    """An interruption that has something to say, which typer would take away."""


class Opened(NamedTuple):
    """A model where it shall run, and the digest of its weights as they are in its file."""

    model: VideoAutoencoder
    weights: str
    dtype: torch.dtype


def selection(
    clip: Path, frames: int | None, start: int, size: int | None, stream: int | None, allow_partial: bool
) -> Selection:
    """The part of the clip that is asked for; refused at once where it cannot be read."""
    from vvae.video.selection import Selection

    chosen = Selection(clip, frames, start, size, stream, allow_partial)
    chosen.refuse_nothing()
    return chosen


def open_model(name: str, device: str, dtype: str) -> Opened:
    """A model by name or file on a device in a dtype; refused where one of the three cannot be had."""
    where, what = _device(device), _dtype(dtype, device)
    from vvae.models import load
    from vvae.models.names import is_architecture
    from vvae.state import weights_digest

    if is_architecture(name) or Path(name).suffix == ".json":
        raise CheckpointError(f"--model {name}: is a spec without weights; give a model's name or file (see vvae list)")
    if Path(name).suffix in _RELEASED:
        raise CheckpointError(f"--model {name}: is no file of vvae; make one of a released checkpoint: vvae convert")
    model = load(name)
    digest = weights_digest(model)
    return Opened(model.to(device=where, dtype=what), digest, what)


def _device(name: str) -> torch.device:
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise VvaeError(f"--device {name}: is unknown; it is one of cpu, cuda, cuda:N, mps")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= here:
        there = f"there are {here} of its kind" if here else "this machine, or this torch, has none"
        raise VvaeError(f"--device {name}: is not there, {there}; take --device cpu")
    return torch.device(name)


def _dtype(name: str, device: str) -> torch.dtype:
    import torch

    if name == "float16" and device == "cpu":
        raise VvaeError("--dtype float16: is hundreds of times slower on the cpu; take float32 or bfloat16")
    if name == "float64" and device == "mps":
        raise VvaeError("--dtype float64: is not there on mps; take float32")
    found: torch.dtype = getattr(torch, name)
    return found


def chosen_plan(
    tile: str | None,
    chunk: int | None,
    memory: str | None,
    opened: Opened,
    frames: int | None,
    size: tuple[int, int],
    *directions: Direction,
) -> Plan:
    """The plan that `--tile` and `--chunk` say, or the one that fits into `--memory`; refused where there is none."""
    if tile is None and chunk is None:
        return plan_for(memory, opened, frames, size, *directions)
    asked = f"--tile {tile}" if tile is not None else f"--chunk {chunk}"
    if memory is not None:
        raise VvaeError(f"{asked}: leave it out with --memory, which chooses steps and tiles itself")
    from vvae.tiling import within

    model, where = opened.model, next(opened.model.parameters()).device
    try:
        told = _told_plan(tile, chunk, model, directions)
        return within(told, model.spec, (frames, *size), device=where, dtype=opened.dtype, files=True)
    except VvaeError as error:
        raise VvaeError(f"{asked}: {error}") from None


def _told_plan(tile: str | None, chunk: int | None, model: VideoAutoencoder, directions: tuple[Direction, ...]) -> Plan:
    from vvae.tiling import Frames, Pixels, exact_plan, preset_plan

    if tile is None or tile.isdecimal():
        sides = None if tile is None else Pixels(int(tile))
        return exact_plan(model, sides, None if chunk is None else Frames(chunk), directions)
    if chunk is not None:
        raise VvaeError("a preset has chunks of its own; leave --chunk out")
    return preset_plan(model.spec, tile, directions)


def plan_for(
    memory: str | None, opened: Opened, frames: int | None, size: tuple[int, int], *directions: Direction
) -> Plan:
    """The exact plan that fits into `--memory`, or into what is free; refused where there is none."""
    from vvae.tiling import plan

    model, where = opened.model, next(opened.model.parameters()).device
    try:
        return plan(
            model.spec, (frames, *size), memory, device=where, dtype=opened.dtype, directions=directions, files=True
        )
    except VvaeError as error:
        raise VvaeError(str(error) if memory is None else f"--memory {memory}: {error}") from None


def clip_size(text: str) -> tuple[int, int, int] | None:
    """Frames, height and width from "17x128x128"; None where it is nothing of the kind."""
    if not (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)):
        return None
    frames, height, width = map(int, found.groups())
    return frames, height, width


@contextmanager
def progress(name: str, unit: str = "frames") -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, from the first step on: frames (or what else is counted) done and promised, rate, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))

    def report(done: int, total: int | None) -> None:
        if not bar.tasks:
            bar.add_task(name, total=total, completed=done, rate="")
            bar.start()
        task = bar.tasks[0]
        bar.update(task.id, completed=done, total=total, rate=f"{task.speed:.1f} {unit}/s" if task.speed else "")

    try:
        yield report
    except KeyboardInterrupt as stopped:
        raise Stopped(*stopped.args) from None
    finally:
        if bar.tasks:
            bar.stop()


def print_json(result: Mapping[str, Any] | list[Any]) -> None:
    print(json.dumps(result, indent=2, allow_nan=False))
