from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, psnr, read_clip

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


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame was written"):
        write(tmp_path / "clip.mp4")
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for name, message in (("folder.mp4", "a folder of that name"), ("missing/clip.mp4", "does not exist")):
        with pytest.raises(VideoError, match=message):
            write(tmp_path / name, torch.zeros(1, 3, 1, 32, 32))
