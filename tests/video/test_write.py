from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vvae.errors import VideoError
from vvae.video import ClipWriter, formats, probe, psnr, read_clip

MakeClip = Callable[..., Path]
LONG = torch.zeros(1, 3, 80, 32, 32)  # more frames than the encoder holds back, so that something is on the disk


def write(path: Path, *steps: torch.Tensor | BaseException) -> None:
    """A clip of 32x32 pixels in some steps; an error among them is raised."""
    with ClipWriter(path, 25, (32, 32)) as clip:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            clip.write(step)


@pytest.mark.parametrize("fps", [1, 23.976, 25, Fraction(30000, 1001), 120])
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_clip_keeps_its_frames_and_rate(tmp_path: Path, frames: int, fps: float | Fraction) -> None:
    with ClipWriter(tmp_path / "clip.mp4", fps, (32, 48)) as clip:
        for _ in range(frames):
            clip.write(torch.zeros(1, 3, 1, 32, 48))
    info = probe(tmp_path / "clip.mp4")
    assert info.frames == frames
    assert float(info.fps) == pytest.approx(float(fps), rel=1e-3)
    assert sum(x.shape[2] for x in read_clip(tmp_path / "clip.mp4")) == frames


@pytest.mark.parametrize("size", [(16, 16), (33, 48), (48, 33), (35, 37), (2, 2), (1, 1)])
def test_odd_sides_store_the_last_row_or_column_twice(make_clip: MakeClip, size: tuple[int, int]) -> None:
    height, width = size
    clip = next(read_clip(make_clip(1, height, width)))
    assert clip.shape == (1, 3, 1, height + height % 2, width + width % 2)


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_what_is_read_is_what_was_written(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    ramp = torch.linspace(-1, 1, 6 * height * width).view(1, 1, 6, height, width).expand(-1, 3, -1, -1, -1)
    with ClipWriter(tmp_path / "ramp.mp4", 25, size) as clip:
        clip.write(ramp[:, :, :1])
        clip.write(ramp[:, :, 1:1])
        clip.write(ramp[:, :, 1:])
    found = torch.cat(list(read_clip(tmp_path / "ramp.mp4")), dim=2)
    assert found.shape[2] == 6
    assert psnr(ramp, found[..., :height, :width]).min() > 40


def test_the_same_frames_always_give_the_same_bytes(tmp_path: Path) -> None:
    noise = torch.rand(1, 3, 19, 50, 70, generator=torch.Generator().manual_seed(0))
    frames, seen = F.avg_pool3d(noise - 0.5, 3, stride=1, padding=1), set()
    for _ in range(8):
        used = [bytearray(os.urandom(size)) for size in range(16, 200_000, 4_000)]  # what freed memory holds varies
        with ClipWriter(tmp_path / "clip.mp4", 25, (50, 70)) as clip:
            del used
            clip.write(frames)
        seen.add((tmp_path / "clip.mp4").read_bytes())
    assert len(seen) == 1


def test_values_beyond_the_range_are_clamped(tmp_path: Path) -> None:
    frames = torch.linspace(-3, 3, 3 * 32 * 32).view(1, 3, 1, 32, 32)
    for name, x in (("wide.mp4", frames), ("clamped.mp4", frames.clamp(-1, 1))):
        write(tmp_path / name, x)
    wide, clamped = (next(read_clip(tmp_path / name)) for name in ("wide.mp4", "clamped.mp4"))
    assert torch.equal(wide, clamped)


@pytest.mark.parametrize("shape", [(1, 3, 1, 32, 31), (2, 3, 1, 32, 32), (1, 1, 1, 32, 32), (3, 32, 32)])
def test_frames_of_another_shape_are_refused_and_nothing_is_left(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoError, match="legal is"):
        write(tmp_path / "clip.mp4", LONG, torch.zeros(shape))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_what_was_there_before(make_clip: MakeClip, error: type[BaseException]) -> None:
    path = make_clip(3)
    before = path.read_bytes()
    with pytest.raises(error if error is not OSError else VideoError):
        write(path, LONG, error())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_finished_clip_takes_the_place_of_the_old_one(make_clip: MakeClip) -> None:
    path = make_clip(3)
    assert make_clip(5) == path
    assert probe(path).frames == 5
    assert list(path.parent.iterdir()) == [path]


def test_an_encoder_that_ffmpeg_lacks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS, ".mkv", replace(formats.FORMATS[".mkv"], codec="no_such_codec"))
    with pytest.raises(VideoError, match="cannot encode no_such_codec; choose another ending"):
        write(tmp_path / "clip.mkv", LONG)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame was written"):
        write(tmp_path / "clip.mp4")
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for name, message in (("folder.mp4", "a folder of that name"), ("missing/clip.mp4", "does not exist")):
        with pytest.raises(VideoError, match=message):
            write(tmp_path / name, torch.zeros(1, 3, 1, 32, 32))


