"""Where frames come from: a video file, or pictures in a folder, behind one face."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vvae.errors import VideoError
from vvae.video.colour import Painter, Picture, is_hdr
from vvae.video.container import decoded, opened, promised_frames
from vvae.video.folder import is_folder, is_picture, load, pictures_of
from vvae.video.seek import decoded_near
from vvae.video.shape import Orientation, orientation, resized, square
from vvae.video.times import Clock, rate

FOLDER_FPS = Fraction(25)


@dataclass(frozen=True)
class ClipInfo:
    """What one video stream of a file, or a folder of pictures, says about itself.

    stream: its index in the file; height, width: pixels, as shown (upright and square); fps: frames per second, the
    mean where the rate varies; frames: how many the file promises, None where it does not say; audio: whether there
    is sound; rate_is_constant: False where the mean rate is not the file's base rate, so that frames have times of
    their own; hdr: the transfer is PQ or HLG.
    """

    path: Path
    stream: int
    height: int
    width: int
    fps: Fraction
    frames: int | None
    audio: bool = False
    rate_is_constant: bool = True
    hdr: bool = False

    def fitted(self, size: int | None = None, crop: int = 1) -> tuple[int, int]:
        """(height, width) in pixels after a resize to the short side `size` and a crop to multiples of `crop`."""
        height, width = resized(self.height, self.width, size)
        return height - height % crop, width - width % crop


class Shot(NamedTuple):
    """One frame: its number and name, when it is shown in seconds, its upright picture on demand, its pixels' shape."""

    number: int
    name: str
    time: Fraction
    picture: Callable[[], Picture]
    aspect: Fraction | None = None


class Source(Protocol):
    """A clip that is open."""

    def info(self) -> ClipInfo:
        """Decodes one frame. Errors: VideoError where there is none."""

    def shots(self, first: int = 0) -> Iterator[Shot]:
        """All frames from number `first` on, once, and maybe some of those before; times increase strictly.

        Errors: DamagedError where a frame cannot be decoded.
        """


@contextmanager
def source(path: Path, stream: int | None, fps: Fraction | None) -> Iterator[Source]:
    """What lies at `path`. fps: in place of the clip's own times; of a folder 25 unless given.

    Errors: VideoError where it is neither a video file, a folder of pictures nor a picture, or has no such stream.
    """
    if is_folder(path) or is_picture(path):
        if stream not in (None, 0):
            raise VideoError(f"{path}: pictures have no stream {stream}, leave it out")
        yield _Pictures(path, pictures_of(path), fps or FOLDER_FPS)
        return
    with opened(path, stream) as (container, video):
        yield _File(path, container, video, fps)


class _Pictures:
    def __init__(self, path: Path, pictures: Sequence[Path], fps: Fraction) -> None:
        self.path, self.pictures, self.fps = path, pictures, fps

    def info(self) -> ClipInfo:
        height, width = load(self.pictures[0]).shape[:2]
        return ClipInfo(self.path, 0, height, width, self.fps, len(self.pictures))

    def shots(self, first: int = 0) -> Iterator[Shot]:
        for index, path in enumerate(self.pictures):
            yield Shot(index, path.name, index / self.fps, partial(load, path))


class _File:
    def __init__(self, path: Path, container: InputContainer, video: VideoStream, fps: Fraction | None) -> None:
        self.path, self.container, self.video, self.fps = path, container, video, fps
        self._painter = Painter(path)
        self._turned: Orientation | None = None

    def info(self) -> ClipInfo:
        first = next(decoded(self.path, self.container, self.video), None)
        if first is None:
            raise VideoError(f"{self.path}: holds no frame that can be decoded, the file is damaged or cut short")
        height, width = self._upright(first.frame).shape[:2]
        mean, base = (Fraction(x or 0) for x in (self.video.average_rate, self.video.base_rate))
        return ClipInfo(
            self.path,
            self.video.index,
            *square(height, width, self._aspect()),
            self.fps or rate(self.video),
            promised_frames(self.video),
            audio=bool(self.container.streams.audio),
            rate_is_constant=self.fps is not None or mean == base,
            hdr=is_hdr(first.frame),
        )

    def shots(self, first: int = 0) -> Iterator[Shot]:
        tick = Fraction(self.video.time_base) if self.video.time_base else None
        for index, (frame, time) in decoded_near(self.path, self.container, self.video, first):
            if index == 0:
                clock = Clock(self.fps or rate(self.video), tick)
            if self._turned is None:  # some files tell the rotation with the first frame only
                self._turned = orientation(frame)
            shown = clock.shown(time if self.fps is None else index / self.fps)
            yield Shot(index, f"frame {index}", shown, partial(self._upright, frame), self._aspect())

    def _upright(self, frame: VideoFrame) -> Picture:
        self._turned = self._turned or orientation(frame)
        return self._turned.upright(self._painter.paint(frame))

    def _aspect(self) -> Fraction | None:
        stored = self.video.sample_aspect_ratio
        if not stored or stored < 0 or self._turned is None or not self._turned.transposed:
            return Fraction(stored) if stored else None
        return 1 / Fraction(stored)
