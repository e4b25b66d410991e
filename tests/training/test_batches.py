"""Batches: the same from any number of processes and workers and after any restart, whatever cannot be read."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.training.runs import L1, ROOT
from tests.training.written import clip
from tests.video.test_workers import threads
from vvae.errors import VideoError
from vvae.training import Recipe, order, sources
from vvae.training.batches import TRIES, Batch, Batches, loaded
from vvae.training.sources import Files, Row, Source
from vvae.video import read_clip

STAGES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3)


def recipe(*stages: dict[str, Any], seed: int = 0) -> Recipe:
    """Stages with so many `steps`; the rest of their fields are those of the batch."""
    made = [
        {
            "name": f"stage {number}",
            "steps": fields["steps"],
            "batch": {name: value for name, value in fields.items() if name != "steps"},
            "objective": L1,
            "optimizer": {"rate": 1e-3},
        }
        for number, fields in enumerate(stages)
    ]
    return Recipe(model={"name": "vvae_small"}, data={"kind": "procedural", "clips": 1}, stages=made, seed=seed)


@dataclass(frozen=True)
class Numbers:
    """Clips that hold their index and a random number; those in `wrong` cannot be used."""

    length: int
    wrong: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"clip {index}"

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        if index in self.wrong:
            rng.random(index)
            raise VideoError(f"clip {index}\nis wrong")
        return torch.full((3, frames, size, size), index + rng.random(), dtype=torch.float64)


class Dying(Numbers):
    """Whoever reads clip 0 is killed."""

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        if index == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().piece(index, frames, size, rng)


def native_threads() -> int:
    """Of this process, without those of Python: a worker has some that send."""
    return threads() - threading.active_count()


class Watched(Files):
    """Files whose names tell of the process that read them."""

    def piece(self, index: int, frames: int, size: int, rng: np.random.Generator) -> Tensor:
        before, while_reading = native_threads(), []

        def read(*given: Any, **fields: Any) -> Iterator[Tensor]:
            for frame in read_clip(*given, **fields):
                while_reading.append(native_threads())
                yield frame

        with patch.object(sources, "read_clip", read):
            piece = super().piece(index, frames, size, rng)
        object.__setattr__(self, "started", min(while_reading) - before)
        return piece

    def name(self, index: int) -> str:
        if "started" not in vars(self):
            return super().name(index)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return f"{vars(self).pop('started')} {pages * resource.getpagesize()} {os.getpid()}"

    @staticmethod
    def told(name: str) -> tuple[int, int, int]:
        """Threads that were started for reading, bytes in memory, and the number of the process."""
        started, size, pid = map(int, name.split())
        return started, size, pid


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.video, b.video) and (a.names, a.numbers, a.skipped) == (b.names, b.numbers, b.skipped)


def all_of(given: Recipe, source: Source, rank: int = 0, world: int = 1) -> list[Batch]:
    return list(loaded(Batches(given, source, rank, world), 0, given.steps, 0))


# ---- what a step sees


@given(STAGES, st.integers(1, 4), st.integers(1, 20), st.integers(0, 2**40))
def test_processes_together_see_what_one_sees(
    stages: list[tuple[int, int]], world: int, length: int, seed: int
) -> None:
    given = recipe(*({"steps": steps, "clips": each * world, "sizes": [2]} for steps, each in stages), seed=seed)
    source = Numbers(length, frozenset(range(0, length - 1, 3)))
    shares = [all_of(given, source, rank, world) for rank in range(world)]
    for alone, *parts in zip(all_of(given, source), *shares, strict=True):
        assert torch.equal(alone.video, torch.cat([part.video for part in parts]))
        assert alone.names == [name for part in parts for name in part.names]
        assert alone.skipped == [line for part in parts for line in part.skipped]


@given(STAGES, st.integers(1, 12), st.data())
def test_a_run_that_goes_on_sees_what_is_left(stages: list[tuple[int, int]], length: int, data: st.DataObject) -> None:
    """In the middle of an epoch, too."""
    given = recipe(*({"steps": s, "clips": c, "sizes": [2, 4], "frames": [1, 5], "images": 0.2} for s, c in stages))
    first = data.draw(st.integers(0, given.steps))
    source = Numbers(length, frozenset(range(1, length, 4)))
    left = list(loaded(Batches(given, source), first, given.steps, 0))
    straight = all_of(given, source)[first:]
    assert len(left) == len(straight)
    assert all(same(a, b) for a, b in zip(left, straight, strict=True))


@given(STAGES, st.integers(1, 12), st.integers(1, 3))
def test_every_clip_is_seen_once_in_an_epoch_over_stages_and_processes(
    stages: list[tuple[int, int]], length: int, world: int
) -> None:
    given = recipe(*({"steps": steps, "clips": clips * world, "sizes": [2]} for steps, clips in stages))
    shares = [all_of(given, Numbers(length), rank, world) for rank in range(world)]
    seen = [name for parts in zip(*shares, strict=True) for part in parts for name in part.names]
    epochs = [seen[start : start + length] for start in range(0, len(seen), length)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
    assert len(seen) == sum(steps * clips * world for steps, clips in stages)


def test_processes_see_clips_of_one_shape_and_shapes_come_in_their_share() -> None:
    given = recipe({"steps": 400, "clips": 2, "frames": [5, 9], "sizes": [8, 16], "images": 0.25})
    one, other = (Batches(given, Numbers(3), rank, 2) for rank in range(2))
    shapes = [one.shape(step) for step in range(400)]
    assert shapes == [other.shape(step) for step in range(400)]
    assert set(shapes) == {(frames, size) for frames in (1, 5, 9) for size in (8, 16)}
    assert 70 <= sum(frames == 1 for frames, _ in shapes) <= 130
    assert one[7].video.shape == (1, 3, shapes[7][0], shapes[7][1], shapes[7][1])


def test_a_clip_is_cut_elsewhere_in_every_epoch() -> None:
    batches = all_of(recipe({"steps": 30, "clips": 1, "sizes": [2]}), Numbers(3))
    assert len({float(batch.video.mean()) for batch in batches}) == 30


# ---- what cannot be used


@given(st.integers(2, 30), st.data(), st.integers(0, 2**40))
def test_another_clip_stands_in_for_one_that_cannot_be_used(length: int, data: st.DataObject, seed: int) -> None:
    wrong = data.draw(st.sets(st.integers(0, length - 1), max_size=length - 1))
    given = recipe({"steps": length, "clips": 1, "sizes": [2]}, seed=seed)
    found, whole = (all_of(given, Numbers(length, frozenset(which))) for which in (wrong, ()))
    for number, (one, straight) in enumerate(zip(found, whole, strict=True)):
        index = order.item(seed, number, length)
        if index not in wrong:
            assert same(one, straight)
        else:
            assert one.names[0] not in {f"clip {each}" for each in wrong}
            assert one.skipped[0] == f"clip {index} is wrong"
    assert {line for batch in found for line in batch.skipped} == {f"clip {each} is wrong" for each in wrong}


@pytest.mark.parametrize("length", [3, 2 * TRIES])
def test_clips_of_which_none_can_be_used_are_refused(length: int) -> None:
    batches = Batches(recipe({"steps": 1, "clips": 2, "sizes": [2]}), Numbers(length, frozenset(range(length))))
    tried = min(length, TRIES)
    with pytest.raises(VideoError, match=rf"^{tried} clips tried and none can be used, the last: clip \d+ is wrong;"):
        batches[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven clips: one of them is text, one is cut short, one has too few frames."""
    folder = tmp_path_factory.mktemp("files")
    paths = [clip(folder / f"{number}.mp4", 9, 24, 32) for number in range(5)]
    (folder / "text.mp4").write_text("no clip")
    whole = paths[0].read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    paths[1] = clip(folder / "short.mp4", 4, 24, 32)
    return [*paths, folder / "text.mp4", folder / "cut.mp4"]


