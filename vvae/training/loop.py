"""The training loop: it can be killed at any time, goes on from its last checkpoint, and ends at the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import CheckpointError, SpecError, VideoError, VvaeError
from vvae.evaluation.calibrate import latent_moments, scaling_of
from vvae.evaluation.moments import Moments
from vvae.evaluation.results import in_a_line
from vvae.scaling import ClipNorm
from vvae.training import handover, journal, order, parallel, snapshots
from vvae.training.batches import Batches, loaded
from vvae.training.judge import FILE, judge, judged, keep
from vvae.training.learner import Learner, Told, whole
from vvae.training.parallel import World
from vvae.training.recipe import Recipe
from vvae.training.recipe_file import read
from vvae.training.sources import Source

Report = Callable[[str], None]
FLOOR_CLIPS = 400
"""To which a linear start is fitted, at most."""
HELD_OUT = 24
"""Clips on which a model in training is judged, at most."""


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    report: Report = print,
) -> Path | None:
    """Train a recipe in the folder `out`, which holds material, checkpoints, `log.jsonl`, `held_out.jsonl`, pictures
    and, at the end, `model.safetensors`. Under `torchrun`, every process calls it alike.

    `recipe` is one, a YAML or JSON file, or the name of one that ships with vvae. Stops after `minutes` with a
    checkpoint, from which the next call goes on: the result is that of one run without a stop, bit for bit at the same
    number of processes and threads.

    Returns:
        The finished model's file, or None where steps are left.

    Raises:
        SpecError: no such recipe, or a field that cannot be.
        CheckpointError: the checkpoint in `out` is of another recipe, or one cannot be written.
        VideoError: clips that cannot be used.
        VvaeError: no finite loss for several steps; it names the first layer of which something is not finite. Or
            `out` cannot be written, or another run is under way there.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read(recipe)
    check(recipe, parallel.processes())
    try:
        with parallel.joined() as world, _alone(Path(out), world):
            run = Run(recipe, Path(out), world, report if world.first else lambda line: None)
            return run.go(minutes)
    except OSError as error:
        told = f"{error.filename or out}: {error.strerror or error}"
        raise VvaeError(
            f"{told}; take another folder, or make room in this one and go on with the same call"
        ) from error


