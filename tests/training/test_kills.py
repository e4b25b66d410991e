"""One of two processes is killed: the run ends soon, and goes on from a whole checkpoint to the same weights."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.training import killed
from tests.training.runs import in_two, started_in_two
from vvae.training import snapshots
from vvae.training.loop import Run
from vvae.training.parallel import World

PLACES = [
    (1, "write", 2),
    (0, "finish", 1),
    (0, "rename", 2),  # the first is that of the list of tensors
    (0, "synced", 1),
    (0, "remove", 2),  # the old checkpoint is removed in part
    (1, "step", 2),
    (0, "exchange", 2),
]
SOON = 240
"""Seconds, of a slow machine too; processes in a step would wait for longer."""


def whole_checkpoints(out: Path) -> list[int]:
    """Those there are, of which a run can go on from each."""
    found = snapshots.found(out / "checkpoints")
    for step in found:
        alone = out / "alone"
        shutil.copytree(out / f"checkpoints/step_{step:08d}", alone / f"checkpoints/step_{step:08d}")
        assert Run(killed.GIVEN, alone, World(), lambda line: None).step == step
        shutil.rmtree(alone)
    return found


def killed_from_outside(out: Path, rank: int, delay: float) -> int:
    """How the run ends of which a process is killed some time after its first steps begin."""
    log = out / "run" / "log.jsonl"
    before = log.stat().st_mtime_ns
    process = started_in_two("killed.py", out, rank, "nowhere", 0)
    while process.poll() is None and log.stat().st_mtime_ns == before:
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(int((out / f"process_{rank}").read_text()), signal.SIGKILL)
    process.communicate(timeout=SOON)
    return process.returncode


@pytest.mark.thorough
def test_a_run_of_which_a_process_is_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    out, straight = tmp_path / "killed", tmp_path / "straight"
    for each in (out, straight):
        each.mkdir()
    assert in_two("killed.py", straight, 0, "nowhere", 0, seconds=SOON).returncode == 0
    for place in PLACES:
        done = in_two("killed.py", out, *place, seconds=SOON)
        assert done.returncode != 0, place
        assert "Signal 9 (SIGKILL)" in done.stderr, place
        assert whole_checkpoints(out / "run")
    for rank in (0, 1):
        assert killed_from_outside(out, rank, random.random() / 2) != 0
        assert whole_checkpoints(out / "run")
    assert in_two("killed.py", out, 0, "nowhere", 0, seconds=SOON).returncode == 0
    assert not list((out / "run/checkpoints").glob("part_*"))
    file = "run/model.safetensors"
    assert (out / file).read_bytes() == (straight / file).read_bytes()


@pytest.mark.thorough
def test_processes_wait_for_clips_that_the_first_one_renders(tmp_path: Path) -> None:
    done = in_two("killed.py", tmp_path, 0, "render", 10, seconds=SOON)
    assert done.returncode == 0, done.stderr[-3000:]
