"""What a run will be, before it is: its parameters, memory, FLOPs and steps, and the first batch to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vvae.cost import training_bytes
from vvae.training import journal
from vvae.training.batches import Batches
from vvae.training.learner import Learner
from vvae.training.loop import check
from vvae.training.parallel import World
from vvae.training.recipe import Recipe, StageSpec
from vvae.training.recipe_file import read

META = World(device=torch.device("meta"))
ROWS = 8
"""Clips in the picture of a batch, at most."""


@dataclass(frozen=True)
class StageOutlook:
    """A stage with its longest and largest clips and all terms on: `clips` is the share of one process.

    `learning` are the parameters of the model that learn, `discriminator` those of the discriminator. `memory` is in
    bytes, of one process: weights, averages, gradients, what optimizers remember, and what the backward pass keeps. All
    is counted as whole, in the weights' dtype and without activation checkpointing, so it is an upper bound where the
    recipe shards, checkpoints or computes in bfloat16. `flops` are those of a step of one process, 2 per multiply-add.
    """

    name: str
    steps: int
    clips: int
    frames: int
    size: int
    learning: int
    discriminator: int
    memory: int
    flops: int


@dataclass(frozen=True)
class Outlook:
    """A recipe's model and stages; `picture` shows the first batch, a row of frames for each clip."""

    model: str
    parameters: int
    steps: int
    processes: int
    stages: tuple[StageOutlook, ...]
    picture: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {**asdict(self), "picture": str(self.picture)}


def look_ahead(recipe: Recipe | str | Path, out: str | Path, processes: int = 1) -> Outlook:
    """What `train` will do in so many processes. All that is written is `first_batch.png` in `out`.

    Raises:
        SpecError: no such recipe, or a field that cannot be.
        VideoError: no clips to begin with.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read(recipe)
    check(recipe, processes)
    picture = Path(out) / "first_batch.png"
    batch = Batches(recipe, recipe.data.look())[0]
    picture.parent.mkdir(parents=True, exist_ok=True)
    journal.draw_rows(list(batch.video[:ROWS]), picture)
    with torch.device("meta"):
        model = recipe.model.spec().build()
    stages = tuple(_stage(recipe, stage, processes) for stage in recipe.stages)
    return Outlook(model.spec.name, _count(model.parameters()), recipe.steps, processes, stages, picture)


def _stage(recipe: Recipe, stage: StageSpec, processes: int) -> StageOutlook:
    """A step on the meta device, twice: from the second on optimizers remember what they have seen."""
    with torch.device("meta"):
        model = recipe.model.spec().build()
    learner = Learner(recipe, stage, model, META)
    clips, frames, size = stage.batch.clips // processes, max(stage.batch.frames), max(stage.batch.sizes)
    part = clips // stage.batch.accumulate
    video = torch.zeros(part, model.spec.pixels.channels, frames, size, size, dtype=learner.dtype, device="meta")

    def step() -> None:
        learner.sides(video, range(part), stage.steps - 1)
        for optimizer in learner.moving:
            optimizer.step()
            optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    weights = [*model.state_dict().values(), *learner.objective.state_dict().values(), *learner.average.values()]
    lpips = learner.objective.lpips
    weights += [] if lpips is None else list(lpips.state_dict().values())
    return StageOutlook(
        name=stage.name,
        steps=stage.steps,
        clips=clips,
        frames=frames,
        size=size,
        learning=_count(p for p in model.parameters() if p.requires_grad),
        discriminator=_count(learner.judges),
        memory=sum(t.numel() * t.element_size() for t in weights) + training_bytes(step),
        flops=counter.get_total_flops() * stage.batch.accumulate,
    )


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() for t in tensors)
