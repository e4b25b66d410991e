"""Clips out: the format follows the suffix; what was written appears when it is complete."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import torch
from torch.nn import functional as F

from vvae.errors import VideoError
from vvae.video.colour import Picture
from vvae.video.formats import format_of
from vvae.video.sink import Plan, Sink, file_sink, folder_sink
from vvae.video.sound import sound_of
from vvae.video.times import given_rate


class ClipWriter:
    """Writes chunks of frames into one clip.

        with ClipWriter("out.mp4", fps=25, size=(256, 384)) as clip:
            clip.write(frames)                     # 1 3 t h w in [-1, 1]

    | path             | codec                    | quality, best to worst (default) | times are kept to      |
    |------------------|--------------------------|----------------------------------|------------------------|
    | .mp4, .mov       | H.264, yuv420p, BT.709   | 0 to 51 (16), CRF                | 1/5760000 s            |
    | .webm            | VP9, yuv420p, BT.709     | 0 to 63 (20), CRF                | 1 ms                   |
    | .avi             | Motion JPEG, yuvj444p    | 1 to 31 (2), quantiser           | not at all: regular    |
    | .mkv             | FFV1, RGB                | lossless                         | 1 ms                   |
    | .gif             | a palette for each frame | lossless up to 256 colours       | 10 ms                  |
    | no suffix or "/" | a folder of PNG          | lossless                         | not at all: no clock   |

    fps: frames per second where no times are given. size: (height, width) in pixels. yuv420p stores even sides only:
    of an odd side the last row or column is stored twice. What is written appears when the block ends without an
    error; otherwise nothing is left.

    audio_from: a clip whose first audio stream is copied without encoding, in whole packets that begin between
    `audio_start` and `audio_start + audio_seconds` of that clip, at most as long as the frames last. Time zero is that
    of the clip's first picture.

    Errors: VideoError where an argument is out of range, the path cannot be written, or there is no sound to copy or
    the container cannot hold it.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | Fraction,
        size: tuple[int, int],
        *,
        quality: int | None = None,
        audio_from: str | Path | None = None,
        audio_start: float | Fraction = 0.0,
        audio_seconds: float | Fraction | None = None,
    ) -> None:
        self.path = Path(path)
        self.fps = given_rate(path, fps)
        self.size = size
        self.frames = 0
        self.quality = quality
        self.audio = None if audio_from is None else (Path(audio_from), audio_start, audio_seconds)
        self.format = None if str(path).endswith("/") or not self.path.suffix else format_of(self.path)
        if self.format is None and quality is not None:
            raise VideoError(f"{path}: quality is {quality}, but a lossless folder has none, leave it out")
        if self.audio is not None and (self.format is None or not self.format.sound):
            raise VideoError(f"{path}: holds no sound, write a .mp4 or .mkv or leave audio_from out")
        self._last: Fraction | None = None
        self._session = self._write_whole()

    def __enter__(self) -> ClipWriter:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def write(self, frames: torch.Tensor, times: Sequence[float | Fraction] | None = None) -> None:
        """Appends frames `1 3 t h w`, clamped to [-1, 1]. times: when each is shown, in seconds, from 0 on.

        Errors: VideoError for another shape, for times that do not increase, and for times with some frames only.
        """
        legal = (1, 3, frames.shape[2] if frames.ndim == 5 else "t", *self.size)
        if tuple(frames.shape) != legal:
            raise VideoError(f"{self.path}: frames of shape {tuple(frames.shape)} cannot be written, legal is {legal}")
        for picture, time in zip(self._pictures(frames), self._checked(times, frames.shape[2]), strict=True):
            self._sink.put(picture, time)
            self.frames += 1

    def _checked(self, times: Sequence[float | Fraction] | None, count: int) -> Iterator[Fraction | None]:
        """One time, or None, for each of `count` frames."""
        if count and self.frames and (times is None) != (self._last is None):
            raise VideoError(f"{self.path}: some frames have times and others none, give all or none")
        if times is None:
            yield from [None] * count
            return
        if len(times) != count:
            raise VideoError(f"{self.path}: {len(times)} times for {count} frames, give one for each")
        for time in times:
            if not math.isfinite(time) or time < 0 or (self._last is not None and time <= self._last):
                last = "0" if self._last is None else f"above {float(self._last)}"
                raise VideoError(f"{self.path}: frame {self.frames} is shown at {time} s, legal is {last} or later")
            self._last = Fraction(time)
            yield self._last

    @contextmanager
    def _write_whole(self) -> Iterator[None]:
        with ExitStack() as stack:
            sound = None if self.audio is None else stack.enter_context(sound_of(*self.audio))
            self._sink: Sink
            if self.format is None:
                self._sink = stack.enter_context(folder_sink(self.path))
            else:
                plan = Plan(self.path, self.format, self.fps, self._stored, self.quality)
                self._sink = stack.enter_context(file_sink(plan, sound))
            yield
            if self.frames == 0:
                raise VideoError(f"{self.path}: no frame was written, a clip needs one at least")
            start = self.frames - 1 if self._last is None else self._last * self.fps
            self._sink.finish((start + 1) / self.fps)

    @property
    def _stored(self) -> tuple[int, int]:
        """(height, width) in pixels of what is encoded."""
        grid = 2 if self.format is not None and self.format.subsampled else 1
        height, width = (side + side % grid for side in self.size)
        return height, width

    def _pictures(self, frames: torch.Tensor) -> Iterator[Picture]:
        """`1 3 t h w` in [-1, 1] to pictures `h w 3`, 0 to 255, as large as what is stored."""
        scaled = frames[0].transpose(0, 1).detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round()
        height, width = self._stored
        grown = F.pad(scaled, (0, width - self.size[1], 0, height - self.size[0]), mode="replicate")
        yield from grown.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
