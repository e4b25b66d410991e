from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
import torch
from hypothesis import settings

from tests.video.encoded import read_all
from tests.video.test_sound import singing
from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip

MakeClip = Callable[..., Path]
SUFFIXES = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]
ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20


def run(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """A module of the tests in a process of its own; one that hangs is killed."""
    command = [sys.executable, "-m", *arguments]
    setting = os.environ | {"OMP_NUM_THREADS": "1", "MUTANTS": str(7 * settings.default.max_examples)}
    return subprocess.run(command, cwd=ROOT, env=setting, capture_output=True, text=True, timeout=seconds, check=False)


def test_mutants_give_frames_or_a_video_error(make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    for suffix in (".mp4", ".mkv", ".webm", ".gif", ".avi"):
        make_clip(5, 32, 48, f"seeds/whole{suffix}")
    singing(tmp_path / "seeds/singing.mp4", seconds=0.2)
    outcome = run("tests.video.mutants", str(tmp_path / "seeds"), seconds=600)
    lines = outcome.stdout.splitlines()
    assert outcome.returncode == 0, f"{lines[-1:]}\n{outcome.stderr[-4000:]}"
    found = json.loads(lines[-1])
    assert found["mutants"] >= 7 * settings.default.max_examples >= 100
    assert found["open_files"] == 0
    assert found["growth"] < 16 * MEBIBYTE < found["growth_of_a_leak"]
    # a damaged header may ask for the largest frames allowed, 64 megapixels, of which a decoder holds up to 17
    assert found["peak"] < 4096 * MEBIBYTE


def test_a_long_clip_takes_no_more_memory_than_a_short_one(make_clip: MakeClip) -> None:
    short, long = (make_clip(frames, 96, 96, f"{frames}.mp4") for frames in (60, 300))
    outcome = run("tests.video.peak", str(short), str(long), seconds=120)
    (few, before), (many, after) = (map(int, line.split()) for line in outcome.stdout.splitlines())
    assert (few, many) == (60, 300)
    assert after - before < 240 * 96 * 96 * 3 * 4 / 8


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_frames_at_the_end_are_noticed(make_clip: MakeClip, suffix: str, missing: int) -> None:
    path = make_clip(11, 48, 64, f"clip{suffix}")
    whole = read_all(path)
    with av.open(str(path)) as file:
        places = sorted(packet.pos for packet in file.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: places[-missing]])
    with pytest.raises(VideoError, match=r"ends after \d+ frames .* is cut short"):
        read_all(path)
    part = read_all(path, allow_partial=True)
    assert 11 - missing - 4 <= part.shape[2] <= 11 - missing
    assert torch.equal(part, whole[:, :, : part.shape[2]])


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_that_was_cut_gives_the_frames_before_on_request(make_clip: MakeClip, suffix: str, share: float) -> None:
    path = make_clip(60, 32, 48, f"clip{suffix}")
    whole = read_all(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError):
        read_all(path)
    part = read_all(path, allow_partial=True, chunk=7)
    assert share * 60 - 45 < part.shape[2] < 60
    assert torch.equal(part, whole[:, :, : part.shape[2]])
    assert torch.equal(read_all(path, frames=2), whole[:, :, :2])


def test_nothing_to_read_is_an_error_even_in_part(broken: Path) -> None:
    try:
        part = read_all(broken, allow_partial=True)
    except VideoError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert part.shape[2] >= 1


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    for name in ("pipe.mp4", "pipe.png", "pipe"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(VideoError, match="is not a file, give the path of a clip"):
            probe(tmp_path / name)
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(VideoError, match=f"{device}: is not a file"):
            list(read_clip(device))


@pytest.mark.parametrize("name", ["pipe.mp4", "pipe"])
def test_a_pipe_is_not_written_over(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(VideoError), ClipWriter(tmp_path / name, 25, (32, 32)) as clip:
        clip.write(torch.zeros(1, 3, 1, 32, 32))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).is_fifo()


@pytest.mark.parametrize("name", ["a" * 300 + ".mp4", "null\0byte.mp4", "a" * 300 + ".png", "a" * 300])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    for read in (probe, read_all):
        with pytest.raises(VideoError):
            read(tmp_path / name)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder of everybody in which another user's `clip.mp4`, `clip.png` and folder `clips` lie locked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        for name in ("clip.mp4", "clip.png"):
            (path / name).write_bytes(b"locked")
            (path / name).chmod(0)
        (path / "clips").mkdir(mode=0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if root:
                os.seteuid(0)
            (path / "clips").chmod(0o755)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.png", "clips", "clips/inside.mp4"])
def test_what_may_not_be_read_is_named(locked: Path, name: str) -> None:
    with pytest.raises(VideoError, match=rf"{re.escape(name)}: .*[Pp]ermission denied") as caught:
        probe(locked / name)
    assert "\n" not in str(caught.value)


def test_a_playlist_is_no_clip(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip(2)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "list.m3u8"):
        with pytest.raises(VideoError, match="is not a video file that FFmpeg can open"):
            probe(tmp_path / name)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    data = singing(tmp_path / "known.mp4", seconds=0.2).read_bytes()
    (tmp_path / "picture.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    (tmp_path / "sound.mp4").write_bytes(data.replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    with pytest.raises(VideoError, match="in a codec that FFmpeg cannot decode"):
        probe(tmp_path / "picture.mp4")
    with (
        pytest.raises(VideoError, match="its sound is in a codec that FFmpeg does not know"),
        ClipWriter(tmp_path / "new.mp4", 25, (32, 32), audio_from=tmp_path / "sound.mp4") as clip,
    ):
        clip.write(torch.zeros(1, 3, 1, 32, 32))
