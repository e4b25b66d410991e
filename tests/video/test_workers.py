from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from vvae.video import ClipWriter, read_clip

SUFFIXES = [".mp4", ".mkv", ".webm", ".avi", ".gif", ""]


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def read_and_counted(path: Path) -> list[torch.Tensor]:
    """The chunks of a clip, and by how many threads the process grew for them."""
    before = most = threads()
    chunks = []
    for chunk in read_clip(path, chunk=4):
        most = max(most, threads())
        chunks.append(chunk)
    return [*chunks, torch.tensor(most - before)]


class Clips(IterableDataset[torch.Tensor]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[torch.Tensor]:
        # All at once: a worker starts threads of its own as soon as it sends something.
        yield from [tensor for path in self.paths for tensor in read_and_counted(path)]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    frames = torch.linspace(-1, 1, 3 * 8 * 64 * 96).view(1, 3, 8, 64, 96)
    paths = [tmp_path / f"clip{suffix}" for suffix in SUFFIXES]
    for path in paths:
        with ClipWriter(path, 25, (64, 96)) as clip:
            clip.write(frames)
    return paths


def test_reading_starts_no_thread(clips: list[Path]) -> None:
    assert sum(grown.item() for grown in list(Clips(clips))[2::3]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_read_the_same(clips: list[Path], start: str) -> None:
    expected = list(Clips(clips))
    loader = DataLoader(Clips(clips), batch_size=None, num_workers=1, timeout=120, multiprocessing_context=start)
    found = list(loader)
    assert len(found) == len(expected) == 3 * len(clips)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
