"""What a run is said to take is what a step of it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.runs import GAME, recipe
from vvae.cost import LiveBytes, training_bytes
from vvae.training.batches import Batches
from vvae.training.learner import Learner
from vvae.training.outlook import StageOutlook, look_ahead
from vvae.training.parallel import World
from vvae.training.recipe import Recipe

STAGE: dict[str, Any] = {"objective": GAME, "batch": {"clips": 2, "frames": [5], "sizes": [24]}}


def stage(given: Recipe, out: Path, processes: int = 1) -> StageOutlook:
    (found,) = look_ahead(given, out, processes).stages
    return found


def test_what_a_backward_pass_keeps_is_counted() -> None:
    def run() -> None:
        y: Tensor = torch.nn.Parameter(torch.empty(1000, device="meta"))
        for _ in range(10):
            y = y.exp()
        y.sum().backward()

    kept, gradients = 10 * 4000, (2 * 4000, 4 * 4000)
    assert kept + gradients[0] <= training_bytes(run) <= kept + gradients[1]


def test_a_step_takes_what_was_said(tmp_path: Path) -> None:
    """Of a step that is computed: its FLOPs exactly, its memory beside the weights within 5 %."""
    given = recipe(stage=STAGE, average=0.0)
    found = stage(given, tmp_path)
    averaged = stage(given.replace(average=0.9), tmp_path)
    model = given.model.spec().build()
    learner = Learner(given, given.stages[0], model, World())
    batch = Batches(given, given.data.look())[0]
    learner.step(batch, 5)
    counter = LiveBytes()
    with FlopCounterMode(display=False) as flops, counter:
        learner.step(batch, 5)
    assert flops.get_total_flops() == found.flops
    judges = learner.objective.state_dict().values()
    weights = [*model.state_dict().values(), *judges]
    beside = counter.peak + sum(t.numel() * t.element_size() for t in weights)
    assert abs(found.memory - beside) < 0.05 * beside
    assert averaged.memory - found.memory == 8 * found.learning
    assert found.learning == sum(p.numel() for p in model.parameters())
    assert found.discriminator == sum(p.numel() for p in learner.judges) > 0


def test_parts_and_processes_share_the_work(tmp_path: Path) -> None:
    at_once = stage(recipe(stage=STAGE), tmp_path)
    in_parts = stage(recipe(stage={**STAGE, "batch": {**STAGE["batch"], "accumulate": 2}}), tmp_path)
    in_two = stage(recipe(stage=STAGE), tmp_path, processes=2)
    assert in_parts.clips == 2 * in_two.clips == at_once.clips
    assert in_parts.memory == in_two.memory < at_once.memory
    assert abs(in_parts.flops - at_once.flops) < 0.01 * at_once.flops
    assert abs(2 * in_two.flops - at_once.flops) < 0.01 * at_once.flops


def test_of_bfloat16_an_upper_bound_is_told(tmp_path: Path) -> None:
    plain, half = (stage(recipe(precision=name), tmp_path) for name in ("float32", "bfloat16"))
    assert plain == half


def test_what_is_frozen_does_not_learn(tmp_path: Path) -> None:
    given = recipe(stage={"freeze": ["encoder"]})
    model = given.model.spec().build()
    assert stage(given, tmp_path).learning == sum(p.numel() for p in model.decoder.parameters())


def test_the_first_batch_is_that_of_the_run(tmp_path: Path) -> None:
    given = recipe()
    rendered = Batches(given, given.data.open(tmp_path / "material"))
    looked = Batches(given, given.data.look())
    assert all(torch.equal(rendered[step].video, looked[step].video) for step in (0, 3))
