"""Where training clips come from: a folder, a list or a CSV of files, or material that is made by a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F

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


class ClipsSpec(Spec):
    """Files: of a folder (those below it too), of a text file with a path in each line, or of a CSV.

    The CSV is what `vvae data check` writes: a row for each stretch without a cut, with `path`, `start` and `end` in
    frames; pieces never reach beyond their row. A folder of pictures alone is one clip. The short side becomes `scale`
    times the piece's side (if None it stays), then a random square is cut out; `mirror`: half of the pieces are
    mirrored. `first` and `most`: a part of the list.
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
            found = tuple(_listed(Path(self.path)))[self.first :][: self.most]
        except VideoError as error:
            raise SpecError(str(error), ("path",)) from None
        if not found:
            raise SpecError(f"{self.path} holds no clip from number {self.first} on; give a smaller one", ("first",))
        return found


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
        names = (line.strip() for line in path.read_text().splitlines())
        yield from (Row(path.parent / name) for name in names if name)
    else:
        yield from (Row(clip) for clip in clips_in(path).clips)


@dataclass(frozen=True)
class Files:
    """Clips in files, read as they are asked for."""

    rows: Sequence[Row]
    scale: float | None
    mirror: bool

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        row = self.rows[index]
        return f"{row.path}" if row.end is None and not row.start else f"{row.path}[{row.start}:{row.end}]"

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        row = self.rows[index]
        length = self._length(row)
        if length < frames:
            raise VideoError(f"{self.name(index)} has {length} frames; {frames} are wanted")
        start = row.start + int(rng.integers(length - frames + 1))
        short = None if self.scale is None else round(size * self.scale)
        chunks = list(read_clip(row.path, frames=frames, start=start, size=short, chunk=frames))
        video = torch.cat(chunks, 2)[0]
        if video.shape[1] < frames:
            raise VideoError(f"{self.name(index)} ends after {video.shape[1]} of the {frames} frames from {start} on")
        return self._cut(video, size, rng)

    def _length(self, row: Row) -> int:
        """Frames in a row; of a file that does not say how many it has, all are counted."""
        if row.end is not None:
            return row.end - row.start
        known = probe(row.path).frames
        if known is None:
            known = sum(chunk.shape[2] for chunk in read_clip(row.path, size=16))
        return known - row.start

    def _cut(self, video: Tensor, size: int, rng: np.random.Generator) -> Tensor:
        height, width = video.shape[2:]
        if min(height, width) < size:
            video = F.interpolate(video, scale_factor=size / min(height, width), mode="bicubic", antialias=True)
            video = video.clamp(-1, 1)
            height, width = video.shape[2:]
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        piece = video[:, :, top : top + size, left : left + size]
        return (piece.flip(3) if self.mirror and rng.random() < 0.5 else piece).contiguous()


AnySource: TypeAlias = Annotated[ProceduralSpec | ClipsSpec, Field(discriminator="kind")]
"""A source of any kind."""
