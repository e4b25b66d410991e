"""Where training clips come from: a folder, a list or a CSV of files, or material that is made by a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from vvae.errors import SpecError, VideoError
from vvae.spec import Spec
from vvae.training import pool
from vvae.video.clips import clips_in
from vvae.video.read import probe, read_clip
from vvae.video.survey import read_stretches


class Source(Protocol):
    """Clips by number."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What clip `index` is called in messages."""

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        """A random piece of clip `index`, `3 t h w` in [-1, 1], float32, h = w = size.

        Raises:
            VideoError: it cannot be read, or is too short or too small.
        """


class ProceduralSpec(pool.PoolSpec):
    """Clips that a program makes, rendered once into the run's folder; see `vvae.training.material`."""

    kind: Literal["procedural"] = "procedural"

    def check(self) -> None:
        """They are always there."""

    def open(self, folder: Path, report: pool.Told = lambda done, of: None) -> Source:
        return Rendered(pool.render(folder, self, report))

    def look(self) -> Source:
        """The same clips without a folder, each rendered when it is asked for."""
        return Rendered(pool.Unrendered(self))


@dataclass(frozen=True)
class Rendered:
    """Rendered clips; pieces are mirrored, turned and run backwards as well."""

    clips: pool.Clips | pool.Unrendered

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return f"rendered clip {index}"

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        _, have, height, width = self.clips[index].shape
        if frames > have or size > min(height, width):
            raise VideoError(
                f"{self.name(index)} has {have} frames of {height}x{width}; take at most as many of at most that size"
            )
        return pool.to_float(np.ascontiguousarray(pool.piece(self.clips[index], rng, frames, size)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the file where there is one, and is not sent all of it."""
        return (_mapped, (self.clips.filename,)) if isinstance(self.clips, np.memmap) else (Rendered, (self.clips,))


def _mapped(file: Path) -> Rendered:
    return Rendered(np.load(file, mmap_mode="r"))


class ClipsSpec(Spec):
    """Files: of a folder (those below it too), of a text file with a path in each line, or of a CSV.

    The CSV is what `vvae data check` writes: a row for each stretch without a cut, with `path`, `start` and `end` in
    frames; pieces never reach beyond their row. Paths in both are relative to the file that they stand in. A single
    picture is a clip of one frame, and a folder of pictures alone is one clip: for photographs, list them in a text
    file. In mp4, mov and mkv with H.264 or H.265 in closed groups of pictures a piece is decoded from the last keyframe
    before it; elsewhere all frames before it are decoded, too: split films of hours into shots beforehand.

    The short side becomes `scale` times the piece's side (None: it stays, and only a shorter one is enlarged), then a
    random square is cut out; `mirror`: half of the pieces are mirrored. `first` and `most`: a part of the list.
    """

    kind: Literal["clips"] = "clips"
    path: str
    scale: float | None = Field(1.0, ge=1)
    mirror: bool = True
    first: NonNegativeInt = 0
    most: PositiveInt | None = None

    def check(self) -> None:
        """SpecError where nothing is there."""
        self._rows()

    def open(self, folder: Path, report: pool.Told = lambda done, of: None) -> Source:
        return self.look()

    def look(self) -> Source:
        """They need no folder."""
        return Files(self._rows(), self.scale, self.mirror)

    def _rows(self) -> tuple[Row, ...]:
        try:
            listed = tuple(_listed(Path(self.path)))
        except VideoError as error:
            raise SpecError(str(error), ("path",)) from None
        if not listed:
            raise SpecError(f"{self.path} names no clip; write one in each line", ("path",))
        if self.first >= len(listed):
            raise SpecError(f"{self.path} holds {len(listed)} clips, none after the first {self.first}", ("first",))
        return listed[self.first :][: self.most]


@dataclass(frozen=True)
class Row:
    """Frames `start` to `end` (None: to the end) of a file."""

    path: Path
    start: int = 0
    end: int | None = None


def _listed(path: Path) -> Iterator[Row]:
    if path.suffix.lower() == ".csv":
        yield from (Row(each.path, each.start, each.end) for each in read_stretches(path))
    elif path.suffix.lower() == ".txt" and path.is_file():
        yield from (Row(path.parent / name) for name in _lines(path))
    else:
        yield from (Row(clip) for clip in clips_in(path).clips)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VideoError(f"{path}: is no text that can be read ({error}); write a path in each line") from None
    return [line.strip() for line in lines if line.strip()]


@dataclass(frozen=True)
class Files:
    """Clips in files, read as they are asked for."""

    rows: Sequence[Row]
    scale: float | None = 1.0
    mirror: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        row = self.rows[index]
        return f"{row.path}" if row.end is None and not row.start else f"{row.path}[{row.start}:{row.end}]"

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        row = self.rows[index]
        length = (_length(row.path) if row.end is None else row.end) - row.start
        if length < frames:
            raise VideoError(f"{self.name(index)}: is too short, it has {length} of the {frames} frames of a piece")
        start = row.start + int(rng.integers(length - frames + 1))
        down, right, mirrored = rng.random(3)
        # frame by frame: a piece is small, the frames that it is cut from may be large
        read = read_clip(row.path, frames=frames, start=start, size=self._short(row.path, size), chunk=1)
        video = torch.cat([_cut(frame[0], size, down, right) for frame in read], 1)
        if video.shape[1] < frames:
            end = start + video.shape[1]
            raise VideoError(f"{self.name(index)}: ends at frame {end}; make the table again with vvae data check")
        return video.flip(3) if self.mirror and mirrored < 0.5 else video

    def _short(self, path: Path, size: int) -> int | None:
        """The short side in pixels after the resize, None where it stays."""
        if self.scale is not None:
            return round(size * self.scale)
        info = probe(path)
        return size if min(info.height, info.width) < size else None


@lru_cache(maxsize=2**20)
def _length(path: Path) -> int:
    """Frames of a file; where it does not say how many it has, all are decoded and counted."""
    known = probe(path).frames
    return sum(chunk.shape[2] for chunk in read_clip(path, size=16)) if known is None else known


def _cut(video: Tensor, size: int, down: float, right: float) -> Tensor:
    """The square of that size, `down` and `right` in [0, 1) of what is left free, of `3 t h w`; no view of it."""
    top, left = (int(share * (have - size + 1)) for share, have in zip((down, right), video.shape[2:], strict=True))
    return video[:, :, top : top + size, left : left + size].clone()


AnySource: TypeAlias = Annotated[ProceduralSpec | ClipsSpec, Field(discriminator="kind")]
"""A source of any kind."""
