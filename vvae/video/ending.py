"""Whether a stream ended where its file said that it would."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vvae.video.times import rate, seconds

# With the times of all frames known an end can be told from one that comes a frame too early, but not exactly: clocks
# are rounded. Without, a decoder that reorders frames may be two frames off.
_SURE, _UNSURE = Fraction(3, 4), Fraction(2)
_UNKNOWN_SIZE = 0xFFFF_FF00


class Ending:
    """Counts what comes out of a file, behind so many packets, and says at the end what is missing."""

    def __init__(self, path: Path, container: InputContainer, video: VideoStream, packets: int = 0) -> None:
        self.container, self.video = container, video
        self.packets = packets
        self.size = path.stat().st_size
        self._whole_size = _promised_size(path, container.format.name)
        self._end, self._tolerance = Fraction(0), _UNSURE

    @property
    def is_cut(self) -> bool:
        """Whether bytes are missing at the end of the file."""
        return self._whole_size > self.size

    def shown(self, pts: int | None, duration: int) -> None:
        """The next frame is shown at `pts`, for `duration` ticks (0: not known)."""
        self._tolerance = _SURE if pts is not None and duration else _UNSURE
        end = seconds(None if pts is None else pts + duration, self.video)
        self._end = self._end if end is None else end

    def missing_data(self) -> str | None:
        """What the file promises and does not hold, once all packets came; None where nothing is known to miss."""
        if self.is_cut:
            return f"{self.size} of {self._whole_size} bytes"
        # The index of mp4 knows what an edit list hides, which neither its number of frames nor its duration does.
        promised = len(self.video.index_entries) if self.container.format.name.startswith("mov") else 0
        return f"{self.packets} of {promised} packets" if self.packets < promised else None

    def missing_time(self) -> str | None:
        """The time that the file promises and its frames do not fill, once all came."""
        end = None if self.container.format.name.startswith("mov") else self._promised()
        if end is None or end - self._end <= self._tolerance / rate(self.video):
            return None
        return f"{float(self._end):.2f} of {float(end):.2f} seconds"

    def _promised(self) -> Fraction | None:
        """When the stream should end, in seconds, where the file says so."""
        if self.container.format.name == "avi":  # without its index the duration is that of what is left
            return seconds(self.video.frames, self.video) if self.video.frames else None
        if self.video.duration is not None:
            return seconds((self.video.start_time or 0) + self.video.duration, self.video)
        if self.container.duration is not None and len(self.container.streams) == 1:
            return Fraction((self.container.start_time or 0) + self.container.duration, av.time_base)
        return _stated_by_matroska(self.video.metadata.get("DURATION", ""))


def _promised_size(path: Path, demuxer: str) -> int:
    """How many bytes a file must have by its own words; 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
        if demuxer == "gif":
            file.seek(-min(path.stat().st_size, 1024), os.SEEK_END)
            return 0 if file.read().rstrip(b"\0\r\n ").endswith(b";") else path.stat().st_size + 1
    if demuxer == "avi":
        size = int.from_bytes(head[4:8], "little")
        return size if size < _UNKNOWN_SIZE else 0  # without its own 8 bytes: some writers do not count them
    return _promised_by_matroska(head) if demuxer.startswith("matroska") else 0


def _promised_by_matroska(head: bytes) -> int:
    """The end of the segment behind the EBML header: both have a name of four bytes, a length, and that much more."""
    place = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[place : place + 4] != name or not (first := head[place + 4 : place + 5]) or not first[0]:
            return 0
        width = 9 - first[0].bit_length()
        size = int.from_bytes(head[place + 4 : place + 4 + width], "big") & ~(1 << 7 * width)
        place += 4 + width + size
    return place if size != (1 << 7 * width) - 1 else 0  # all ones: a recording that did not know yet


def _stated_by_matroska(duration: str) -> Fraction | None:
    """Seconds of a text like 00:01:02.500000000."""
    hours, _, rest = duration.partition(":")
    minutes, _, last = rest.partition(":")
    try:
        return (int(hours) * 60 + int(minutes)) * 60 + Fraction(last)
    except (ValueError, ZeroDivisionError):
        return None
