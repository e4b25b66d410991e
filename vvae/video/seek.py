"""Frames from the middle of a file, without decoding all before: only where their numbers stay what they are.

A frame's number is how many frames come before it when all are decoded, which no container says. It is known where
all packets have times of their own, and some are entries: pictures of H.264 or H.265 that nothing behind them looks
back beyond (IDR), with all packets before shown before, and all behind shown later. Then as many frames come before
an entry as packets do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from heapq import heappop, heappush
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vvae.errors import VideoError
from vvae.video.container import Timed, decoded, opened

Entries: TypeAlias = Mapping[tuple[int, int], int]
"""By time and size of the packet, the number of the frame."""


class Units(NamedTuple):
    """How pieces of a packet say what they are: where the extradata has the width of their lengths, their kinds."""

    width_at: int
    shift: int
    mask: int
    slices: range
    idr: tuple[int, ...]


_FORMATS = ("mov", "matroska")
"""That have a time for each frame; as FFmpeg calls them."""
_UNITS = {"h264": Units(4, 0, 31, range(1, 6), (5,)), "hevc": Units(21, 1, 63, range(32), (19, 20))}


def decoded_near(path: Path, container: InputContainer, video: VideoStream, first: int) -> Iterator[tuple[int, Timed]]:
    """Frames with their numbers: 0, since it may tell how all are turned, then those from one not after `first` on.

    Where what comes is not what the packets promised, all come, from 0 on.

    Errors: as `decoded`.
    """
    entries = _entries(path, video.index, first) if first else {}
    if not any(entries.values()):
        yield from enumerate(decoded(path, container, video))
        return
    with closing(decoded(path, container, video)) as frames:
        yield from enumerate(islice(frames, 1))
    at = 0
    try:
        for at, shown in _from(path, container, video, entries, first):
            yield at, shown
    except (VideoError, av.FFmpegError):
        if at >= first:
            raise
    if at < first:
        with opened(path, video.index) as again:
            yield from enumerate(decoded(path, *again))


def _from(
    path: Path, container: InputContainer, video: VideoStream, entries: Entries, first: int
) -> Iterator[tuple[int, Timed]]:
    """Frames from the last entry on; none any more where one up to `first` is not that of its packet."""
    container.seek(max(pts for pts, _ in entries), stream=video)
    packets = container.demux(video)
    head = next(packets, None)
    entry = None if head is None or head.pts is None else entries.get((head.pts, head.size))
    if head is None or entry is None:
        return
    sent: list[int] = []
    frames = decoded(path, container, video, _noted(chain([head], packets), sent), entry)
    for at, shown in enumerate(frames, entry):
        # a frame comes when all that are shown before it have been sent
        if at <= first and (not sent or heappop(sent) != shown.frame.pts):
            return
        yield at, shown


def _noted(packets: Iterator[Packet[VideoStream]], sent: list[int]) -> Iterator[Packet[VideoStream]]:
    """The packets, whose times are put on a heap."""
    for packet in packets:
        if packet.pts is not None:
            heappush(sent, packet.pts)
        yield packet


def _entries(path: Path, stream: int, first: int) -> Entries:
    """The entries up to a frame; none where a frame's number is not sure."""
    entries: dict[tuple[int, int], int] = {}
    times, start, latest, count = set[int](), 0, 0, 0
    turned = False
    with opened(path, stream) as (container, video):
        if video.codec_context.name not in _UNITS or not container.format.name.startswith(_FORMATS):
            return {}
        for count, packet in enumerate(_packets(container, video, first + 1), 1):
            pts = packet.pts
            if pts is None or packet.is_discard or packet.is_corrupt:
                return {}
            if packet.is_keyframe and (not entries or pts > latest) and _is_idr(video, bytes(packet)):
                entries[pts, packet.size] = count - 1
                times, start, latest = set(), pts, pts
            if not entries or pts < start or pts in times:
                return {}
            times.add(pts)
            turned, latest = turned or pts < latest, max(latest, pts)
        # where a file has no times of frames that come in another order, FFmpeg counts the packets
        invented = video.codec_context.has_b_frames and not turned
    return {} if invented or count <= first else entries


def _packets(container: InputContainer, video: VideoStream, most: int) -> Iterator[Packet[VideoStream]]:
    """The first packets, up to one that cannot be read."""
    with suppress(av.FFmpegError):
        yield from islice(container.demux(video), most)


def _is_idr(video: VideoStream, data: bytes) -> bool:
    """Whether the first slice of a packet is of a picture that nothing behind it looks back beyond."""
    rule = _UNITS[video.codec_context.name]
    extra = video.codec_context.extradata or b""
    width = (extra[rule.width_at] & 3) + 1 if len(extra) > rule.width_at and extra[0] == 1 else 0
    kinds = (head >> rule.shift & rule.mask for head in (_after_lengths(data, width) if width else _after_marks(data)))
    return next((kind for kind in kinds if kind in rule.slices), None) in rule.idr


def _after_lengths(data: bytes, width: int) -> Iterator[int]:
    """The first byte of each piece, led by its length in so many bytes."""
    place = 0
    while place + width < len(data):
        yield data[place + width]
        place += width + int.from_bytes(data[place : place + width], "big")


def _after_marks(data: bytes) -> Iterator[int]:
    """The first byte of each piece, led by 0, 0, 1."""
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        yield data[place + 3]
        place = data.find(b"\0\0\1", place + 3)
