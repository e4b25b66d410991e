"""Clips in: what a file holds, and its frames as chunks of constant size, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from vvae.errors import VideoError

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipInfo:
    """What one video stream of a file says about itself.

    stream: its index in the file; height, width: pixels, as shown (upright); fps: frames per second;
    frames: how many the file promises, None where it does not say.
    """

    path: Path
    stream: int
    height: int
    width: int
    fps: Fraction
    frames: int | None

    def fitted(self, size: int | None = None, crop: int = 1) -> tuple[int, int]:
        """(height, width) in pixels after a resize to the short side `size` and a crop to multiples of `crop`."""
        height, width = _resized(self.height, self.width, size)
        return height - height % crop, width - width % crop


def probe(path: str | Path, stream: int | None = None) -> ClipInfo:
    """What the video stream `stream` (default: the best one) of a file holds. Decodes one frame.

    Errors: VideoError where the file, the stream or its first frame cannot be read.
    """
    path = Path(path)
    with _opened(path, stream) as (container, video):
        first = next(_upright(_decoded(path, container, video)), None)
        if first is None:
            raise VideoError(f"{path}: holds no frame that can be decoded, the file is damaged or cut short")
        height, width = first.shape[:2]
        return ClipInfo(path, video.index, height, width, _rate(video), _promised_frames(video))


def read_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    size: int | None = None,
    crop: int = 1,
    stream: int | None = None,
    chunk: int = 16,
) -> Iterator[torch.Tensor]:
    """The frames of a clip as chunks `1 3 t h w`, float32 in [-1, 1], 1 <= t <= chunk; one chunk in memory.

    frames: at most this many, from the start. size: the short side in pixels after a Lanczos resize that keeps
    the aspect (the other side is rounded). crop: both sides are cropped around the centre to multiples of it.
    stream: index among the file's streams (default: the best video stream).

    Errors: VideoError, from the first chunk on, where an argument is below 1, the file or stream cannot be read, a
    frame is damaged, or the stream ends before the time that the file promises.
    """
    for name, value in (("frames", frames), ("size", size), ("crop", crop), ("chunk", chunk)):
        if value is not None and value < 1:
            raise VideoError(f"{path}: {name} is {value}, it must be 1 or more")
    path = Path(path)
    with _opened(path, stream) as (container, video):
        pictures = (_fit(path, picture, size, crop) for picture in _upright(_decoded(path, container, video)))
        wanted = islice(pictures, frames)
        while held := list(islice(wanted, chunk)):
            yield _tensor(path, held)


@contextmanager
def _opened(path: Path, stream: int | None) -> Iterator[tuple[InputContainer, VideoStream]]:
    if not path.is_file():
        raise VideoError(f"{path}: {'is not a file' if path.exists() else 'no such file'}, give the path of a clip")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty, give the path of a clip")
    try:
        # Metadata in an unknown encoding is no reason to refuse the frames.
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: is not a video file that FFmpeg can open ({error.strerror})") from error
    with container:
        video = _chosen(path, container, stream)
        # FFmpeg's own threads next to those of torch can hang.
        video.codec_context.thread_count = 1
        yield container, video


def _chosen(path: Path, container: InputContainer, index: int | None) -> VideoStream:
    videos = {stream.index: stream for stream in container.streams.video}
    if not videos:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{path}: holds no video stream (found: {found}), give the path of a clip")
    if index is None:
        best = container.streams.best("video")
        return videos[best.index] if best is not None else next(iter(videos.values()))
    if index not in videos:
        raise VideoError(f"{path}: stream {index} is not a video stream, choose one of {sorted(videos)}")
    return videos[index]


def _decoded(path: Path, container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """All frames, or a VideoError where one is damaged or the stream ends too early."""
    count, end = 0, Fraction(0)
    try:
        for packet in container.demux(video):
            if packet.is_corrupt:
                raise VideoError(f"{path}: is damaged or cut short after frame {count}")
            for frame in packet.decode():
                if not isinstance(frame, VideoFrame) or frame.is_corrupt:
                    raise VideoError(f"{path}: frame {count} is damaged")
                yield frame
                count, end = count + 1, _end(frame, video)
    except av.FFmpegError as error:
        message = f"{path}: cannot be decoded after {count} frames ({error.strerror}), it is damaged or cut short"
        raise VideoError(message) from error
    promised = _promised_end(container, video)
    if promised is not None and promised - end > 2 / _rate(video):
        seconds = f"{float(end):.2f} of {float(promised):.2f} seconds"
        raise VideoError(f"{path}: ends after {count} frames ({seconds}), the file is cut short")


def _end(frame: VideoFrame, video: VideoStream) -> Fraction:
    """When the frame leaves the screen, in seconds."""
    if frame.pts is None or frame.time_base is None:
        return Fraction(0)
    return (frame.pts + frame.duration) * frame.time_base if frame.duration else frame.pts * frame.time_base


def _promised_end(container: InputContainer, video: VideoStream) -> Fraction | None:
    """When the stream should end, in seconds, where the file says so. The number of frames would not do: a file that
    was trimmed without re-encoding still counts the frames that it no longer shows."""
    if video.duration is not None and video.time_base is not None:
        return ((video.start_time or 0) + video.duration) * video.time_base
    if container.duration is not None and len(container.streams) == 1:
        return Fraction((container.start_time or 0) + container.duration, av.time_base)
    return None


def _promised_frames(video: VideoStream) -> int | None:
    if video.duration is None or video.time_base is None:
        return video.frames or None
    by_time = round(video.duration * video.time_base * _rate(video))
    return min(by_time, video.frames or by_time)


def _rate(video: VideoStream) -> Fraction:
    return video.average_rate or video.guessed_rate or Fraction(25)


def _upright(frames: Iterator[VideoFrame]) -> Iterator[Picture]:
    """Pictures `h w 3` as a player shows them: a telephone stores its clips lying, with a rotation."""
    turns: int | None = None
    for frame in frames:
        # Some files tell the rotation with the first frame only.
        turns = round(frame.rotation / 90) if turns is None else turns
        yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns), dtype=np.uint8)


def _resized(height: int, width: int, size: int | None) -> tuple[int, int]:
    if size is None:
        return height, width
    short = min(height, width)
    return max(1, round(height * size / short)), max(1, round(width * size / short))


def _fit(path: Path, picture: Picture, size: int | None, crop: int) -> Picture:
    height, width = _resized(picture.shape[0], picture.shape[1], size)
    if (height, width) != picture.shape[:2]:
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        picture = np.asarray(resized, dtype=np.uint8)
    if min(height, width) < crop:
        raise VideoError(f"{path}: {height}x{width} pixels cannot be cropped to multiples of {crop}")
    top, left = height % crop // 2, width % crop // 2
    return picture[top : top + height - height % crop, left : left + width - width % crop]


def _tensor(path: Path, pictures: list[Picture]) -> torch.Tensor:
    if len({picture.shape for picture in pictures}) > 1:
        raise VideoError(f"{path}: the size of the frames changes on the way, convert the clip first")
    stacked = torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2)[None]
    return stacked.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
