"""A folder of rendered clips, so that training does not render at every step; and the pieces cut from them.

The folder holds `clips.npy` (uint8, n 3 t h w) and `pool.json`, which says from which seeds it came. It can be deleted
at any time: `render` makes the same bytes again, and goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from vvae.errors import VideoError
from vvae.spec import Spec
from vvae.training import material

Clips = NDArray[np.uint8]
Told: TypeAlias = Callable[[int, int], None]
SAVE_EVERY = 50


class PoolSpec(Spec):
    """`clips` clips of `frames` frames and `size` x `size` pixels, from `first_seed` on; `held_out`: for judging."""

    clips: PositiveInt
    frames: PositiveInt = 17
    size: PositiveInt = 160
    first_seed: NonNegativeInt = 0
    held_out: bool = False

    def clip(self, index: int) -> NDArray[np.uint8]:
        """Clip number `index` as it is stored, `3 t h w`."""
        make = material.validation_clip if self.held_out else material.clip
        video = make(self.first_seed + index, self.frames, (self.size, self.size))
        return np.round((video + 1) * 127.5).astype(np.uint8)


@dataclass(frozen=True)
class Unrendered:
    """The clips of a pool by number, each rendered when it is asked for."""

    spec: PoolSpec

    def __len__(self) -> int:
        return self.spec.clips

    def __getitem__(self, index: int) -> Clips:
        return self.spec.clip(index)


def render(folder: Path, spec: PoolSpec, report: Told = lambda done, of: None) -> Clips:
    """The pool of a spec, `n 3 t h w`, read-only; what is missing in the folder is rendered first.

    A folder that holds another spec's clips is a VideoError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note, file = folder / "pool.json", folder / "clips.npy"
    done = _rendered(note, spec) if file.exists() else 0
    shape = (spec.clips, 3, spec.frames, spec.size, spec.size)
    mode = "r+" if done else "w+"
    clips = np.lib.format.open_memmap(file, mode=mode, dtype=np.uint8, shape=None if done else shape)
    _reserve(file)
    for index in range(done, spec.clips):
        clips[index] = spec.clip(index)
        if (index + 1) % SAVE_EVERY == 0 or index + 1 == spec.clips:
            clips.flush()
            part = note.with_suffix(".part")  # a kill leaves the note as it was, or the new one
            part.write_text(json.dumps({"spec": spec.model_dump(), "rendered": index + 1}))
            part.replace(note)
            report(index + 1, spec.clips)
    return np.asanyarray(np.load(file, mmap_mode="r"))


def _reserve(file: Path) -> None:
    """Room on the disk for all of a file: where there is none, a write to its map would end the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with file.open("r+b") as held:
            os.posix_fallocate(held.fileno(), 0, file.stat().st_size)


def to_float(clips: Clips) -> Tensor:
    """Stored bytes as the model takes them: float32 in [-1, 1]."""
    return torch.from_numpy(clips.astype(np.float32)) / 127.5 - 1


def piece(video: Clips, rng: np.random.Generator, frames: int, crop: int) -> Clips:
    """A random piece `3 t h w` of a clip: cut out, mirrored, transposed, run backwards."""
    start, top, left = (
        rng.integers(have - want + 1) for have, want in zip(video.shape[1:], (frames, crop, crop), strict=True)
    )
    cut = video[:, start : start + frames, top : top + crop, left : left + crop]
    for axis in (1, 2, 3):
        cut = np.flip(cut, axis) if rng.random() < 0.5 else cut
    return cut.transpose(0, 1, 3, 2) if rng.random() < 0.5 else cut


def _rendered(note: Path, spec: PoolSpec) -> int:
    if not note.exists():
        return 0
    held = json.loads(note.read_text())
    if held["spec"] != spec.model_dump():
        raise VideoError(f"{note.parent} holds the pool {held['spec']}, not {spec.model_dump()}; name another folder")
    return int(held["rendered"])
