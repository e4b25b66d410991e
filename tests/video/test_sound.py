from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip

RATE = 48_000
Packets = list[tuple[float, bytes]]


def singing(path: Path, codec: str = "aac", seconds: float = 2.0, picture: bool = True, late: float = 0.0) -> Path:
    """A clip with a rising tone; its pictures begin `late` seconds after time zero."""
    with av.open(str(path), "w") as new:
        video = new.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", 25) if picture else None
        sound = new.add_stream(codec, rate=RATE)
        if video is not None:
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            for index in range(round(seconds * 25)):
                frame = av.VideoFrame(32, 32, "yuv420p")
                frame.pts = index + round(late * 25)
                new.mux(video.encode(frame))
            new.mux(video.encode(None))
        time = np.arange(round(seconds * RATE)) / RATE
        tone = np.sin(2 * np.pi * (300 + 200 * time) * time).astype(np.float32)[None]
        block = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        block.rate, block.pts = RATE, 0
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="stereo", rate=RATE)
        fifo = av.AudioFifo()
        for part in resampler.resample(block):
            fifo.write(part)
        while part := fifo.read(sound.codec_context.frame_size or 1024, partial=True):
            new.mux(sound.encode(part))
        new.mux(sound.encode(None))
    return path


def packets(path: Path) -> Packets:
    """The sound's packets: seconds after the first picture, and bytes."""
    with av.open(str(path)) as file:
        zero = file.streams.video[0].start_time * file.streams.video[0].time_base
        sound = file.streams.audio[0]
        return [(float(p.pts * p.time_base - zero), bytes(p)) for p in file.demux(sound) if p.size]


def silent(path: Path, frames: int = 25, **options: object) -> Path:
    with ClipWriter(path, 25, (32, 32), **options) as clip:  # type: ignore[arg-type]
        for _ in range(frames):
            clip.write(torch.zeros(1, 3, 1, 32, 32))
    return path


def expected(source: Path, start: float, seconds: float) -> Packets:
    return [(time - start, data) for time, data in packets(source) if start <= time < start + seconds]


def assert_same(found: Packets, wanted: Packets) -> None:
    assert len(wanted) > 10
    assert [data for _, data in found] == [data for _, data in wanted]
    assert np.allclose([time for time, _ in found], [time for time, _ in wanted], atol=0.0011)


@pytest.mark.parametrize("late", [0.0, 0.4])
@pytest.mark.parametrize(("start", "seconds"), [(0.0, None), (0.5, None), (0.3, 0.6), (Fraction(1, 3), 1.2)])
def test_sound_of_a_range_is_copied_packet_by_packet(
    tmp_path: Path, start: float, seconds: float | None, late: float
) -> None:
    source = singing(tmp_path / "source.mp4", late=late)
    path = silent(tmp_path / "new.mp4", audio_from=source, audio_start=start, audio_seconds=seconds)
    assert_same(packets(path), expected(source, float(start), min(seconds or 1.0, 1.0)))
    assert sum(x.shape[2] for x in read_clip(path)) == 25
    assert probe(path).audio


@pytest.mark.parametrize(
    ("codec", "old", "new"),
    [
        ("aac", ".mp4", ".mkv"),
        ("aac", ".mkv", ".mov"),
        ("libopus", ".webm", ".mp4"),
        ("libopus", ".mkv", ".webm"),
        ("libmp3lame", ".mkv", ".avi"),
        ("pcm_s16le", ".mkv", ".mkv"),
        ("flac", ".mkv", ".mp4"),
    ],
)
def test_sound_moves_between_containers(tmp_path: Path, codec: str, old: str, new: str) -> None:
    source = singing(tmp_path / f"source{old}", codec)
    assert_same(packets(silent(tmp_path / f"new{new}", audio_from=source)), expected(source, 0, 1.0))


def test_sound_goes_with_given_times(tmp_path: Path) -> None:
    source = singing(tmp_path / "source.mp4")
    with ClipWriter(tmp_path / "new.mp4", 25, (32, 32), audio_from=source) as clip:
        clip.write(torch.zeros(1, 3, 3, 32, 32), [0, 0.5, 1.46])
    assert_same(packets(tmp_path / "new.mp4"), expected(source, 0, 1.5))


def test_sound_that_ends_early_ends_early(tmp_path: Path) -> None:
    source = singing(tmp_path / "source.mp4")
    path = silent(tmp_path / "new.mp4", audio_from=source, audio_start=1.5)
    assert_same(packets(path), expected(source, 1.5, 9))


def test_sound_of_a_clip_without_pictures_is_taken(tmp_path: Path) -> None:
    source = singing(tmp_path / "song.m4a", picture=False)
    assert len(packets(silent(tmp_path / "new.mp4", audio_from=source))) > 40


@pytest.mark.parametrize(
    ("codec", "new", "message"),
    [
        ("aac", "new.webm", "webm cannot hold sound in aac .* write a .mkv instead"),
        ("aac", "new.gif", "holds no sound, write a .mp4 or .mkv"),
        ("aac", "new", "holds no sound, write a .mp4 or .mkv"),
    ],
)
def test_sound_that_the_format_cannot_hold_is_refused(tmp_path: Path, codec: str, new: str, message: str) -> None:
    source = singing(tmp_path / "source.mp4", codec, 0.2)
    with pytest.raises(VideoError, match=message):
        silent(tmp_path / new, audio_from=source)
    assert list(tmp_path.iterdir()) == [source]


def test_a_clip_without_sound_is_refused(tmp_path: Path) -> None:
    source = silent(tmp_path / "source.mp4")
    with pytest.raises(VideoError, match=r"source\.mp4: holds no sound, leave audio_from out"):
        silent(tmp_path / "new.mp4", audio_from=source)
    with pytest.raises(VideoError, match=r"missing\.mp4: no such file"):
        silent(tmp_path / "new.mp4", audio_from=tmp_path / "missing.mp4")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("times", [{"audio_start": -1}, {"audio_seconds": -0.1}, {"audio_start": float("nan")}])
def test_a_range_out_of_time_is_refused(tmp_path: Path, times: dict[str, float]) -> None:
    source = singing(tmp_path / "source.mp4", seconds=0.2)
    with pytest.raises(VideoError, match=r"audio_(start|seconds) is .*, it must be 0 or more"):
        silent(tmp_path / "new.mp4", audio_from=source, **times)