@pytest.mark.parametrize("name", ["clip.xyz", "clip.mp3", "clip.png", "clip.v2"])
def test_an_unknown_suffix_is_refused_with_the_legal_ones(tmp_path: Path, name: str) -> None:
    legal = r"\.mp4, \.mov, \.mkv, \.webm, \.avi, \.gif, or no suffix: a folder of PNG"
    with pytest.raises(VideoError, match=f"cannot be written, legal are {legal}"):
        ClipWriter(tmp_path / name, 25, (32, 32))


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    write(tmp_path / "CLIP.MKV", LONG[:, :, :3])
    assert sum(x.shape[2] for x in read_clip(tmp_path / "CLIP.MKV")) == 3


@pytest.mark.parametrize(
    ("suffix", "best", "worst"), [(".mp4", 0, 51), (".mov", 0, 51), (".webm", 0, 63), (".avi", 1, 31)]
)
def test_quality_goes_from_best_to_worst(tmp_path: Path, suffix: str, best: int, worst: int) -> None:
    noise = torch.rand(1, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    frames = (noise - 0.5).expand(-1, 3, -1, -1, -1)  # gray: colour is stored coarsely whatever the quality
    likeness = []
    for quality in (best, None, worst):
        path = tmp_path / f"{quality}{suffix}"
        with ClipWriter(path, 25, (64, 64), quality=quality) as clip:
            clip.write(frames)
        likeness.append(psnr(frames, next(read_clip(path))).item())
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > likeness[2] + 5
    for quality in (best - 1, worst + 1):
        with (
            pytest.raises(VideoError, match=rf"quality is {quality}, legal is {best} \(best\) to {worst}"),
            ClipWriter(tmp_path / f"other{suffix}", 25, (64, 64), quality=quality) as clip,
        ):
            clip.write(frames)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.gif", "clip"])
def test_lossless_formats_have_no_quality(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(VideoError, match=r"quality is 3, but a lossless .* has none"),
        ClipWriter(tmp_path / name, 25, (32, 32), quality=3) as clip,
    ):
        clip.write(LONG)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
@pytest.mark.parametrize("fps", [0, -25, 1e-9, 1e9, float("nan"), float("inf")])
def test_a_rate_of_nothing_is_refused(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(VideoError, match=r"fps is .*, legal is 0\.001 to 100000"):
        ClipWriter(tmp_path / name, fps, (32, 32))


@pytest.mark.parametrize("frames", [1, 2, 30])
@pytest.mark.parametrize("suffix", [".mkv", ".gif", ""])
def test_lossless_formats_give_back_every_bit(tmp_path: Path, suffix: str, frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    clip = torch.randint(0, 256, (1, 3, frames, 9, 13), generator=generator) / 127.5 - 1
    clip[:, :, frames // 2 :] = clip[:, :, -1:]  # a picture that stays must not be lost
    with ClipWriter(tmp_path / f"clip{suffix}", 25, (9, 13)) as writer:
        for chunk in clip.split(7, dim=2):
            writer.write(chunk)
    found = torch.cat(list(read_clip(tmp_path / f"clip{suffix}")), dim=2)
    assert torch.allclose(found, clip, atol=1e-6)


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm", ".avi", ".gif", ""])
@pytest.mark.parametrize("step", [RuntimeError(), torch.zeros(1, 3, 1, 32, 31)])
def test_every_format_appears_whole_or_not_at_all(tmp_path: Path, suffix: str, step: torch.Tensor | Exception) -> None:
    with pytest.raises((VideoError, RuntimeError)):
        write(tmp_path / f"clip{suffix}", LONG[:, :, :20], step)
    assert not any(tmp_path.iterdir())
    with pytest.raises(VideoError, match="no frame was written"):
        write(tmp_path / f"clip{suffix}")
    assert not any(tmp_path.iterdir())


def test_a_gif_of_many_colours_is_nearly_the_same(tmp_path: Path) -> None:
    ramp = torch.linspace(-1, 1, 48 * 64).view(1, 1, 1, 48, 64)
    frames = torch.cat([ramp, -ramp, ramp.flip(4)], dim=1)
    with ClipWriter(tmp_path / "clip.gif", 25, (48, 64)) as clip:
        clip.write(frames)
    assert psnr(frames, next(read_clip(tmp_path / "clip.gif"))).min() > 25