# ---- workers


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])  # each takes seconds to start
def test_workers_give_the_same_batches_and_the_same_error(files: list[Path], workers: int) -> None:
    """From the middle of an epoch on, with clips that cannot be read, and at the end a step that no clip is for."""
    given = recipe(
        {"steps": 5, "clips": 2, "frames": [5], "sizes": [16]},
        {"steps": 6, "clips": 1, "frames": [8], "sizes": [24]},
        {"steps": 1, "clips": 1, "frames": [20], "sizes": [16]},
    )
    rows = [Row(path) for path in files]
    alone = loaded(Batches(given, Files(rows)), 2, given.steps, 0)
    watched = loaded(Batches(given, Watched(rows)), 2, given.steps, workers)
    told, skipped = [], []
    for _, one, other in zip(range(2, 11), alone, watched, strict=False):
        assert torch.equal(one.video, other.video)
        assert (one.numbers, one.skipped) == (other.numbers, other.skipped)
        told += [Watched.told(name) for name in other.names]
        skipped += one.skipped
    assert len({pid for _, _, pid in told} - {os.getpid()}) == workers
    assert {started for started, _, _ in told} == {0}
    for why in ("text.mp4: is not a video", "short.mp4: is too short", "cut.mp4: "):
        assert any(why in line for line in skipped)
    errors = []
    for batches in (alone, watched):
        with pytest.raises(VideoError, match="7 clips tried and none can be used") as error:
            next(batches)
        errors.append(error)
    assert str(errors[0].value) == str(errors[1].value)
    assert type(errors[1].value) is VideoError
    assert multiprocessing.active_children() == []


