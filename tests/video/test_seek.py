"""A clip from the middle on is the end of the whole clip, bit for bit, also where what is before is not decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vvae.video import read_timed, seek
from vvae.video.container import opened
from vvae.video.ending import Ending

COUNT, RATE = 40, 25
H264 = {"g": "8", "bf": "2", "keyint_min": "1", "sc_threshold": "0"}
H265 = {"x265-params": "keyint=8:min-keyint=8:bframes=2:open-gop=0:scenecut=0:log-level=none:pools=1:frame-threads=1"}
EVEN = [Fraction(n, RATE) for n in range(COUNT)]
UNEVEN = [Fraction(n * (n + 3), 90) for n in range(COUNT)]

Make = Callable[[Path], Path]


def clip(
    name: str,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    times: Sequence[Fraction] = EVEN,
    later: int = 0,
    muxer: dict[str, str] | None = None,
    tick: Fraction = Fraction(1, 90 * RATE),
) -> Make:
    """A clip of frames that can be told apart; `later`: all times by so many seconds."""

    def make(folder: Path) -> Path:
        path = folder / name
        with av.open(str(path), "w", options=muxer or {}) as file:
            video = file.add_stream(codec, RATE, options=H264 if options is None else options)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.time_base = video.codec_context.time_base = tick
            for number, time in enumerate(times):
                file.mux(video.encode(_frame(number, int((time + later) / tick), tick)))
            file.mux(video.encode(None))
        return path

    return make


def _frame(number: int, pts: int, tick: Fraction) -> av.VideoFrame:
    noise = np.random.default_rng(number // 3).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.roll(noise.repeat(8, 0).repeat(8, 1), number, 1), format="rgb24")
    frame = frame.reformat(format="yuv420p")
    frame.pts, frame.time_base = pts, tick
    return frame


FOUND = {
    "mp4": clip("clip.mp4"),
    "mov": clip("clip.mov", times=UNEVEN),
    "fragments": clip("clip.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}),
    "late": clip("clip.mp4", later=7),
    "early": clip("clip.mkv", later=-1),
    "mkv": clip("clip.mkv", times=UNEVEN),
    "h265": clip("clip.mp4", "libx265", H265),
    "no_b_frames": clip("clip.mp4", options={**H264, "bf": "0"}),
}
"""Of which most frames before the first are not decoded."""
OTHERS = {
    "ts": clip("clip.ts"),
    "open": clip("clip.mp4", options={**H264, "x264-params": "open-gop=1"}),
    "refresh": clip("clip.mp4", options={**H264, "x264-params": "intra-refresh=1"}),
    "h265_open": clip("clip.mkv", "libx265", {"x265-params": H265["x265-params"].replace("gop=0", "gop=1")}),
    "cut": clip("clip.mp4", later=-1, muxer={"avoid_negative_ts": "disabled"}),
    "one_group": clip("clip.mp4", options={**H264, "g": "100"}),
    "avi": clip("clip.avi", tick=Fraction(1, RATE)),
    "raw": clip("clip.h264"),
    "mpeg4": clip("clip.avi", "mpeg4", {"g": "8"}, tick=Fraction(1, RATE)),
    "vp9": clip("clip.webm", "libvpx-vp9", {"g": "8", "lag-in-frames": "5"}),
    "vp8": clip("clip.webm", "libvpx", {"g": "8", "lag-in-frames": "5", "auto-alt-ref": "1"}),
}


def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Gets the time of every frame that is decoded."""
    found: list[int | None] = []
    shown = Ending.shown

    def note(self: Ending, pts: int | None, duration: int) -> None:
        found.append(pts)
        shown(self, pts, duration)

    monkeypatch.setattr(Ending, "shown", note)
    return found


def are_ends_of_the_whole(path: Path, *starts: int) -> None:
    """Frames and times from each start on are those of the whole clip."""
    whole = list(read_timed(path, chunk=1))
    for start in (start for start in starts if start < len(whole)):
        some = list(read_timed(path, chunk=1, start=start))
        for (a, at), (b, when) in zip(some, whole[start:], strict=True):
            assert torch.equal(a, b)
            assert at[0] == when[0] - whole[start][1][0]


STARTS = (1, 7, 8, 9, 15, 16, 23, 31, 33, COUNT - 1)


@pytest.mark.parametrize("kind", [*FOUND, *OTHERS])
def test_a_clip_from_any_frame_on_is_the_end_of_the_whole(kind: str, tmp_path: Path) -> None:
    are_ends_of_the_whole({**FOUND, **OTHERS}[kind](tmp_path), *STARTS)


@pytest.mark.parametrize("kind", FOUND)
def test_few_frames_before_the_first_are_decoded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = FOUND[kind](tmp_path), decoded_frames(monkeypatch)
    for start in STARTS:
        found.clear()
        some = list(read_timed(path, start=start))
        assert len(found) <= 1 + 8 + sum(chunk.shape[2] for chunk, _ in some)


def test_the_first_frame_comes_too_as_it_may_tell_how_all_are_turned(tmp_path: Path) -> None:
    path = FOUND["mp4"](tmp_path)
    with opened(path, None) as file:
        assert [number for number, _ in seek.decoded_near(path, *file, 20)] == [0, *range(16, COUNT)]


@pytest.mark.parametrize("kind", OTHERS)
def test_times_and_entries_that_cannot_be_trusted_are_seen(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the format."""
    monkeypatch.setattr(seek, "_FORMATS", "")
    are_ends_of_the_whole(OTHERS[kind](tmp_path), *STARTS)


@pytest.mark.parametrize(
    ("kind", "alone"),
    [("mp4", 5), ("mkv", 5), ("fragments", 5), ("ts", 5), ("raw", 5), ("h265", 5), ("open", 1), ("h265_open", 1)],
)
def test_a_keyframe_behind_which_others_look_back_beyond_it_is_no_entry(kind: str, alone: int, tmp_path: Path) -> None:
    with av.open(str({**FOUND, **OTHERS}[kind](tmp_path))) as file:
        packets = [packet for packet in file.demux(file.streams.video[0]) if packet.is_keyframe]
        entries = [seek._is_idr(file.streams.video[0], bytes(packet)) for packet in packets]
    assert len(entries) == 5
    assert sum(entries) == alone


@pytest.mark.parametrize("wrong", ["size", "time", "order"])
def test_where_packets_are_not_what_they_promised_all_frames_come_again(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip("clip.mp4")(tmp_path)
    promised = seek._entries(path, 0, 20)
    later, larger = 10**6 * (wrong == "time"), int(wrong == "size")
    other = {(pts + later, size + larger): number for (pts, size), number in promised.items()}
    monkeypatch.setattr(seek, "_entries", lambda *given: other)
    if wrong == "order":
        pops = iter(range(3))
        pop = seek.heappop
        monkeypatch.setattr(seek, "heappop", lambda heap: pop(heap) if next(pops, 2) < 2 else -1)
    found = decoded_frames(monkeypatch)
    are_ends_of_the_whole(path, 20)
    assert len(found) > 2 * COUNT
