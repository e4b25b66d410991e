"""Clips in files that keep every value of a frame, and what comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vvae.evaluation import Protocol
from vvae.video import ClipWriter

PLAIN = Protocol(frames=9, size=None, crop=1, resamples=200)


def scene(seed: int, frames: int, height: int, width: int) -> torch.Tensor:
    """A smooth clip that moves, `1 3 t h w` in [-0.6, 0.6]."""
    generator = torch.Generator().manual_seed(seed)
    small = 1.2 * torch.rand(1, 3, max(2, frames // 3), 4, 5, generator=generator) - 0.6
    return torch.nn.functional.interpolate(small, (frames, height, width), mode="trilinear", align_corners=True)


def write_clip(path: Path, seed: int, frames: int = 9, height: int = 32, width: int = 48) -> Path:
    with ClipWriter(path, 25, (height, width)) as clip:
        clip.write(scene(seed, frames, height, width))
    return path


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three lossless clips of 9, 9 and 13 frames of 32x48 pixels."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{seed}.mkv", seed, frames) for seed, frames in enumerate((9, 9, 13))]
