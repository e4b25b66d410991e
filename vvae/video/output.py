"""What all commands that write clips have in common."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vvae.errors import VideoError
from vvae.video.write import ClipWriter


def refuse_taken(path: Path) -> None:
    """VideoError where something lies at `path` already, or there is no folder for it."""
    if path.exists():
        raise VideoError(f"{path}: exists already, choose another place with --out")
    if not path.parent.is_dir():
        raise VideoError(f"{path}: the folder {path.parent} does not exist, make it first or choose another")


def sound_of(clip: str | Path | None, fps: Fraction, start: int) -> dict[str, Any]:
    """Arguments of `ClipWriter` that keep the sound of a clip beside its frames from `start` on; none for no clip."""
    return {} if clip is None else {"audio_from": clip, "audio_start": start / fps}


def write_frame(clip: ClipWriter, frame: torch.Tensor, time: Fraction | None) -> None:
    """A frame `1 3 1 h w`, at its own time where the rate varies."""
    clip.write(frame, None if time is None else (time,))
