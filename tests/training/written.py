"""Clips in files for the tests of training."""

from __future__ import annotations

from pathlib import Path

from tests.video.conftest import moving_picture
from vvae.video import ClipWriter


def clip(path: Path, frames: int = 6, height: int = 16, width: int = 16) -> Path:
    """Writes a clip in which everything moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ClipWriter(path, 25, (height, width)) as file:
        file.write(moving_picture(frames, height, width))
    return path