@contextmanager
def _alone(out: Path, world: World) -> Iterator[None]:
    """No other run writes into the folder; however the process ends, the lock goes with it."""
    if not world.first:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise VvaeError(
            f"{out}: another run is under way here; wait for it or end it, or take another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check(recipe: Recipe, processes: int = 1) -> None:
    """Every error that a recipe alone can have, before anything is rendered or built."""
    for stage in recipe.stages:
        if stage.batch.clips % (processes * stage.batch.accumulate):
            parts = f" in {stage.batch.accumulate} parts" if stage.batch.accumulate > 1 else ""
            raise VvaeError(
                f"{stage.batch.clips} clips a step are no equal shares of {processes} processes{parts}; take a multiple"
            )
    recipe.model.check()
    recipe.data.check()
    if recipe.held_out is not None:
        recipe.held_out.check()
    spec = recipe.model.spec()
    if recipe.calibrate and isinstance(spec.latent, ClipNorm):
        raise SpecError(
            f"{spec.name} norms its latents clip by clip, they have no shift and scale; take 0", ("calibrate",)
        )
    with torch.device("meta"):
        model = spec.build()
    for stage in recipe.stages:
        goal = recipe.goal(stage)
        goal.check()
        goal.check_model(model)
        for frames in stage.batch.frames + ((1,) if stage.batch.images else ()):
            for size in stage.batch.sizes:
                goal.check_clip(frames, size, size)
                spec.latent_shape(frames, size, size)


class Run:
    """A recipe in a folder, in this process of a world."""

    def __init__(self, recipe: Recipe, out: Path, world: World, report: Report) -> None:
        self.recipe, self.out, self.world, self.report = recipe, out, world, report
        if world.first:
            out.mkdir(parents=True, exist_ok=True)
            snapshots.clear(self._checkpoints)
        world.wait()
        self.source, self.held_out = self._opened()
        self.step, self.in_a_row = 0, 0
        self.saved_at: int | None = None
        held = snapshots.about(self._checkpoints)
        # of a checkpoint all weights are read: no floor is fitted to be thrown away
        self.learner = self._learner(self._first_model() if held is None else recipe.model.spec().build(), 0)
        if held is not None:
            self._resume(held)

    # ---- what it starts with

    def _opened(self) -> tuple[Source, list[Tensor]]:
        def told(done: int, of: int) -> None:
            self.report(f"rendered {done} of {of} clips")

        held: list[Tensor] = []
        sources = [self.recipe.data.open(self.out / "material", told)] if self.world.first else []
        if self.world.first and self.recipe.held_out is not None:
            sources.append(self.recipe.held_out.open(self.out / "held_out", told))
        self.world.wait()
        if not self.world.first:
            sources = [self.recipe.data.open(self.out / "material")]
        elif len(sources) > 1:
            held = list(self._pieces(sources[1], HELD_OUT, -1))
        return sources[0], held

    def _pieces(self, source: Source, most: int, stage: int) -> Iterator[Tensor]:
        """The first clips of a source that can be used, `3 t h w`, as large as the stage's largest."""
        batch = self.recipe.stages[stage].batch
        frames, size, wrong = max(batch.frames), max(batch.sizes), ""
        for index in range(len(source)):
            if not most:
                return
            try:
                yield source.piece(index, frames, size, order.random(self.recipe.seed, order.LOOK, index))
            except VideoError as error:
                wrong = str(error)
            else:
                most, wrong = most - 1, ""
        if wrong:
            raise VideoError(f"{wrong}; it was the last clip that could have been taken, see `vvae data check` of all")

    def _first_model(self) -> VideoAutoencoder:
        # every process makes the same one, of the same clips
        clips = (piece[None] for piece in self._pieces(self.source, FLOOR_CLIPS, 0))
        return self.recipe.model.build(clips, self.recipe.seed)

    def _learner(self, model: VideoAutoencoder, stage: int, average: dict[str, Tensor] | None = None) -> Learner:
        if self.recipe.compile:
            model.compile()
        learner = Learner(self.recipe, self.recipe.stages[stage], model, self.world, average or {})
        if self.recipe.checkpoint_activations:
            parallel.checkpoint_blocks(model)
        return learner

    # ---- checkpoints

    def state(self) -> dict[str, Any]:
        """All that changes while training, in tensors, whatever the number of processes."""
        learner = self.learner
        moved = snapshots.moved(learner.named, learner.moving)
        objective = dict(learner.objective.state_dict())
        return {"model": learner.model.state_dict(), "objective": objective, "average": learner.average, "moved": moved}

    def save(self) -> None:
        """A checkpoint of the step, if there is none."""
        if self.saved_at == self.step:
            return
        about = {"recipe": self.recipe.to_json(), "step": self.step, "in_a_row": self.in_a_row}
        stage, _ = self.recipe.stage_at(max(self.step - 1, 0))
        snapshots.save(
            self._checkpoints, self.step, self.state(), {**about, "stage": stage}, self.world, self.recipe.keep
        )
        self.saved_at = self.step

    @property
    def _checkpoints(self) -> Path:
        return self.out / "checkpoints"

    def _resume(self, held: dict[str, Any]) -> None:
        """Goes on from the newest checkpoint, which says this of itself."""
        folder = self._checkpoints
        if held["recipe"] != self.recipe.to_json():
            raise CheckpointError(f"{folder} is of another recipe; take another folder, or delete it to start again")
        if held["stage"]:
            self.learner = self._learner(self.learner.model, held["stage"], self.learner.average)
        learner, state = self.learner, self.state()
        snapshots.load(folder, state, learner.named, self.world)
        learner.model.load_state_dict(state["model"])
        learner.objective.load_state_dict(state["objective"])
        snapshots.move(learner.named, learner.moving, state["moved"])
        self.step = self.saved_at = held["step"]
        self.in_a_row = held["in_a_row"]

    # ---- steps

    def go(self, minutes: float | None) -> Path | None:
        """Steps to the recipe's end, or for so many minutes."""
        begun, first = time.monotonic(), self.step
        self.log = journal.Journal(self.out, self.step, self.recipe.save_every) if self.world.first else None
        if self.step == 0:
            self._judge()
            self.world.wait()
        for batch in self.batches():
            if minutes is not None and self._over(begun + 60 * minutes):
                break
            number, within = self.recipe.stage_at(self.step)
            if self.recipe.stages[number] is not self.learner.stage:
                self._next_stage(number)
            started = time.monotonic()
            told = self.learner.step(batch, within)
            self.note(told, number, time.monotonic() - started)
            if not told.applied:
                self._not_finite(batch, within)
            self.in_a_row = 0 if told.applied else self.in_a_row + 1
            self.step += 1
            if self.step % self.recipe.save_every == 0:
                self.save()
                self._tell(begun, first)
            if self.step % self.recipe.judge_every == 0 or self.step == self.recipe.steps:
                self._judge()
                self.world.wait()
        if self.step:
            self.save()
        return self._finished() if self.step == self.recipe.steps else None

    def batches(self) -> Iterator[Any]:
        batches = Batches(self.recipe, self.source, self.world.rank, self.world.size)
        return loaded(batches, self.step, self.recipe.steps, self.recipe.workers)

    def _over(self, until: float) -> bool:
        """Whether the time is over, by the first process's clock."""
        over = torch.tensor(float(time.monotonic() >= until and self.world.first), device=self.world.device)
        return bool(self.world.sum(over))

    def _next_stage(self, number: int) -> None:
        """The next objective and optimizers, which go on with what they have in common with those before."""
        before = self.learner
        model, average = handover.unspread(before)
        self.learner = self._learner(model, number, average)
        handover.hand_over(before, self.learner)
        self.report(f"step {self.step}: stage {self.learner.stage.name}")

    def _not_finite(self, batch: Any, within: int) -> None:
        self.report(f"step {self.step}: not finite, and skipped ({', '.join(batch.names)})")
        if self.in_a_row + 1 >= self.recipe.guard.patience:
            why = self.learner.why(batch, within)
            self.save()
            raise VvaeError(
                f"nothing finite for {self.in_a_row + 1} steps up to step {self.step}; the first that is not: {why}; "
                "lower the rate, or bound the gradient (clip_gradient)"
            )

    # ---- what is told

    def note(self, told: Told, stage: int, seconds: float) -> None:
        for line in told.skipped:  # by each process, of its own clips
            self.report(f"skipped: {line}")
            with (self.out / "skipped.txt").open("a") as stream:
                stream.write(f"{line}\n")
        if self.log is None:
            return
        row = {"step": self.step, "stage": self.recipe.stages[stage].name, "loss": told.loss, "values": told.values}
        rate = self.learner.optimizers[0].param_groups[0]["lr"] if self.learner.optimizers else None
        self.log.write(**row, gradient=told.gradient, rate=rate, applied=told.applied, seconds=round(seconds, 4))

    def _tell(self, begun: float, first: int) -> None:
        if self.log is None:
            return
        each = (time.monotonic() - begun) / (self.step - first)
        left = each * (self.recipe.steps - self.step) / 60
        loss = sum(self.log.losses) / len(self.log.losses)
        self.report(
            f"step {self.step} of {self.recipe.steps}: loss {loss:.4g}, {each:.2f} s a step, {left:.0f} min left"
        )
        self._draw(self.log)

    def _draw(self, log: journal.Journal) -> None:
        journal.draw_curves({**judged(self.out / FILE), **log.curves}, self.out / "curves.png")

    def _judge(self) -> None:
        """Held-out clips by the averaged weights: figures, and a picture of the first."""
        if self.recipe.held_out is None:
            return
        model = self.averaged()  # by all processes, of their shards
        if not self.world.first:
            return
        try:
            figures = judge(model, self.held_out)
        except VideoError as error:  # a model that gives no numbers: whether the run stops, its guard decides
            return self.report(f"step {self.step}: held out not judged: {error}")
        keep(figures, self.step, self.out / FILE)
        self.report(f"step {self.step}: held out {in_a_line(figures)}")
        (self.out / "pictures").mkdir(exist_ok=True)
        first = self.held_out[0].to(self.world.device)
        with torch.no_grad():
            journal.draw_clips(first, model(first[None])[0], self.out / "pictures" / f"step_{self.step:08d}.png")

    def averaged(self) -> VideoAutoencoder:
        """A copy in one piece, with the averaged weights where there are any, in evaluation mode."""
        learner = self.learner
        weights = {name: whole(tensor).detach() for name, tensor in learner.model.state_dict().items()}
        weights |= {name: whole(tensor) for name, tensor in learner.average.items()}
        model = learner.model.spec.build().to(self.world.device, learner.dtype)
        model.load_state_dict(weights)
        return model.eval()

    def _finished(self) -> Path | None:
        model, file = self.averaged(), self.out / "model.safetensors"
        if self.world.first:
            if self.recipe.calibrate:
                _calibrate(model, self._pieces(self.source, self.recipe.calibrate, -1), self.report)
            checkpoint.save_weights(file, dict(model.state_dict()), model.spec.to_json())
            if self.log is not None:
                self._draw(self.log)
        self.world.wait()
        return file


@torch.no_grad()
def _calibrate(model: VideoAutoencoder, clips: Iterator[Tensor], report: Report) -> None:
    """Sets the latents' shift and scale to those of clips `3 t h w`, if there are any."""
    device, moments = next(model.parameters()).device, Moments.none(model.spec.latents.channels)
    for clip in clips:
        moments = moments.merged(latent_moments(model.encode(clip[None].to(device))))
    try:
        model.spec = model.spec.replace(latent=scaling_of(moments))
    except VvaeError as error:  # a channel that learned nothing is no reason to give up the model
        report(f"shift and scale of the latents stay those of the spec: {error}")
