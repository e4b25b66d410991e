"""The training loop: it can be killed at any time, goes on from its last snapshot, and ends at the same weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import CheckpointError, VvaeError
from vvae.scaling import Affine
from vvae.training import floor, pool
from vvae.training.judge import judge
from vvae.training.muon import Muon
from vvae.training.recipe import LossFields, Recipe, read
from vvae.training.start import is_linear, start_from

Report = Callable[[str], None]
PATIENCE = 20  # steps without a finite loss before the run is given up
SCALED_OVER = 48  # clips over which the latents' shift and scale are taken


@dataclass
class Run:
    """What changes while training; a snapshot holds all of it."""

    model: VideoAutoencoder
    average: VideoAutoencoder
    optimizers: list[Optimizer]
    step: int = 0
    skipped: int = 0

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "skipped": self.skipped,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.step, self.skipped = state["step"], state["skipped"]


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    threads: int | None = 1,
    report: Report = print,
) -> Path | None:
    """Train a recipe in the folder `out`, which holds pools, snapshot and, at the end, `vvae-small.safetensors`.

    `recipe` is one, a TOML file, or the name of one that ships with vvae; `threads` None leaves torch's own number.

    Stops after `minutes` with a snapshot, from which the next call goes on: the result is that of one run without
    a stop, at the same number of threads.

    Returns:
        The finished model's file, or None where steps are left.

    Raises:
        SpecError: no such recipe, or a field that cannot be.
        CheckpointError: the snapshot in `out` is of another recipe.
        VvaeError: no finite loss for several steps.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read(recipe)
    out = Path(out)
    if threads is not None:
        torch.set_num_threads(threads)
    clips = pool.render(out / "material", recipe.material, lambda done, of: report(f"rendered {done} of {of} clips"))
    held_out = pool.to_float(pool.render(out / "held_out", recipe.held_out))
    run = _open(recipe, clips, out / "snapshot.pt")
    _until(run, recipe, clips, held_out, out, minutes, report)
    save_snapshot(run, recipe, out / "snapshot.pt")
    if run.step < recipe.steps:
        return None
    return export(run.average, pool.to_float(clips[:SCALED_OVER]), out / "vvae-small.safetensors")


def _until(
    run: Run, recipe: Recipe, clips: pool.Clips, held_out: Tensor, out: Path, minutes: float | None, report: Report
) -> None:
    """Steps to the recipe's end, or for so many minutes."""
    begun, first = time.monotonic(), run.step
    if first == 0:
        report(f"step 0: held out {judge(run.average, held_out)}")
    losses: list[float] = []
    while run.step < recipe.steps and (minutes is None or time.monotonic() - begun < 60 * minutes):
        losses.append(update(run, recipe, clips))
        if run.step % recipe.save_every == 0:
            save_snapshot(run, recipe, out / "snapshot.pt")
            each = (time.monotonic() - begun) / (run.step - first)
            left = each * (recipe.steps - run.step) / 60
            recent = np.mean(losses[-recipe.save_every :])
            report(f"step {run.step} of {recipe.steps}: loss {recent:.4f}, {each:.2f} s a step, {left:.0f} min left")
        if run.step % recipe.judge_every == 0 or run.step == recipe.steps:
            report(f"step {run.step}: held out {judge(run.average, held_out)}")


def update(run: Run, recipe: Recipe, clips: pool.Clips) -> float:
    """One step; its material depends on seed and step alone. A loss that is not finite changes no weight."""
    rng = np.random.default_rng([recipe.seed, run.step])
    video = pool.batch(clips, rng, recipe.batch, recipe.frames, recipe.crop)
    with torch.autocast(video.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        result = run.model.decode(run.model.encode(video))
    value = loss(result.float(), video, recipe.loss)
    run.model.zero_grad()
    value.backward()
    if torch.isfinite(value) and _gradients_are_finite(run.model):
        _apply(run, recipe)
        run.skipped = 0
    else:
        run.skipped += 1
        if run.skipped >= PATIENCE:
            raise VvaeError(f"the loss was not finite for {PATIENCE} steps up to step {run.step}; lower `rate`")
    run.step += 1
    return value.item()


def loss(result: Tensor, video: Tensor, weights: LossFields) -> Tensor:
    """Weighted mean absolute and squared error, `b c t h w` in [-1, 1]; a lead frame counts 1."""
    error = result - video
    groups = (video.shape[2] - 1) // len(weights.positions)
    frames = torch.tensor([1.0, *weights.positions * groups], dtype=error.dtype, device=error.device)
    each = weights.l1 * error.abs().mean(dim=(0, 1, 3, 4)) + weights.l2 * error.square().mean(dim=(0, 1, 3, 4))
    return (frames * each).sum() / frames.sum()


def export(model: VideoAutoencoder, clips: Tensor, file: Path) -> Path:
    """The model in bfloat16, its latents' shift and scale taken over `clips`."""
    with torch.no_grad():
        latents = torch.cat([model.encode(clip[None]).mean for clip in clips])
    shift, deviation = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    scaling = Affine(shift=_rounded(shift), scale=_rounded(1 / deviation))
    weights = {name: value.bfloat16() for name, value in model.state_dict().items()}
    checkpoint.save_weights(file, weights, model.spec.replace(latent=scaling).to_json())
    return file


def save_snapshot(run: Run, recipe: Recipe, file: Path) -> None:
    """All or nothing: a kill leaves the old snapshot or the new one."""
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        torch.save({"recipe": recipe.to_json(), **run.state()}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _open(recipe: Recipe, clips: pool.Clips, file: Path) -> Run:
    """The run of the snapshot, or a new one from the floor."""
    run = new_run(recipe)
    if not file.exists():
        pieces = (pool.to_float(clips[i : i + 8]) for i in range(0, min(recipe.floor_clips, len(clips)), 8))
        start_from(run.model, floor.fit(pieces), recipe.seed)
        run.average.load_state_dict(run.model.state_dict())
        return run
    state = torch.load(file, weights_only=True)
    if state["recipe"] != recipe.to_json():
        raise CheckpointError(f"{file} is of another recipe; take another folder, or delete it to start again")
    run.restore(state)
    return run


def new_run(recipe: Recipe) -> Run:
    """Model and optimizers of a recipe, weights not set yet."""
    model, average = recipe.model.spec().build(), recipe.model.spec().build().requires_grad_(False)
    named = list(model.named_parameters())
    linear = [p for name, p in named if is_linear(name)]
    deep = [p for name, p in named if not is_linear(name) and p.ndim > 1]
    vectors = [p for name, p in named if not is_linear(name) and p.ndim == 1]
    groups = [{"params": vectors, "lr": recipe.vector_rate}, {"params": linear, "lr": recipe.linear_rate}]
    optimizers = [Muon(deep, recipe.rate), AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["full"] = group["lr"]
    return Run(model, average, optimizers)


def _apply(run: Run, recipe: Recipe) -> None:
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * recipe.factor(run.step)
        optimizer.step()
    kept = min(recipe.average, run.step / (run.step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), list(run.model.parameters()), 1 - kept)


def _gradients_are_finite(model: VideoAutoencoder) -> bool:
    squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    return bool(torch.isfinite(torch.stack(squares).sum()))


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())
