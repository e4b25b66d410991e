"""Several processes: with a share of the batch each they are one with all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.training import two_processes
from tests.training.runs import apart, in_two, run

WAYS = ("game_fsdp",)
"""With a discriminator, batch norm, the adaptive weight, LeCam, clipping, averages, shards; others: thorough."""
OWN = ("without_adaptive", "without_lecam", "without_batch_norm")
LIMIT = 1e-10


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    run(two_processes.game(), out / "game")
    return out


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("together")
    done = in_two("two_processes.py", out, *WAYS, "poisoned")
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_with_half_the_batch_are_one_with_all_of_it(alone: Path, together: Path, way: str) -> None:
    kind = way.partition("_")[0]
    assert apart(alone / kind / "model.safetensors", together / way / "model.safetensors") < LIMIT


def test_what_one_process_sees_is_skipped_by_both(together: Path) -> None:
    rows = [json.loads(line) for line in (together / "poisoned" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if not row["applied"]] == [2]


def test_a_checkpoint_of_two_processes_goes_on_in_one(together: Path, alone: Path) -> None:
    folder = together / "game_fsdp"
    shutil.rmtree(folder / "checkpoints" / "step_00000010")
    (folder / "model.safetensors").unlink()
    run(two_processes.game(parallel="fsdp"), folder)
    assert apart(alone / "game" / "model.safetensors", folder / "model.safetensors") < LIMIT


@pytest.mark.thorough
def test_plain_objectives_and_several_stages_keep_the_law_too(tmp_path: Path) -> None:
    run(two_processes.plain(), tmp_path / "plain")
    run(two_processes.stages(), tmp_path / "stages")
    run(two_processes.game(), tmp_path / "game")
    ways = ("plain_ddp", "plain_fsdp", "game_ddp", "stages_ddp", "stages_fsdp")
    done = in_two("two_processes.py", tmp_path, *ways)
    assert done.returncode == 0, done.stderr[-3000:]
    for way in ways:
        kind = way.partition("_")[0]
        assert apart(tmp_path / kind / "model.safetensors", tmp_path / way / "model.safetensors") < LIMIT


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*OWN, "without_clipping"])
def test_without_its_reduction_the_law_breaks(alone: Path, tmp_path: Path, name: str) -> None:
    done = in_two("two_processes.py", tmp_path, name)
    assert done.returncode == 0, done.stderr[-3000:]
    assert apart(alone / "game" / "model.safetensors", tmp_path / name / "model.safetensors") > 1e3 * LIMIT
