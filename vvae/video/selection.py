"""Which frames of which clip: said once, read from any of them on, recognised again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vvae.errors import VideoError
from vvae.video.read import ClipInfo, probe, read_timed

Shown = tuple[torch.Tensor, Fraction | None]

_PIECE, _PIECES = 2**20, 64


@dataclass(frozen=True)
class Selection:
    """A part of a clip.

    start: so many frames are left out first. frames: at most this many. size: short side in pixels after a resize.
    stream: index among the file's streams. allow_partial: a damaged end gives the frames before it.
    """

    path: Path
    frames: int | None = None
    start: int = 0
    size: int | None = None
    stream: int | None = None
    allow_partial: bool = False

    @cached_property
    def info(self) -> ClipInfo:
        """Errors: VideoError where the clip cannot be read."""
        return probe(self.path, self.stream)

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of the frames that come."""
        return self.info.fitted(self.size)

    @property
    def promised(self) -> int | None:
        """How many frames should come, None where the file does not say."""
        if self.info.frames is None:
            return None
        left = max(0, self.info.frames - self.start)
        return left if self.frames is None else min(left, self.frames)

    def refuse_nothing(self) -> None:
        """VideoError where the clip cannot be read, or says itself that no frame is left after `start`."""
        if self.promised == 0:
            raise VideoError(f"{self.path}: has {self.info.frames} frames, none is left after the first {self.start}")

    def shown(self, done: int = 0, at: Fraction | None = None) -> Iterator[Shown]:
        """Frames `1 3 1 h w` in [-1, 1] after the first `done`, and when each is shown, in seconds from the first.

        Times are None where the rate is constant: the frame's number says all. at: the time of frame `done` - 1.

        Errors: as `read_timed`.
        """
        timed = not self.info.rate_is_constant
        seam = 1 if timed and done else 0  # that frame is read again: only the time since it is known
        chunks = read_timed(
            self.path,
            frames=None if self.frames is None else self.frames - done + seam,
            start=self.start + done - seam,
            size=self.size,
            stream=self.stream,
            allow_partial=self.allow_partial,
            chunk=4,
        )
        for chunk, times in chunks:
            for frame, time in zip(chunk.split(1, dim=2), times, strict=True):
                if time or not seam:
                    yield frame, (at or 0) + time if timed else None

    @cached_property
    def digest(self) -> str:
        """Of the clip's content: all of it, or 64 evenly spread pieces of a file of more than 64 MiB."""
        files = sorted(path for path in self.path.iterdir() if path.is_file()) if self.path.is_dir() else [self.path]
        total = hashlib.sha256()
        for file in files:
            total.update(f"{file.name if self.path.is_dir() else ''} {file.stat().st_size}\n".encode())
            for piece in _pieces(file):
                total.update(piece)
        return total.hexdigest()

    def fingerprint(self) -> dict[str, Any]:
        """What decides which frames come."""
        return {
            "clip": self.digest,
            "start": self.start,
            "frames": self.frames,
            "size": self.size,
            "stream": self.stream,
            "allow_partial": self.allow_partial,
        }


def _pieces(file: Path) -> Iterator[bytes]:
    length = file.stat().st_size
    step = max(_PIECE, (length - _PIECE) // (_PIECES - 1))
    with file.open("rb") as opened:
        for offset in range(0, length, step):
            opened.seek(offset)
            yield opened.read(_PIECE)
