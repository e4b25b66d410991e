"""Where written pictures go: a video file with one stream and perhaps sound, or a folder of PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from PIL import Image

from vvae.errors import VideoError
from vvae.video.colour import Picture
from vvae.video.formats import Format
from vvae.video.palette import indexed
from vvae.video.sound import Sound
from vvae.video.whole import whole_file, whole_folder

_AS_JPEG = Colorspace.ITU601, ColorRange.JPEG  # what JFIF fixes; RGB takes no notice


class Sink(Protocol):
    """Takes the pictures of a clip in their order."""

    def put(self, picture: Picture, time: Fraction | None) -> None:
        """Appends a picture `h w 3`. time: when it is shown, in seconds; None: one frame after the one before."""

    def finish(self, end: Fraction) -> None:
        """After the last picture, which leaves the screen at `end` seconds."""


@contextmanager
def folder_sink(path: Path) -> Iterator[Sink]:
    """A folder of 000000.png, 000001.png and so on; it has no clock, times are not kept."""
    try:
        with whole_folder(path, "choose another folder") as part:
            yield _Folder(part)
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror})") from error


class _Folder:
    def __init__(self, part: Path) -> None:
        self.part, self.count = part, 0

    def put(self, picture: Picture, time: Fraction | None) -> None:
        Image.fromarray(picture).save(self.part / f"{self.count:06d}.png")
        self.count += 1

    def finish(self, end: Fraction) -> None:
        """Every picture is on the disk already."""


@dataclass(frozen=True)
class Plan:
    """What video file is to be written: fps: frames per second where no times are given; size: (height, width)."""

    path: Path
    form: Format
    fps: Fraction
    size: tuple[int, int]
    quality: int | None = None


@contextmanager
def file_sink(plan: Plan, sound: Sound | None) -> Iterator[Sink]:
    """A video file, complete or not at all.

    Errors: VideoError where it cannot be written or hold the sound, or times are closer than the container's clock.
    """
    options = plan.form.encoder_options(plan.path, plan.quality)
    try:
        with (
            whole_file(plan.path) as part,
            av.open(str(part), "w", format=plan.form.muxer, options=dict(plan.form.container_options)) as container,
        ):
            yield _File(plan, container, options, sound)
    except UnknownCodecError:
        told = f"this FFmpeg cannot encode {plan.form.codec}; choose another ending (`vvae doctor` says which work)"
        raise VideoError(f"{plan.path}: cannot be written: {told}") from None
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{plan.path}: cannot be written ({error.strerror})") from error


class _File:
    def __init__(self, plan: Plan, container: OutputContainer, options: dict[str, str], sound: Sound | None) -> None:
        self.plan, self.container, self.sound = plan, container, sound
        self.video = cast(VideoStream, container.add_stream(plan.form.codec, plan.fps, options=options))
        self._describe(self.video.codec_context)
        if sound is not None:
            sound.join(plan.path, container)
        self._tick: Fraction | None = None
        self._pts = -1

    def _describe(self, codec: VideoCodecContext) -> None:
        codec.height, codec.width = self.plan.size
        codec.pix_fmt = self.plan.form.pixels
        if self.plan.form.subsampled:
            codec.colorspace = Colorspace.ITU709
            codec.color_range = ColorRange.MPEG
            codec.color_primaries = ColorPrimaries.BT709
            codec.color_trc = ColorTrc.BT709

    def put(self, picture: Picture, time: Fraction | None) -> None:
        if self._tick is None:
            self._tick = self._clock(given=time is not None)
        frame = self._frame(picture)
        frame.pts = self._pts = self._place(time, self._tick)
        if self.sound is not None:
            self.container.mux(list(self.sound.until(frame.pts * self._tick)))
        self.container.mux(self.video.encode(frame))

    def finish(self, end: Fraction) -> None:
        self.container.mux(self.video.encode(None))
        if self.sound is not None:
            self.container.mux(list(self.sound.until(end)))

    def _clock(self, given: bool) -> Fraction:
        """The unit of `pts` in seconds: a frame where they are regular, else the finest that the container holds."""
        tick, fps = self.plan.form.tick, self.plan.fps
        if tick is not None and tick * fps > 1:
            raise VideoError(f"{self.plan.path}: {fps} frames per second are too many, {1 / tick} or less are legal")
        if tick is None or not given:
            return 1 / fps
        self.video.codec_context.time_base = tick
        return tick

    def _place(self, time: Fraction | None, tick: Fraction) -> int:
        if time is None or self.plan.form.tick is None:
            return self._pts + 1
        pts = round(time / tick)
        if pts <= self._pts:
            found = f"a frame at {float(time)} s comes less than the clock's {float(tick)} s after the one before"
            raise VideoError(f"{self.plan.path}: {found}, write a .mp4 or fewer frames")
        return pts

    def _frame(self, picture: Picture) -> VideoFrame:
        pixels = self.plan.form.pixels
        if pixels == "pal8":
            return indexed(picture)
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        space, span = (Colorspace.ITU709, ColorRange.MPEG) if self.plan.form.subsampled else _AS_JPEG
        return frame.reformat(format=pixels, dst_colorspace=space, dst_color_range=span)