@pytest.mark.thorough
def test_a_worker_that_dies_is_told_of() -> None:
    batches = Batches(recipe({"steps": 3, "clips": 3, "sizes": [2]}), Dying(3))
    with pytest.raises(VideoError, match="a process that prepares clips died") as error:
        list(loaded(batches, 0, 3, 1))
    assert "\n" not in str(error.value)
    assert multiprocessing.active_children() == []


@pytest.mark.thorough
def test_who_is_interrupted_leaves_no_process() -> None:
    def interrupted() -> None:
        for _ in loaded(Batches(recipe({"steps": 50, "clips": 1, "sizes": [2]}), Numbers(4)), 0, 50, 1):
            assert len(multiprocessing.active_children()) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert multiprocessing.active_children() == []


def test_no_step_starts_no_process() -> None:
    batches = Batches(recipe({"steps": 3, "clips": 1, "sizes": [2]}), Numbers(4))
    assert list(loaded(batches, 3, 3, 4)) == []


SCRIPT = """
import multiprocessing, os, signal
from tests.training.test_batches import Batches, Numbers, loaded, recipe
if __name__ == "__main__":
    batches = loaded(Batches(recipe({"steps": 50, "clips": 1, "sizes": [2]}), Numbers(4)), 0, 50, 1)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.thorough
def test_a_process_that_is_killed_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    setting = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, tmp_path / "script.py"], env=setting, capture_output=True, text=True)
    workers = [Path(f"/proc/{pid}") for pid in killed.stdout.split()]
    assert killed.returncode == -signal.SIGKILL
    assert len(workers) == 1
    until = time.monotonic() + 60
    while any(map(Path.exists, workers)) and time.monotonic() < until:
        time.sleep(0.5)
    assert not any(map(Path.exists, workers))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # fewer cores than workers
def test_four_workers_neither_hang_nor_grow(files: list[Path]) -> None:
    """Over 2,000 clips of which some cannot be read; each worker's size in memory between the 500th and the last."""
    given = recipe({"steps": 1000, "clips": 2, "frames": [5, 8], "sizes": [16, 24]})
    sizes: dict[int, list[int]] = {}
    for step, batch in enumerate(loaded(Batches(given, Watched([Row(path) for path in files])), 0, 1000, 4)):
        for started, size, pid in map(Watched.told, batch.names):
            assert started == 0
            if step >= 250:
                sizes.setdefault(pid, []).append(size)
    assert len(sizes) == 4
    assert all(max(each) - each[0] < 64 * 2**20 for each in sizes.values())
    assert multiprocessing.active_children() == []
