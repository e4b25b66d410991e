"""The sound of one clip for another: packets, not encoded anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from vvae.errors import VideoError
from vvae.video.container import open_file


class Sound:
    """The packets of a clip's first audio stream from `start` on for `seconds` (None: as long as they are asked for).

    Time zero is that of the clip's first picture, so that `start` means the same as in its frames. Whole packets
    (about 20 milliseconds) that begin inside the range are taken, at their exact distance to the pictures.
    """

    def __init__(self, path: Path, container: InputContainer, start: Fraction, seconds: Fraction | None) -> None:
        if not container.streams.audio:
            raise VideoError(f"{path}: holds no sound, leave audio_from out or give a clip with sound")
        self.path, self.container, self.seconds = path, container, seconds
        self.stream = container.streams.audio[0]
        # PyAV leaves out the context of a codec that FFmpeg does not know.
        context: CodecContext | None = self.stream.codec_context
        if context is None:
            raise VideoError(f"{path}: its sound is in a codec that FFmpeg does not know, leave audio_from out")
        self.codec = context.codec.canonical_name
        self._zero = _first_picture(container) + start
        self._coming = self._packets()
        self._next: tuple[Fraction, Packet[AudioStream]] | None = None

    def join(self, path: Path, target: OutputContainer) -> None:
        """Adds the stream to a file that is being written. Errors: VideoError where it cannot take the codec."""
        try:
            self._target = target.add_stream_from_template(self.stream)
        except (ValueError, av.FFmpegError) as error:
            found = f"sound in {self.codec} (from {self.path})"
            raise VideoError(f"{path}: {target.format.name} cannot hold {found}, write a .mkv instead") from error
        self._next = next(self._coming, None)

    def until(self, time: Fraction) -> Iterator[Packet[AudioStream]]:
        """The next packets, those that begin before `time`, in seconds of the new clip."""
        end = time if self.seconds is None else min(time, self.seconds)
        while self._next is not None and self._next[0] < end:
            yield self._next[1]
            self._next = next(self._coming, None)

    def _packets(self) -> Iterator[tuple[Fraction, Packet[AudioStream]]]:
        """Packets from time zero on with their time in seconds, moved there, for the stream that was joined."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.pts is None or packet.dts is None:  # the empty packet at the end
                    continue
                offset = round(self._zero / packet.time_base)
                time = (packet.pts - offset) * Fraction(packet.time_base)
                if time >= 0:
                    packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                    packet.stream = self._target
                    yield time, packet
        except av.FFmpegError as error:
            raise VideoError(f"{self.path}: its sound is damaged ({error.strerror}), leave audio_from out") from error


@contextmanager
def sound_of(path: Path, start: float | Fraction, seconds: float | Fraction | None) -> Iterator[Sound]:
    """The sound of a clip. Errors: VideoError where it cannot be read, holds no sound, or a time is below zero."""
    for name, value in (("audio_start", start), ("audio_seconds", seconds)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise VideoError(f"{path}: {name} is {value}, it must be 0 or more")
    with open_file(path) as container:
        yield Sound(path, container, Fraction(start), None if seconds is None else Fraction(seconds))


def _first_picture(container: InputContainer) -> Fraction:
    """When the pictures of a clip begin, in seconds; where it has none, its sound."""
    first = next(iter((*container.streams.video, *container.streams.audio)))
    return (first.start_time or 0) * Fraction(first.time_base or 0)
