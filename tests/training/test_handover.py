"""What goes on from stage to stage: two stages with equal settings are one of as many steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import GAME, L1, recipe, run
from vvae.training import snapshots
from vvae.training.loop import Run
from vvae.training.parallel import World
from vvae.training.recipe import Recipe

# from the first step on, as starts count from each stage's own; learned log variances are weights, too
PLAYED = {
    "terms": {"nll": {"kind": "nll", "learned": True}, **L1["terms"]},
    "adversarial": {**GAME["adversarial"], "start": 0, "ramp": 0},
}
MUON = {"kind": "muon", "rate": 1e-3, "discriminator": 1e-4}
STAGE = {"batch": {"clips": 1, "frames": [5], "sizes": [24]}, "objective": PLAYED, "optimizer": MUON}


def in_stages(*steps: int, **last: Any) -> Recipe:
    """Stages of so many steps, alike but for what is said of the `last` one."""
    stages = [{**STAGE, "name": f"stage{number}", "steps": each} for number, each in enumerate(steps)]
    stages[-1] |= last
    return recipe().replace(stages=stages, save_every=sum(steps))


def test_two_stages_with_equal_settings_are_one_of_their_sum(tmp_path: Path) -> None:
    two = run(in_stages(2, 1), tmp_path / "two")
    one = run(in_stages(3), tmp_path / "one")
    assert two is not None
    assert one is not None
    assert two.read_bytes() == one.read_bytes()


def test_a_run_that_stops_between_two_stages_ends_like_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = in_stages(1, 1, freeze=["encoder"])
    whole = run(given, tmp_path / "whole")
    monkeypatch.setattr(Run, "_over", lambda self, until: self.step == 1)
    assert run(given, tmp_path / "cut", minutes=1) is None
    monkeypatch.undo()
    again = run(given, tmp_path / "cut")
    assert whole is not None
    assert again is not None
    assert again.read_bytes() == whole.read_bytes()


def remembered(out: Path, **changed: Any) -> dict[str, set[str]]:
    """What is remembered of each parameter when the second stage begins, in which this is another than in the first."""
    at = Run(in_stages(1, 1, **changed), out, World(), lambda line: None)
    at.learner.step(next(at.batches()), 0)
    at._next_stage(1)
    found: dict[str, set[str]] = {}
    for key in snapshots.moved(at.learner.named, at.learner.moving):
        name, what = key.rsplit(",", 1)
        found.setdefault(name, set()).add(what)
    return found


def test_what_means_something_else_in_the_next_stage_starts_anew(tmp_path: Path) -> None:
    adam, muon = {"step", "exp_avg", "exp_avg_sq"}, {"mean"}
    same = remembered(tmp_path / "same")
    deep = {name for name, what in same.items() if what == muon}
    played = {name for name in same if name.startswith("objective.discriminator.")}
    assert deep
    assert played
    assert all(same[name] == adam for name in same.keys() - deep)
    adamw = remembered(tmp_path / "adamw", optimizer={**MUON, "kind": "adamw"})
    assert adamw == {name: what for name, what in same.items() if name not in deep}
    frozen = remembered(tmp_path / "frozen", freeze=["encoder"])
    assert frozen == {name: what for name, what in same.items() if not name.startswith("encoder.")}
    wider = {**PLAYED["adversarial"], "discriminator": {"kind": "patch_2d", "width": 8}}
    other = remembered(tmp_path / "other", objective={**PLAYED, "adversarial": wider})
    assert other == {name: what for name, what in same.items() if name not in played}
