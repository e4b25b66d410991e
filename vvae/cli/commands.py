"""The commands by name; how they are called, and how they end. What they do lies in the library."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import typer

from vvae.cli.bench import bench
from vvae.cli.clips import decode, encode, reconstruct
from vvae.cli.data import data
from vvae.cli.doctor import doctor
from vvae.cli.evaluate import calibrate, evaluate
from vvae.cli.models import convert, list_models, show
from vvae.cli.options import Stopped
from vvae.cli.train import demo_clip, train
from vvae.cli.verify import verify
from vvae.errors import VvaeError

app = typer.Typer(
    help="Video autoencoders: reconstruct, encode and decode clips; see, convert and train models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(list_models)
app.command("show")(show)
app.command("reconstruct")(reconstruct)
app.command("encode")(encode)
app.command("decode")(decode)
app.command("convert")(convert)
app.command("demo-clip")(demo_clip)
app.add_typer(data, name="data")
app.command("train")(train)
app.command("eval")(evaluate)
app.command("calibrate")(calibrate)
app.command("bench")(bench)
app.command("verify")(verify)
app.command("doctor")(doctor)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 found something, 2 refused with one line on stderr, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    told: list[str] = []
    try:
        code = app(arguments, prog_name="vvae", standalone_mode=False)
    except VvaeError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        _refuse(f"{error.format_message().rstrip('.')}; see vvae --help")
    except Stopped as stopped:
        told, code = [str(argument) for argument in stopped.args], 130
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print("; ".join(["vvae: interrupted", *told]), file=sys.stderr)
    raise SystemExit(code or 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite end from outside cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def _refuse(message: str) -> NoReturn:
    print("vvae:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)
