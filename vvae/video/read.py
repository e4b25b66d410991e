"""Clips in: what a file or a folder of pictures holds, and its frames as chunks, decoded as they are asked for.

Legal are mp4, mov, mkv, webm, avi, gif and whatever else in one file FFmpeg decodes; a folder of png, jpg, webp, tiff
or bmp pictures of one size and kind, in natural order; and a single picture, which is a clip of one frame. Frames come
as a player shows them: upright (rotation and flips of the display matrix, EXIF in pictures), with square pixels
(pixels of another shape are stretched along their longer side, Lanczos), transparent parts over black, and with the
matrix and range that the clip names. An untagged clip is BT.601 below 720 lines, else BT.709, in limited range.
Brightness stays as stored: HDR clips (PQ, HLG) are not tone mapped, wide primaries not converted; interlaced frames
stay interlaced. Cover art is not the clip. Frames of more than 2^26 pixels are refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from vvae.errors import VideoError
from vvae.video.colour import Picture
from vvae.video.container import DamagedError
from vvae.video.shape import fit
from vvae.video.source import ClipInfo, Shot, source
from vvae.video.times import given_rate

__all__ = ["ClipInfo", "probe", "read_clip", "read_timed"]


def probe(path: str | Path, stream: int | None = None, *, fps: float | Fraction | None = None) -> ClipInfo:
    """What the video stream `stream` (default: the best one) of a file holds, or a folder. Decodes one frame.

    fps: frames per second of a folder (default 25); of a file, in place of the rate that it states.

    Errors: VideoError where the file, the stream or its first frame cannot be read.
    """
    path = Path(path)
    with source(path, stream, _regular(path, fps)) as clip:
        return clip.info()


def read_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    start: int = 0,
    size: int | None = None,
    crop: int = 1,
    stream: int | None = None,
    chunk: int = 16,
    allow_partial: bool = False,
    fps: float | Fraction | None = None,
) -> Iterator[torch.Tensor]:
    """The frames of a clip as chunks `1 3 t h w`, float32 in [-1, 1], 1 <= t <= chunk; one chunk in memory.

    frames: at most this many. start: so many frames at the beginning are left out; most of them are not decoded where
    their number is known without (`vvae.video.seek`), so damage among them may stay unseen. size: the short side in
    pixels after a Lanczos resize that keeps the aspect (the other side is rounded). crop: both sides are cropped
    around the centre to multiples of it. stream: index among the file's streams (default: the best video stream).
    allow_partial: a damaged or missing end gives the frames before it instead of an error. fps: frames per second of
    a folder (default 25); of a file, in place of its own times; no frame is dropped or repeated for it.

    Errors: VideoError, from the first chunk on, where an argument is out of range, the file or stream cannot be read,
    a frame is damaged or of another size, the stream ends before the time that the file promises, or no frame is left.
    """
    timed = read_timed(
        path,
        frames=frames,
        start=start,
        size=size,
        crop=crop,
        stream=stream,
        chunk=chunk,
        allow_partial=allow_partial,
        fps=fps,
    )
    with closing(timed):
        for pictures, _ in timed:
            yield pictures


def read_timed(
    path: str | Path,
    *,
    frames: int | None = None,
    start: int = 0,
    size: int | None = None,
    crop: int = 1,
    stream: int | None = None,
    chunk: int = 16,
    allow_partial: bool = False,
    fps: float | Fraction | None = None,
) -> Generator[tuple[torch.Tensor, tuple[Fraction, ...]], None, None]:
    """As `read_clip`, with the presentation time of each frame in seconds beside its chunk.

    The first frame that is given is at 0, and times increase strictly: a frame without a time comes one frame after
    the one before; a time that is not later becomes one tick of the file's clock later; after a step back of more
    than a second the clock has started again.

    Errors: as `read_clip`.
    """
    for name, value in (("frames", frames), ("size", size), ("crop", crop), ("chunk", chunk)):
        if value is not None and value < 1:
            raise VideoError(f"{path}: {name} is {value}, it must be 1 or more")
    if start < 0:
        raise VideoError(f"{path}: start is {start}, it must be 0 or more")
    path = Path(path)
    with source(path, stream, _regular(path, fps)) as clip:
        painted = _painted(path, clip.shots(start), start, allow_partial)
        fitted = ((fit(path, picture, shot.aspect, size, crop), shot.time) for shot, picture in painted)
        wanted, first = islice(fitted, frames), None
        while held := list(islice(wanted, chunk)):
            pictures, times = zip(*held, strict=True)
            first = times[0] if first is None else first
            yield _tensor(pictures), tuple(time - first for time in times)


def _painted(path: Path, shots: Iterator[Shot], start: int, allow_partial: bool) -> Iterator[tuple[Shot, Picture]]:
    """The frames from `start` on, all of one size, at least one."""
    seen, shape = 0, None
    try:
        for shot in shots:
            seen = shot.number + 1
            if seen <= start:
                continue
            picture = shot.picture()
            shape = shape or picture.shape
            if picture.shape != shape:
                found, before = ("x".join(map(str, s[:2])) for s in (picture.shape, shape))
                raise VideoError(f"{path}: {shot.name} has {found} pixels, those before {before}, make all of one size")
            yield shot, picture
    except DamagedError:
        if not allow_partial:
            raise
    if 0 < seen <= start:
        raise VideoError(f"{path}: start is {start}, but the clip has {seen} frames, legal is 0 to {seen - 1}")
    if shape is None:
        raise VideoError(f"{path}: holds no frame that can be decoded, it is damaged or cut short")


def _regular(path: Path, fps: float | Fraction | None) -> Fraction | None:
    return None if fps is None else given_rate(path, fps)


def _tensor(pictures: Sequence[Picture]) -> torch.Tensor:
    """Pictures `h w 3` as `1 3 t h w` in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2)[None]
    return stacked.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
