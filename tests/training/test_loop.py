"""The loop: a run that was killed ends like one that was not, and nothing that is not finite reaches a weight."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vvae
from tests.training.runs import GAME, L1, ROOT, apart, recipe, run, weights
from vvae.errors import CheckpointError, SpecError, VvaeError
from vvae.training import learner, loop, recipe_file, snapshots
from vvae.training.learner import Learner
from vvae.training.loop import Run
from vvae.training.parallel import World
from vvae.training.recipe import Recipe

STAGE = {"objective": GAME, "batch": {"clips": 2, "frames": [5, 1], "sizes": [24], "accumulate": 2}}
OTHER_GAME = {**GAME, "adversarial": {**GAME["adversarial"], "adaptive": {"against": "l1"}}}
SMALL = {"steps": 2, "batch": {"clips": 1, "frames": [5], "sizes": [16]}}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run(recipe(stage=STAGE), out)
    return out


def test_a_killed_run_ends_like_a_straight_one(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Learner.step

    def die(self: Learner, batch: Any, within: int) -> Any:
        if within == 5:
            raise KeyboardInterrupt
        return step(self, batch, within)

    monkeypatch.setattr(Learner, "step", die)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(stage=STAGE), tmp_path)
    monkeypatch.undo()
    file = run(recipe(stage=STAGE), tmp_path)
    assert file is not None
    assert file.read_bytes() == (straight / "model.safetensors").read_bytes()
    assert _steps(tmp_path) == _steps(straight) == list(range(6))


def test_what_is_no_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(VvaeError, match="take another folder"):
            run(recipe(), out)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_runs_never_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Learner.step

    def start_another(self: Learner, batch: Any, within: int) -> Any:
        with pytest.raises(VvaeError, match="another run is under way"):
            run(recipe(), tmp_path)
        return step(self, batch, within)

    monkeypatch.setattr(Learner, "step", start_another)
    assert run(recipe(), tmp_path) is not None


def test_a_run_stops_in_time_and_goes_on(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(recipe(stage=STAGE), tmp_path, minutes=0) is None
    monkeypatch.setattr(Run, "_over", lambda self, until: self.step == 1)
    assert run(recipe(stage=STAGE), tmp_path, minutes=1) is None
    assert snapshots.found(tmp_path / "checkpoints") == [1]
    monkeypatch.undo()
    file = run(recipe(stage=STAGE), tmp_path)
    assert file is not None
    assert file.read_bytes() == (straight / "model.safetensors").read_bytes()


def _steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_layers_without_a_part_in_any_step_so_far_are_kept_as_they_are(tmp_path: Path) -> None:
    """Of single frames the layers of groups learn nothing, and have no state to save."""
    given = recipe(save_every=1, stage={"steps": 3, "batch": {"clips": 1, "frames": [1], "sizes": [16]}})
    run(given, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/step_00000003")
    before = (tmp_path / "model.safetensors").read_bytes()
    file = run(given, tmp_path)
    assert file is not None
    assert file.read_bytes() == before


def test_every_term_is_told_at_every_step(straight: Path) -> None:
    rows = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert {"l1", "kl"} <= rows[0]["values"].keys()
    assert {"generator", "discriminator", "lecam", "adaptive_weight"} <= rows[1]["values"].keys()
    assert all(row["applied"] and math.isfinite(row["loss"]) for row in rows)
    assert (straight / "curves.png").stat().st_size > 1000


def test_a_stage_follows_the_one_before(tmp_path: Path) -> None:
    def given(frozen: bool) -> Recipe:
        first = {**SMALL, "name": "first", "objective": L1, "optimizer": {"rate": 1e-3}}
        second = {**first, "name": "second", "freeze": ["encoder"] if frozen else []}
        return recipe().replace(stages=[first, second], save_every=2, keep=5, average=0.0)

    for frozen in (False, True):
        out = tmp_path / str(frozen)
        run(given(frozen), out)
        assert snapshots.found(out / "checkpoints") == [2, 4]
    free, frozen_weights = weights(tmp_path / "False/model.safetensors"), weights(tmp_path / "True/model.safetensors")
    half = tmp_path / "half"
    run(given(False).replace(stages=[given(False).stages[0]]), half)
    between = weights(half / "model.safetensors")
    for name, tensor in between.items():
        assert torch.equal(frozen_weights[name], tensor) == name.startswith("encoder."), name
    assert any(not torch.equal(free[n], between[n]) for n in between if n.startswith("encoder."))


@pytest.mark.thorough
def test_a_run_goes_on_in_its_second_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {**SMALL, "name": "first", "objective": GAME, "optimizer": {"rate": 1e-3}}
    first["batch"] = {"clips": 1, "frames": [5], "sizes": [24]}
    given = recipe().replace(stages=[first, {**first, "name": "second", "steps": 4}], save_every=3)
    whole = run(given, tmp_path / "whole")
    assert whole is not None
    step = Learner.step

    def die(self: Learner, batch: Any, within: int) -> Any:
        if self.stage.name == "second" and within == 3:
            raise KeyboardInterrupt
        return step(self, batch, within)

    monkeypatch.setattr(Learner, "step", die)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "cut")
    monkeypatch.undo()
    again = run(given, tmp_path / "cut")
    assert again is not None
    assert again.read_bytes() == whole.read_bytes()


def test_activation_checkpointing_and_accumulation_change_nothing(straight: Path, tmp_path: Path) -> None:
    run(recipe(stage=STAGE, checkpoint_activations=True), tmp_path / "checkpointed")
    assert apart(straight / "model.safetensors", tmp_path / "checkpointed/model.safetensors") < 1e-12
    plain: dict[str, Any] = {"steps": 3, "batch": {"clips": 2, "frames": [5], "sizes": [16]}}
    run(recipe(stage=plain), tmp_path / "at_once")
    run(recipe(stage={**plain, "batch": {**plain["batch"], "accumulate": 2}}), tmp_path / "in_parts")
    assert apart(tmp_path / "at_once/model.safetensors", tmp_path / "in_parts/model.safetensors") < 1e-10


@pytest.mark.thorough
def test_a_compiled_run_is_that_of_one_that_is_not(tmp_path: Path) -> None:
    run(recipe(stage=SMALL), tmp_path / "plain")
    run(recipe(stage=SMALL, compile=True), tmp_path / "compiled")
    assert apart(tmp_path / "plain/model.safetensors", tmp_path / "compiled/model.safetensors") < 1e-9


def test_the_finished_model_has_latents_near_the_unit_normal(tmp_path: Path) -> None:
    file = run(recipe(stage=SMALL, calibrate=4, precision="bfloat16"), tmp_path)
    assert file is not None
    model = vvae.load(file)
    z = model.scaling.normalize(model.encode(torch.rand(1, 3, 5, 16, 16) * 2 - 1).mean)
    assert 0.1 < z.std() < 10
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run(recipe(stage=SMALL), tmp_path)
    with pytest.raises(CheckpointError, match="another recipe"):
        run(recipe(stage=SMALL, seed=1), tmp_path)


def test_clips_that_no_processes_share_equally_are_refused() -> None:
    with pytest.raises(VvaeError, match="2 clips a step are no equal shares of 3 processes"):
        loop.check(recipe(), 3)
    parts = recipe(stage={"batch": {"clips": 6, "frames": [5], "sizes": [24], "accumulate": 2}})
    loop.check(parts, 3)
    with pytest.raises(VvaeError, match="6 clips a step are no equal shares of 2 processes in 2 parts"):
        loop.check(parts, 2)


# --------------------------------------------------------------------------- what is not finite


def test_a_step_that_is_not_finite_changes_nothing_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pass = Learner._pass
    before: list[dict[str, Tensor]] = []

    def fail(self: Learner, batch: Any, within: int, values: dict[str, float]) -> float:
        found = run_pass(self, batch, within, values)
        before.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
        return math.nan if within == 2 else found

    monkeypatch.setattr(Learner, "_pass", fail)
    run(recipe(stage={"steps": 4}), tmp_path)
    assert all(torch.equal(before[2][name], before[3][name]) for name in before[2])
    assert any(not torch.equal(before[1][name], before[2][name]) for name in before[2])


@pytest.mark.parametrize(("where", "told"), [("clip", "a frame of rendered clip"), ("layer", "what encoder.sum.leave")])
def test_after_several_in_a_row_the_run_stops_and_says_where(
    where: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = loop.Batches._piece
    if where == "clip":
        monkeypatch.setattr(loop.Batches, "_piece", lambda *given: (piece(*given)[0] * math.nan, "rendered clip 0"))
    else:
        monkeypatch.setattr(learner.Learner, "__post_init__", _poisoned(learner.Learner.__post_init__))
    with pytest.raises(VvaeError, match=f"nothing finite for 2 steps up to step 1; .*: {told}"):
        run(recipe(guard={"patience": 2}, model={**recipe().model.model_dump(), "start": "random"}), tmp_path)
    assert snapshots.found(tmp_path / "checkpoints") == [1]


def _poisoned(made: Any) -> Any:
    def make(self: Learner) -> None:
        made(self)
        with torch.no_grad():
            self.model.get_parameter("encoder.sum.leave.weight").fill_(math.inf)

    return make


# --------------------------------------------------------------------------- faults from outside

CHILD = """
import sys
from pathlib import Path
from tests.training.runs import recipe, run
run(recipe(save_every=1, stage={"steps": 200, "batch": {"clips": 1, "frames": [5], "sizes": [16]}}), Path(sys.argv[1]))
"""


def test_a_run_killed_anywhere_has_a_whole_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, cwd=ROOT)
    checkpoints = tmp_path / "checkpoints"
    while child.poll() is None and len(snapshots.found(checkpoints)) < 2:
        time.sleep(0.01)
    child.kill()
    child.wait()
    held = snapshots.about(checkpoints)
    assert held is not None
    given = recipe(save_every=1, stage={"steps": 200, "batch": {"clips": 1, "frames": [5], "sizes": [16]}})
    on = Run(given, tmp_path, World(), lambda line: None)
    assert on.step == held["step"] == snapshots.found(checkpoints)[-1]


@pytest.mark.thorough
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CHILD.replace("import sys\n", "import sys, resource\n").replace(
        "run(recipe(", "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); run(recipe("
    )
    given = recipe(save_every=1, stage={"steps": 200, "batch": {"clips": 1, "frames": [5], "sizes": [16]}})
    monkeypatch.setattr(Run, "_over", lambda self, until: self.step == 1)
    run(given, tmp_path, minutes=1)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CheckpointError" in done.stderr
    assert "cannot be written" in done.stderr
    assert snapshots.found(tmp_path / "checkpoints") == [1]
    assert not list((tmp_path / "checkpoints").glob("part_*"))


# --------------------------------------------------------------------------- recipes


def test_the_recipe_of_the_default_model_has_no_faults() -> None:
    loop.check(recipe_file.read("vvae_small"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {name: vvae_small}\nspeed: 4", "speed"),
        ("- 3", "holds list, not fields"),
        ("model: [", "is no YAML"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_in_words(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=told):
        recipe_file.read(file)


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="vvae_small"):
        recipe_file.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": {"name": "vvae_smal"}}, "vvae-small"),
        ({"model": {"name": "tae", "start": "linear"}}, "no linear path"),
        ({"model": {"name": "iv_vae", "fields": {"widht": 3}}}, "widht"),
        ({"model": {"name": "reducio"}, "calibrate": 1}, "clip by clip"),
        ({"data": {"kind": "clips", "path": "nowhere"}}, "no such file"),
        ({"stage": {"objective": "tae.nothing"}}, "no published objective"),
        ({"stage": {"objective": "open_sora.stage3"}}, "LPIPS"),
        ({"stage": {"freeze": ["encodr"]}}, "near it: encoder"),
        ({"stage": {"objective": OTHER_GAME}}, "parameter that the model lacks"),
        ({"stage": {"batch": {"clips": 3, "accumulate": 2}}}, "equal parts"),
        ({"stage": {"objective": GAME, "batch": {"clips": 1, "sizes": [8]}}}, "pixels"),
    ],
)
def test_errors_come_before_the_first_step(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(VvaeError, match=told):
        run(recipe(**fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rates_climb_and_fall() -> None:
    from vvae.training.recipe import ScheduleSpec

    for then, end in (("constant", 1.0), ("linear", 0.1), ("cosine", 0.0245)):
        factors = [learner.factor(ScheduleSpec(warmup=2, then=then), n, 10) for n in range(10)]
        assert factors[0] == pytest.approx(0.5)
        assert factors[-1] == pytest.approx(end, abs=1e-3)


# --------------------------------------------------------------------------- the game


def around_the_start(out: Path, **changed: Any) -> float:
    """The median reconstruction error of the 200 steps after a game's start over that of the 200 before."""
    game = {**GAME["adversarial"], "start": 400, "ramp": 200, **changed}
    adaptive = game["adaptive"]
    game["adaptive"] = None if adaptive is None else {**adaptive, "parameter": "decoder.sum.leave.groups.weight"}
    stage = {
        "steps": 600,
        "batch": {"clips": 2, "frames": [5], "sizes": [24]},
        "objective": {**L1, "adversarial": game},
        "optimizer": {"rate": 1e-3, "discriminator": 1e-3},
    }
    run(recipe(precision="float32", stage=stage, save_every=600), out)
    errors = [json.loads(line)["values"]["l1"] for line in (out / "log.jsonl").read_text().splitlines()]
    return float(np.median(errors[400:]) / np.median(errors[200:400]))


@pytest.mark.thorough
def test_a_discriminator_that_starts_with_a_ramp_does_not_spoil_the_clip(tmp_path: Path) -> None:
    assert around_the_start(tmp_path / "ramp", weight=0.5) <= 1.1
    assert around_the_start(tmp_path / "at_once", weight=0.5, ramp=0, adaptive=None) > 1.1
