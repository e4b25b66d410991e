"""A recipe: everything that a training run is, as one YAML or JSON file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vvae.errors import SpecError
from vvae.losses import ObjectiveSpec
from vvae.spec import Spec, nearest
from vvae.training.sources import AnySource
from vvae.training.start import ModelSource


class OptimizerSpec(Spec):
    """How weights move. `rate` is for the deep branches of the model.

    "muon" moves their matrices by Muon and the rest by AdamW; "adamw" and "adam" move all of them alike. `vectors` is
    the rate of biases and norms, `linear` that of the linear path where the model has one ("rate" if None);
    `discriminator` that of the discriminator and of learned log variances (Adam, betas 0.5 and 0.9).
    """

    kind: Literal["adamw", "adam", "muon"] = "adamw"
    rate: PositiveFloat
    vectors: PositiveFloat | None = None
    linear: PositiveFloat | None = None
    discriminator: PositiveFloat | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.0, ge=0)


class ScheduleSpec(Spec):
    """What the rates are multiplied by: it climbs over `warmup` steps, and then stays or falls to zero."""

    warmup: NonNegativeInt = 0
    then: Literal["constant", "linear", "cosine"] = "constant"


class BatchSpec(Spec):
    """What a step sees: `clips` clips, over all processes, of one of `frames` frames and one of `sizes` pixels a side.

    A share `images` of the steps sees single frames. With `accumulate` the clips pass in so many parts.
    """

    clips: PositiveInt
    frames: tuple[PositiveInt, ...] = Field((17,), min_length=1)
    sizes: tuple[PositiveInt, ...] = Field((128,), min_length=1)
    images: float = Field(0.0, ge=0, le=1)
    accumulate: PositiveInt = 1

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.clips % self.accumulate:
            raise SpecError(f"{self.clips} clips do not pass in {self.accumulate} equal parts; take a divisor")
        return self


class StageSpec(Spec):
    """A part of a run with its own batches, objective and rates; see `vvae.training.handover` for what goes on.

    `objective` is one, or the name of a published one, as "open_sora.stage1". `clip_gradient` bounds the length of the
    gradient of all weights together; a term's `start` counts from the stage's first step. `sample`: what is decoded is
    drawn from the posterior, else its mode. `train` are paths in the model that alone are trained (all if empty).
    """

    name: str = "train"
    steps: PositiveInt
    batch: BatchSpec
    objective: ObjectiveSpec | str
    optimizer: OptimizerSpec
    schedule: ScheduleSpec = ScheduleSpec()
    clip_gradient: PositiveFloat | None = None
    sample: bool = True
    freeze: tuple[str, ...] = ()

    @property
    def goal(self) -> ObjectiveSpec:
        """The objective itself."""
        return published(self.objective) if isinstance(self.objective, str) else self.objective


class GuardSpec(Spec):
    """A step whose loss or gradient is not finite changes nothing; after `patience` of them in a row the run stops."""

    patience: PositiveInt = 20


class Recipe(Spec):
    """A training run.

    `average` is the decay of the averaged weights, which are what is exported (0: the last ones are). `precision` is
    that of the arithmetic; weights are float32, or float64 with "float64". `lpips` is the file that `vvae convert
    lpips` wrote, for objectives that need it. Every `save_every` steps a checkpoint is written, the last `keep` of
    which stay; every `judge_every` steps held-out clips are measured and pictured. `calibrate`: over how many clips
    the exported latents' shift and scale are taken (0: they stay those of the spec).
    """

    model: ModelSource
    data: AnySource
    held_out: AnySource | None = None
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    seed: NonNegativeInt = 0
    average: float = Field(0.0, ge=0, lt=1)
    precision: Literal["bfloat16", "float32", "float64"] = "float32"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    checkpoint_activations: bool = False
    compile: bool = False
    workers: NonNegativeInt = 0
    lpips: str | None = None
    guard: GuardSpec = GuardSpec()
    save_every: PositiveInt = 500
    keep: PositiveInt = 2
    judge_every: PositiveInt = 1000
    calibrate: NonNegativeInt = 0

    @model_validator(mode="after")
    def _objectives(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise SpecError(f"two stages are named {twice[0]!r}; give each a name of its own")
        for stage in self.stages:
            self.goal(stage)
        return self

    def goal(self, stage: StageSpec) -> ObjectiveSpec:
        """The objective of a stage, with the recipe's LPIPS file and what the stage freezes."""
        goal = stage.goal
        lpips = self.lpips if goal.needs_lpips else None
        return goal.replace(lpips=goal.lpips or lpips, frozen=tuple(dict.fromkeys((*goal.frozen, *stage.freeze))))

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def first_step(self, stage: StageSpec) -> int:
        """The step of the run with which a stage begins."""
        return sum(before.steps for before in self.stages[: self.stages.index(stage)])

    def stage_at(self, step: int) -> tuple[int, int]:
        """The number of the stage that a step of the run belongs to, and the step's number in it, both from 0."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps


def published(name: str) -> ObjectiveSpec:
    """The objective of a publication by its name, as "open_sora.stage1".

    Raises:
        SpecError: none is called so.
    """
    from vvae.models.names import architectures

    known = {
        f"{arch}.{own}": objective
        for arch, make in architectures().items()
        for own, objective in getattr(make, "objectives", {}).items()
    }
    if name not in known:
        raise SpecError(f"no published objective is called so: {nearest(name, known)}")
    return known[name]  # type: ignore[no-any-return]
