"""Clips that the tests make themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vvae.video import ClipWriter

MakeClip = Callable[..., Path]


def moving_picture(frames: int, height: int, width: int) -> torch.Tensor:
    """A smooth pattern that moves, `1 3 t h w` in [-1, 1]."""
    t = torch.arange(frames).view(-1, 1, 1) / 7
    y = torch.linspace(0, 3, height).view(1, -1, 1)
    x = torch.linspace(0, 4, width).view(1, 1, -1)
    return torch.stack([torch.sin(x + y + t), torch.cos(x - t + 0 * y), torch.sin(x * y / 2 - t)])[None]


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """`make_clip(frames, height, width)` writes a clip and gives its path."""

    def make(frames: int = 11, height: int = 48, width: int = 64, name: str = "clip.mp4") -> Path:
        with ClipWriter(tmp_path / name, 25, (height, width)) as clip:
            clip.write(moving_picture(frames, height, width))
        return tmp_path / name

    return make


def _text(path: Path, clip: bytes) -> None:
    path.write_text("this is no clip\n" * 100)


def _empty(path: Path, clip: bytes) -> None:
    path.write_bytes(b"")


def _folder(path: Path, clip: bytes) -> None:
    path.mkdir()


def _missing(path: Path, clip: bytes) -> None:
    """Nothing is there."""


def _cut_early(path: Path, clip: bytes) -> None:
    path.write_bytes(clip[:40])


def _cut_in_the_middle(path: Path, clip: bytes) -> None:
    path.write_bytes(clip[: len(clip) // 2])


def _cut_at_the_end(path: Path, clip: bytes) -> None:
    path.write_bytes(clip[:-8])


def _scrambled(path: Path, clip: bytes) -> None:
    start = len(clip) * 2 // 3
    path.write_bytes(clip[:start] + b"\xff" * 200 + clip[start + 200 :])


@pytest.fixture(params=[_text, _empty, _folder, _missing, _cut_early, _cut_in_the_middle, _cut_at_the_end, _scrambled])
def broken(request: pytest.FixtureRequest, tmp_path: Path, make_clip: MakeClip) -> Path:
    """A path named broken.mp4 under which no whole clip lies."""
    whole = make_clip(name="whole.mp4")
    path = tmp_path / "broken.mp4"
    request.param(path, whole.read_bytes())
    whole.unlink()
    return path
