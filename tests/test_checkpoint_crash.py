"""A writer of checkpoints that is killed anywhere leaves the old file or the new one, and tells when a disk fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vvae.checkpoint


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = str(Path(vvae.checkpoint.__file__).parents[1])
    script, folder = Path(__file__).with_name("crash.py"), tmp_path_factory.mktemp("crash")
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder)]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)


def faults(report: dict[str, Any]) -> list[str]:
    """What is wrong with a writer, from its trials."""
    calls = report["calm"]["calls"]
    kinds = [kind for kind, _ in calls]
    needed = ("open", "write", "flush", "fsync", "replace", "fsync folder")
    found = [f"no {kind} seen" for kind in needed if kind not in kinds]
    found += [] if found or synced_in_order(calls) else ["not synced in order"]
    killed = report["kill"] + report["limit"]
    found += ["neither old nor new after a kill" for t in killed if t["state"] not in ("old", "new")]
    found += ["not killed" for t in killed if not t["signal"]]
    errors = report["fail"] + report["full"]
    found += ["neither old nor new after an error" for t in errors if t["state"] not in ("old", "new")]
    found += ["an error of another kind" for t in errors if t.get("error") != "CheckpointError"]
    found += ["a file left behind after an error" for t in errors if t["files"] != 1]
    return found


def synced_in_order(calls: list[tuple[str, int]]) -> bool:
    """Whether the file that is put in place was synced after its last write, and the folder after that."""
    kinds = [kind for kind, _ in calls]
    put = kinds.index("replace")
    writes = [at for at, (kind, inode) in enumerate(calls) if kind in ("write", "flush") and inode == calls[put][1]]
    synced = any(kind == "fsync" and inode == calls[put][1] for kind, inode in calls[max(writes, default=put) : put])
    return synced and "fsync folder" in kinds[put:]


def test_a_writer_killed_anywhere_leaves_the_old_file_or_the_new_one(crashes: dict[str, Any]) -> None:
    report = crashes["vvae"]
    assert faults(report) == []
    assert report["calm"]["state"] == "new"
    for way, states in {"kill": {"old", "new"}, "fail": {"old", "new"}, "limit": {"old"}, "full": {"old"}}.items():
        assert {trial["state"] for trial in report[way]} == states, way
    assert all(("not written" in trial["text"]) == (trial["state"] == "old") for trial in report["fail"])


@pytest.mark.parametrize(
    ("writer", "fault"),
    [
        ("straight", "neither old nor new after a kill"),
        ("native", "neither old nor new after a kill"),
        ("removing", "neither old nor new after a kill"),
        ("unsynced", "no fsync seen"),
        ("save_file", "no fsync seen"),
    ],
)
def test_a_naive_writer_is_rejected(crashes: dict[str, Any], writer: str, fault: str) -> None:
    assert crashes[writer]["calm"]["state"] == "new", "undisturbed, it writes a good file"
    assert fault in faults(crashes[writer])


def test_writers_that_differ_in_one_step_are_rejected_for_it(crashes: dict[str, Any]) -> None:
    report = crashes["vvae"]
    calls = report["calm"]["calls"]
    early = [calls[0], next(call for call in calls if call[0] == "fsync"), *[c for c in calls[1:] if c[0] != "fsync"]]
    assert faults({**report, "calm": {"calls": early}}) == ["not synced in order"]
    late = [call for call in calls if call[0] == "fsync folder"] + [c for c in calls if c[0] != "fsync folder"]
    assert faults({**report, "calm": {"calls": late}}) == ["not synced in order"]
