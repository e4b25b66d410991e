"""Video files: opened with care, one stream chosen, its frames decoded one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vvae.errors import VideoError
from vvae.video.ending import Ending
from vvae.video.shape import MOST_PIXELS, refuse_huge
from vvae.video.times import rate, seconds

# Playlists are left out: a file that names other files or addresses is no clip.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,asf,flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,av1,ivf,ogg,"
    "mxf,nut,dv,rm,yuv4mpegpipe,mjpeg,aac,mp3,wav,flac"
)
_OPTIONS = {"max_pixels": str(MOST_PIXELS)}


class DamagedError(VideoError):
    """What comes next cannot be decoded; the frames before it are good."""


class Timed(NamedTuple):
    """A frame and its presentation time in seconds, None where the file does not say."""

    frame: VideoFrame
    time: Fraction | None


@contextmanager
def opened(path: Path, stream: int | None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and the video stream `stream` of it, by index; None takes the best one. One decoding thread.

    Errors: VideoError where it is no video file, holds no such stream, or its frames are larger than 2^26 pixels.
    """
    with open_file(path) as container:
        video = _chosen(path, container, stream)
        # FFmpeg's own threads next to those of torch can hang.
        video.codec_context.thread_count = 1
        video.codec_context.options = dict(_OPTIONS)
        yield container, video


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """A file for demuxing. Errors: VideoError where it is not a regular file with something that FFmpeg can read."""
    try:
        refuse_all_but_files(path)
        container = av.open(
            # Absolute: a relative name may look like an address to FFmpeg. Metadata in an unknown encoding is no
            # reason to refuse the frames.
            str(path.absolute()),
            options=_OPTIONS,
            container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except PermissionError as error:
        raise VideoError(f"{path}: cannot be read (permission denied), allow it or give another clip") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: is not a video file that FFmpeg can open ({error.strerror})") from error
    with container:
        yield container


def refuse_all_but_files(path: Path) -> None:
    """Errors: VideoError where there is no regular file (a pipe or a device would hang), or it is empty."""
    if not path.is_file():
        raise VideoError(f"{path}: {'is not a file' if path.exists() else 'no such file'}, give the path of a clip")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty, give the path of a clip")


def _chosen(path: Path, container: InputContainer, index: int | None) -> VideoStream:
    covers = [stream.index for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    videos = {stream.index: stream for stream in container.streams.video if stream.index not in covers}
    if not videos:
        kinds = {"cover picture" if stream.index in covers else stream.type for stream in container.streams}
        found = ", ".join(sorted(kinds)) or "nothing"
        raise VideoError(f"{path}: holds no video stream (found: {found}), give the path of a clip")
    if index is None:
        best = container.streams.best("video")
        index = best.index if best is not None and best.index in videos else next(iter(videos))
    if index not in videos:
        raise VideoError(f"{path}: stream {index} is not a video stream, choose one of {sorted(videos)}")
    # PyAV leaves out the context of a codec that FFmpeg cannot decode.
    context: VideoCodecContext | None = videos[index].codec_context
    if context is None:
        raise VideoError(f"{path}: stream {index} is in a codec that FFmpeg cannot decode, convert the clip to H.264")
    if context.height or context.width:
        refuse_huge(path, context.height, context.width)
    return videos[index]


def decoded(
    path: Path,
    container: InputContainer,
    video: VideoStream,
    packets: Iterator[Packet[VideoStream]] | None = None,
    count: int = 0,
) -> Generator[Timed, None, None]:
    """All frames, or those of some last packets, `count` frames and as many packets behind the first.

    Errors: DamagedError where one is damaged or the stream ends earlier than the file promises.
    """
    ending = Ending(path, container, video, count)
    for frame in _frames(path, video, ending, packets or container.demux(video), count):
        yield Timed(frame, seconds(frame.pts, video))
        count += 1
    missing = ending.missing_data() or ending.missing_time()
    if missing is not None:
        raise DamagedError(f"{path}: ends after {count} frames ({missing}), the file is cut short")


def _frames(
    path: Path, video: VideoStream, ending: Ending, packets: Iterator[Packet[VideoStream]], count: int
) -> Iterator[VideoFrame]:
    """The frames that are there. Errors: DamagedError at the first that is damaged."""
    decode = _decoder(path, video)
    # The last packet of a file that is cut may be a part of one. The empty packet behind it asks the decoder for the
    # frames that wait in it: they may lie behind one that is missing.
    try:
        for packet in _without_last(2, packets) if ending.is_cut else packets:
            is_flush = packet.size == 0 and packet.dts is None
            ending.packets += not is_flush
            if is_flush and ending.missing_data():
                return
            if packet.is_corrupt:
                raise DamagedError(f"{path}: is damaged or cut short after frame {count}")
            for frame in decode(packet):
                if not isinstance(frame, VideoFrame) or frame.is_corrupt:
                    raise DamagedError(f"{path}: frame {count} is damaged")
                refuse_huge(path, frame.height, frame.width)
                ending.shown(frame.pts, frame.duration)
                yield frame
                count += 1
    except av.FFmpegError as error:
        message = f"{path}: cannot be decoded after {count} frames ({error.strerror}), it is damaged or cut short"
        raise DamagedError(message) from error


def _without_last(count: int, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    held: deque[Packet[VideoStream]] = deque()
    for packet in packets:
        held.append(packet)
        if len(held) > count:
            yield held.popleft()


def _decoder(path: Path, video: VideoStream) -> Callable[[Packet[VideoStream]], list[VideoFrame]]:
    if video.metadata.get("alpha_mode") != "1" or video.codec_context.name not in ("vp8", "vp9"):
        return lambda packet: packet.decode()
    # FFmpeg's own decoders of VP8 and VP9 drop the alpha channel, and show what should be hidden.
    try:
        context = av.CodecContext.create(f"libvpx{'-vp9' if video.codec_context.name == 'vp9' else ''}", "r")
    except av.codec.codec.UnknownCodecError as error:
        raise VideoError(f"{path}: is transparent, and this FFmpeg lacks libvpx to read that") from error
    assert isinstance(context, VideoCodecContext)
    context.thread_count, context.options = 1, dict(_OPTIONS)
    return lambda packet: context.decode(packet if packet.size else None)


def promised_frames(video: VideoStream) -> int | None:
    """How many frames the file promises, None where it does not say."""
    if video.duration is None or not video.time_base:
        return video.frames or None
    by_time = round(video.duration * video.time_base * rate(video))
    return min(by_time, video.frames or by_time)
