"""What is in a folder of clips, before anything is trained on it: what cannot be read, cuts, black and still frames.

The stretches without a cut become a table, as CSV with one line each:

    path           of the clip, from the folder of the table
    start, end     the stretch's first frame, and the frame after its last
    fps            frames per second, as a decimal number
    height, width  pixels
    black, still   the share of its frames that are black, and that repeat the frame before
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import torch

from vvae.errors import VideoError
from vvae.video.cuts import Changes, share
from vvae.video.read import probe, read_clip
from vvae.video.whole import whole_file

SIDE = 32  # pixels of the short side of the pictures that are compared
COLUMNS = ("path", "start", "end", "fps", "height", "width", "black", "still")


@dataclass(frozen=True)
class Stretch:
    """Frames `start` to `end` (without it) of a clip, without a cut; shares of black frames and of repeated ones."""

    path: Path
    start: int
    end: int
    fps: float
    height: int
    width: int
    black: float = 0.0
    still: float = 0.0


@dataclass(frozen=True)
class Survey:
    """One clip. cuts: the first frame of each shot but the first. wrong: why it cannot be read, or from where on."""

    path: Path
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    cuts: tuple[int, ...] = ()
    black: float = 0.0
    still: float = 0.0
    wrong: str | None = None
    stretches: tuple[Stretch, ...] = field(default=(), repr=False)


def survey(path: str | Path) -> Survey:
    """Decodes all frames of a clip. One that is damaged has the frames before the damage; nothing is raised for it."""
    path, found, wrong = Path(path), Changes(), None
    try:
        info = probe(path)
    except VideoError as error:
        return Survey(path, wrong=str(error))
    try:
        # frame by frame: those before the damage count
        for frame in read_clip(path, size=SIDE, chunk=1):
            found.add(frame)
    except VideoError as error:
        wrong = str(error)
    frames, cuts, still = len(found.still), tuple(found.cuts), found.still
    about = partial(Stretch, path, fps=round(float(info.fps), 6), height=info.height, width=info.width)
    stretches = tuple(
        about(start=a, end=b, black=round(share(found.black[a:b]), 4), still=round(share(still[a:b]), 4))
        for a, b in pairwise((0, *cuts, frames))
        if a < b
    )
    return Survey(
        path,
        frames,
        round(float(info.fps), 6),
        info.height,
        info.width,
        cuts,
        share(found.black),
        share(still),
        wrong,
        stretches,
    )


def survey_all(
    clips: Sequence[Path], workers: int = 1, progress: Callable[[int, int | None], None] | None = None
) -> list[Survey]:
    """Every clip, in `workers` processes side by side; the order is that of `clips`. progress: clips done, and all.

    Errors: VideoError where a process dies.
    """
    found: list[Survey] = []
    for one in _surveys(clips, workers):
        found.append(one)
        if progress is not None:
            progress(len(found), len(clips))
    return found


def _surveys(clips: Sequence[Path], workers: int) -> Iterable[Survey]:
    if workers == 1:
        yield from map(survey, clips)
        return
    # not forked: FFmpeg and torch have threads of their own
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        try:
            yield from pool.map(survey, clips)
        except BrokenProcessPool:
            raise VideoError("a process that read clips died; take one worker to see at which clip") from None


def write_stretches(path: str | Path, stretches: Iterable[Stretch]) -> None:
    """The table, whole or not at all. Errors: VideoError where it cannot be written."""
    path = Path(path)
    try:
        with whole_file(path) as fresh, fresh.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for one in stretches:
                place = Path(os.path.relpath(one.path, path.parent)).as_posix()
                table.writerow([place, *(getattr(one, name) for name in COLUMNS[1:])])
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror}), choose another place with --out") from error


def read_stretches(path: str | Path) -> list[Stretch]:
    """What `write_stretches` wrote. Further columns are passed over; black and still may be missing.

    Errors: VideoError that names the line where something is missing, is no number, or start and end are no stretch.
    """
    path = Path(path)
    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            if missing := [name for name in COLUMNS[:6] if name not in (table.fieldnames or ())]:
                raise VideoError(f"{path}: has no column {', '.join(missing)}; make it with vvae data check")
            return [_stretch(path, number, row) for number, row in enumerate(table, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VideoError(f"{path}: is no table that can be read ({error}); give a CSV") from None


def _stretch(table: Path, line: int, row: dict[str, str | None]) -> Stretch:
    try:
        start, end, height, width = (int(row[name] or "") for name in ("start", "end", "height", "width"))
        black, still = (float(row.get(name) or 0) for name in ("black", "still"))
        place = table.parent / (row["path"] or "")
        one = Stretch(place, start, end, float(row["fps"] or ""), height, width, black, still)
    except ValueError as error:
        raise VideoError(f"{table}: line {line} cannot be used ({error}); correct it or make the table again") from None
    if not 0 <= one.start < one.end or not row["path"]:
        raise VideoError(
            f"{table}: line {line}: frames {one.start} to {one.end} of {row['path']!r} are no stretch; correct it"
        )
    return one
