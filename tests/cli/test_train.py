"""`vvae train`: what it says, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.training.runs import ROOT, recipe


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a recipe of three steps."""
    stage = {"steps": 3, "batch": {"clips": 2, "frames": [5], "sizes": [16]}}
    (tmp_path / "mine.json").write_text(recipe(stage=stage, save_every=2).to_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_tells_what_it_takes_and_leaves_a_picture_alone(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mine.json", "--dry-run") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert re.search(r"vvae-small  70,472 parameters\nsteps 3, processes 1\n", said.out)
    assert re.search(r"^train +3 +2 +5 +16x16 +70,472 +- +\d+MiB +0\.\d\d$", said.out, re.M)
    assert [str(file.relative_to(place)) for file in place.rglob("*.*")] == ["mine.json", "runs/mine/first_batch.png"]
    with Image.open(place / "runs/mine/first_batch.png") as picture:
        assert picture.size == (5 * 16, 2 * 16)


def test_a_dry_run_prints_json(place: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "mine.json", "--dry-run", "--json", "--out", "there") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["picture"] == "there/first_batch.png"
    assert told["steps"] == told["stages"][0]["steps"] == 3


def test_a_run_says_how_far_it_is_and_where_the_model_lies(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mine.json", "--out", "there") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rendered 5 of 5 clips"
    assert re.fullmatch(r"step 2 of 3: loss \S+, \S+ s a step, 0 min left", lines[1])
    assert lines[2:] == ["see   there/model.safetensors"]


def test_a_run_that_is_stopped_says_nothing_of_a_model(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mine.json", "--out", "there", "--minutes", "0") == 0
    assert "model" not in capsys.readouterr().out


def test_what_cannot_be_is_refused_in_one_line(place: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "wrong.yaml").write_text("speed: 4")
    for arguments, told in (
        (["none.yaml"], "none.yaml: cannot be read"),
        (["wrong.yaml", "--dry-run"], "speed"),
        (["mine.json", "--json"], "--json: belongs to --dry-run"),
    ):
        assert run("train", *arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("vvae: ")
        assert told in said.err
        assert said.err.count("\n") == 1
    assert not (place / "runs").exists()


def test_of_several_processes_the_first_alone_speaks(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("vvae.cli.train.PATIENCE", 0)
    assert run("train", "none.yaml") == 2
    assert run("train", "mine.json", "--dry-run") == 0
    assert capsys.readouterr() == ("", "")
    assert not (place / "runs").exists()


def test_shares_of_processes_are_checked_before_they_meet(
    place: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert run("train", "mine.json") == 2
    assert "2 clips a step are no equal shares of 3 processes" in capsys.readouterr().err


@pytest.mark.thorough
def test_under_torchrun_the_first_process_alone_speaks(place: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "vvae.cli", "train"]
    setting = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}

    def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], env=setting, capture_output=True, text=True, check=False)

    done = called("mine.json", "--out", "there")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["rendered", "step", "see"]
    assert "reducer" not in done.stderr
    refused = called("none.yaml")
    assert refused.returncode != 0
    assert [line.split(":")[1] for line in refused.stderr.splitlines() if line.startswith("vvae:")] == [" none.yaml"]
