from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.encoded import read_all
from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip, read_timed
from vvae.video.times import Clock

EXACT = {
    ".mp4": Fraction(0),
    ".mov": Fraction(0),
    ".mkv": Fraction(1, 1000),
    ".webm": Fraction(1, 1000),
    ".gif": Fraction(1, 100),
}
UNEVEN = [Fraction(n, 600) for n in (0, 24, 60, 200, 209, 600)]


def written(path: Path, times: Sequence[float | Fraction] | None, count: int = 6) -> Path:
    """Frames that can be told apart, 16x16."""
    frames = torch.linspace(-1, 1, count).view(1, 1, -1, 1, 1).expand(1, 3, -1, 16, 16)
    with ClipWriter(path, 25, (16, 16)) as clip:
        clip.write(frames[:, :, :2], None if times is None else times[:2])
        clip.write(frames[:, :, 2:], None if times is None else times[2:])
    return path


def times_of(path: Path, **options: object) -> list[Fraction]:
    return [time for _, times in read_timed(path, **options) for time in times]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [*EXACT, ".avi", ""])
def test_regular_clips_have_regular_times(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"clip{suffix}", None)
    assert times_of(path) == [Fraction(n, 25) for n in range(6)]
    assert probe(path).rate_is_constant


@pytest.mark.parametrize("suffix", EXACT)
def test_given_times_come_back(tmp_path: Path, suffix: str) -> None:
    found = times_of(written(tmp_path / f"clip{suffix}", UNEVEN))
    assert max(abs(a - b) for a, b in zip(found, UNEVEN, strict=True)) <= EXACT[suffix]


@pytest.mark.parametrize(
    "rate", [24, 25, 30, 50, 60, Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]
)
def test_times_of_usual_rates_are_exact_in_mp4(tmp_path: Path, rate: Fraction) -> None:
    times = [Fraction(n * n) / rate for n in range(6)]
    assert times_of(written(tmp_path / "clip.mp4", times)) == times


@pytest.mark.parametrize("suffix", [".avi", ""])
def test_formats_without_a_clock_show_given_frames_regularly(tmp_path: Path, suffix: str) -> None:
    assert times_of(written(tmp_path / f"clip{suffix}", UNEVEN)) == [Fraction(n, 25) for n in range(6)]


def test_an_uneven_clip_says_so(tmp_path: Path) -> None:
    info = probe(written(tmp_path / "clip.mp4", UNEVEN))
    assert not info.rate_is_constant
    assert info.frames == 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".gif", ""])
@pytest.mark.parametrize("chunk", [1, 4, 9])
def test_timed_chunks_are_the_chunks_of_read_clip(tmp_path: Path, suffix: str, chunk: int) -> None:
    path = written(tmp_path / f"clip{suffix}", UNEVEN)
    for (timed, times), plain in zip(read_timed(path, chunk=chunk), read_clip(path, chunk=chunk), strict=True):
        assert torch.equal(timed, plain)
        assert len(times) == plain.shape[2]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ""])
@pytest.mark.parametrize(("start", "frames"), [(0, 3), (1, None), (2, 2), (5, 1), (3, 50)])
def test_start_and_frames_are_a_slice_of_the_whole(tmp_path: Path, suffix: str, start: int, frames: int | None) -> None:
    path = written(tmp_path / f"clip{suffix}", UNEVEN)
    end = None if frames is None else start + frames
    assert torch.equal(read_all(path, start=start, frames=frames, chunk=2), read_all(path)[:, :, start:end])
    whole = times_of(path)
    assert times_of(path, start=start, frames=frames, chunk=2) == [time - whole[start] for time in whole[start:end]]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ""])
@pytest.mark.parametrize("partial", [False, True])
def test_a_start_past_the_end_names_the_number_of_frames(tmp_path: Path, suffix: str, partial: bool) -> None:
    path = written(tmp_path / f"clip{suffix}", None)
    for start in (6, 100):
        with pytest.raises(VideoError, match=f"start is {start}, but the clip has 6 frames, legal is 0 to 5"):
            read_all(path, start=start, allow_partial=partial)
    with pytest.raises(VideoError, match="start is -1, it must be 0 or more"):
        read_all(path, start=-1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ""])
