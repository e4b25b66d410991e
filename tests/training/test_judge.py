"""Held-out clips: a run tells what `evaluate` tells of the same clips in files, and keeps it."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.test_clips import IN_PIECES
from tests.evaluation.conftest import PLAIN, write_clip
from tests.models.tiny import Identity, tiny_model
from tests.training.runs import recipe, run
from vvae.autoencoder import VideoAutoencoder
from vvae.evaluation import evaluate, of_model
from vvae.evaluation.results import OfModel, in_a_line
from vvae.training import Recipe, loop, train
from vvae.training.judge import judge, judged, keep
from vvae.video import read_clip


@pytest.mark.parametrize("make", [tiny_model, lambda: IN_PIECES["open_sora"]().build()], ids=["groups", "pieces"])
def test_a_run_tells_what_an_evaluation_tells(make: Callable[[], VideoAutoencoder], tmp_path: Path) -> None:
    model = make().eval()
    files = [write_clip(tmp_path / f"{seed}.mkv", seed) for seed in range(2)]
    (wanted,) = evaluate([of_model(model)], files, PLAIN).models
    found = judge(model, [torch.cat(list(read_clip(file)), 2)[0] for file in files])
    assert found.mean == {name: wanted.mean[name] for name in ("psnr", "flicker")}
    for name in ("lead", "positions", "spread"):
        assert getattr(found, name) == {metric: getattr(wanted, name)[metric] for metric in found.mean}
    assert (found.lead_frames, found.group) == (wanted.lead_frames, wanted.group)
    assert found.systematic == wanted.systematic


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "held_out.jsonl").read_text().splitlines()]


def with_held_out(**fields: object) -> Recipe:
    held = {"kind": "procedural", "clips": 2, "frames": 5, "size": 24, "held_out": True}
    return recipe(held_out=held, judge_every=2, save_every=2, stage={"steps": 4}, **fields)


def test_figures_and_pictures_of_held_out_clips_are_kept(tmp_path: Path) -> None:
    told = []
    train(with_held_out(), tmp_path, report=told.append)
    assert [row["step"] for row in rows(tmp_path)] == [0, 2, 4]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        f"step_{step:08d}.png" for step in (0, 2, 4)
    ]
    curve = judged(tmp_path / "held_out.jsonl")["held out psnr"]
    assert curve.points == [(row["step"], row["mean"]["psnr"]) for row in rows(tmp_path)]
    last = rows(tmp_path)[-1]
    (line,) = (line for line in told if line.startswith("step 4: held out "))
    places = " ".join(f"{value:.2f}" for value in last["positions"]["psnr"])
    assert line.removeprefix("step 4: held out ") == (
        f"{last['mean']['psnr']:.2f} dB (lead {last['lead']['psnr']:.2f}, positions {places}, "
        f"spread {last['spread']['psnr']:.2f}), borders {last['systematic']['borders']:.3f}, "
        f"colour {last['systematic']['colour']:.2f}"
    )


@pytest.mark.thorough
def test_a_run_that_was_stopped_keeps_the_figures_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(with_held_out(), tmp_path / "whole")

    def die(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "_finished", die)
    with pytest.raises(KeyboardInterrupt):
        run(with_held_out(), tmp_path / "cut")
    (tmp_path / "cut" / "checkpoints" / "step_00000004").rename(tmp_path / "lost")
    monkeypatch.undo()
    run(with_held_out(), tmp_path / "cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_lines_of_a_run_that_went_further_are_cut_off(tmp_path: Path) -> None:
    figures, file = judge(tiny_model(), [torch.zeros(3, 5, 32, 32)]), tmp_path / "held_out.jsonl"
    for step in (0, 5, 10, 5):
        keep(figures, step, file)
    assert [row["step"] for row in rows(tmp_path)] == [0, 5]


@pytest.mark.thorough
def test_a_model_without_numbers_is_not_judged_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = loop.Run.averaged

    def broken(self: loop.Run) -> torch.nn.Module:
        model = averaged(self)
        with torch.no_grad():
            next(model.decoder.parameters()).fill_(math.nan)
        return model

    monkeypatch.setattr(loop.Run, "averaged", broken)
    told = []
    assert train(with_held_out(), tmp_path, report=told.append) is not None
    assert sum("not judged: vvae-small: the result holds values that are not finite" in line for line in told) == 3
    assert not (tmp_path / "held_out.jsonl").exists()


def test_a_line_leaves_out_what_is_not_there() -> None:
    found: OfModel = judge(Identity(lead=0), [torch.zeros(3, 1, 16, 16)])
    assert in_a_line(found) == "100.00 dB (positions 100.00, spread 0.00), colour 0.00"
