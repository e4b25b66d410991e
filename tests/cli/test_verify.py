"""`vvae verify`: what it finds, what it leaves behind, and how it ends, whatever the target does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Run
from vvae import verify

TARGETS = """
import os, time
import torch

class Causal(torch.nn.Module):
    def forward(self, x):
        return x.cumsum(2)

class Smooth(torch.nn.Module):
    def forward(self, x):
        return x + x.roll(-1, 2)

class Hangs(torch.nn.Module):
    calls = 0
    def forward(self, x):
        Hangs.calls += 1
        if Hangs.calls > 1:
            time.sleep(600)
        return x

class Dies(Hangs):
    def forward(self, x):
        Hangs.calls += 1
        if Hangs.calls > 1:
            os._exit(7)
        return x

class Raises(torch.nn.Module):
    def forward(self, x):
        raise KeyError("on purpose")

def garbage(x):
    return {"no": "clip"}
"""
CLAIMS = ("--input", "1,2,3,4,4", "--lead", "1", "--group", "1", "--causal")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "targets_here.py").write_text(TARGETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def verified(run: Run, target: str, *more: str) -> int:
    return run("verify", f"targets_here:{target}", *CLAIMS, "--law", "reach", "--workers", "1", "--json", *more)


def test_what_is_sound_ends_with_0_and_leaves_a_report(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(run, "Causal", "--out", "report") == 0
    found = told(capsys)
    assert (found["state"], found["violated"]) == ("sound", {})
    assert json.loads(Path("report/report.json").read_text())["state"] == "sound"
    assert "reach" in Path("report/report.md").read_text()
    with Image.open("report/layer.png") as picture:
        assert min(picture.size) > 100


def test_what_violates_a_law_ends_with_1_and_a_counterexample_that_runs(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verified(run, "Smooth") == 1
    (case,) = told(capsys)["violated"]["reach"]
    assert case["part"] == "layer"
    with pytest.raises(verify.LawError, match="depend on input frame"):
        exec(case["counterexample"], {})


@pytest.mark.parametrize(("target", "says"), [("Hangs", "time"), ("Dies", "7")])
def test_what_crashes_or_hangs_ends_with_3(
    run: Run, capsys: pytest.CaptureFixture[str], target: str, says: str
) -> None:
    assert verified(run, target, "--seconds", "1") == 3
    assert says in json.dumps(told(capsys))


@pytest.mark.parametrize("target", ["Raises", "garbage"])
def test_what_gives_no_clip_at_all_ends_with_3(run: Run, target: str) -> None:
    assert verified(run, target) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("targets_here:Causal",), "--input b,c,t,h,w"),
        (("targets_here:Nothing", *CLAIMS), "Nothing"),
        (("iv_vea",), "near it: iv_vae"),
        (("targets_here:Causal", "--input", "1,2"), "write it as 1,3,9,64,64"),
        (("image_vae", "--law", "reech"), "near it: reach"),
    ],
)
def test_a_bad_call_ends_with_2_and_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert run("verify", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert says in error[0]
    assert not Path("verify").exists()