def test_fps_takes_the_place_of_the_clip_s_own_times(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"clip{suffix}", UNEVEN)
    assert times_of(path, fps=Fraction(30000, 1001)) == [n * Fraction(1001, 30000) for n in range(6)]
    assert probe(path, fps=12.5).fps == Fraction(25, 2)
    for fps in (0, -1, 1e-9, 1e9, float("nan"), float("inf")):
        with pytest.raises(VideoError, match=r"fps is .*, legal is 0\.001 to 100000"):
            times_of(path, fps=fps)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0, 1, 1, 2, 3, 4], "frame 2 is shown at 1 s, legal is above 1"),
        ([0, 2, 1, 3, 4, 5], "frame 2 is shown at 1 s, legal is above 2"),
        ([-1, 0, 1, 2, 3, 4], "frame 0 is shown at -1 s, legal is 0 or later"),
        ([0, 1, float("nan"), 3, 4, 5], "frame 2 is shown at nan s"),
        ([0, 1, 2, 3, 4], "3 times for 4 frames"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_times_that_do_not_increase_are_refused(tmp_path: Path, times: list[float], message: str, suffix: str) -> None:
    with pytest.raises(VideoError, match=message):
        written(tmp_path / f"clip{suffix}", times)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "second"), [(None, [1]), ([0], None)])
def test_times_for_some_frames_only_are_refused(
    tmp_path: Path, first: list[float] | None, second: list[float] | None
) -> None:
    with ClipWriter(tmp_path / "a.mp4", 25, (16, 16)) as clip:
        clip.write(torch.zeros(1, 3, 1, 16, 16), first)
        with pytest.raises(VideoError, match="give all or none"):
            clip.write(torch.zeros(1, 3, 1, 16, 16), second)


def test_times_closer_than_the_clock_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"0\.0101 s comes less than .* 0\.01 s after"):
        written(tmp_path / "a.gif", [0, 0.01, 0.0101, 1, 2, 3])
    with (
        pytest.raises(VideoError, match="101 frames per second are too many, 100 or less are legal"),
        ClipWriter(tmp_path / "a.gif", 101, (1, 1)) as clip,
    ):
        clip.write(torch.zeros(1, 3, 1, 1, 1))


stamps = st.none() | st.fractions(-5, 20, max_denominator=90)


@given(st.lists(stamps, max_size=30), st.sampled_from([Fraction(1, 90), Fraction(1, 25), Fraction(2), None]))
def test_a_clock_always_moves_forward(given_times: list[Fraction | None], tick: Fraction | None) -> None:
    clock = Clock(Fraction(25), tick)
    shown = [clock.shown(time) for time in given_times]
    assert all(a < b for a, b in pairwise(shown))


@given(st.sets(st.fractions(-5, 20, max_denominator=90)))
def test_a_clock_leaves_good_times_alone(good: set[Fraction]) -> None:
    clock = Clock(Fraction(25), Fraction(1, 90))
    assert [clock.shown(time) for time in sorted(good)] == sorted(good)


def test_a_clock_that_starts_again_goes_on_from_its_last_frame() -> None:
    clock = Clock(Fraction(10), Fraction(1, 90))
    found = [clock.shown(Fraction(time)) for time in (0, 1, 2, 0, 1, 2)]
    assert found == [0, 1, 2, Fraction(21, 10), Fraction(31, 10), Fraction(41, 10)]


def test_times_in_a_file_that_stand_still_are_repaired(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "still.avi"), "w") as new:
        video = new.add_stream("mjpeg", 25)
        video.width, video.height, video.pix_fmt = 16, 16, "yuvj420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuvj420p")
            frame.pts = index
            for packet in video.encode(frame):
                packet.pts = packet.dts = None
                new.mux(packet)
    found = times_of(tmp_path / "still.avi")
    assert len(found) == 4
    assert all(a < b for a, b in pairwise(found))
