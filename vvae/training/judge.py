"""How a model in training does on clips that it never sees: the figures of `vvae eval`, and where they are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.evaluation.meter import Meter
from vvae.evaluation.results import OfModel, of_clip, of_model
from vvae.evaluation.run import Clock
from vvae.tiling import usual_plan
from vvae.training.journal import Curve
from vvae.video.metrics import psnr
from vvae.video.reconstruct import paired
from vvae.video.whole import whole_file

MEASURES = {"psnr": psnr}
"""What is taken of each frame: SSIM would take nearly as long as a small model."""
KEPT = {"mean", "lead", "positions", "spread", "systematic"}
"""Of the figures, what is written down."""
FILE = "held_out.jsonl"
"""Where, in the folder of a run."""


@torch.inference_mode()
def judge(model: VideoAutoencoder, clips: Sequence[Tensor]) -> OfModel:
    """The figures of a model on clips `3 t h w` in [-1, 1], taken as `evaluate` takes them of files."""
    plan, whole, found = usual_plan(model.spec), model.spec.chunks("encode"), []
    for number, clip in enumerate(clips):
        meter, clock = Meter(int(model.spec.latents.stride), MEASURES), Clock()
        shown = ((frame, None) for frame in clip[None].split(1, 2))
        for source, result, _ in clock.timed(paired(model, shown, plan)):
            meter.add(source, result)
        figures = (meter.per_frame, meter.systematic)
        found.append(of_clip(f"held out {number}", *figures, whole.lead, whole.group, clock.seconds))
    return of_model(model.spec.name, {}, whole.lead, whole.group, found)


def keep(figures: OfModel, step: int, file: Path) -> None:
    """A line for the step in a file that is never half written; lines of a run that went further are cut off."""
    lines = file.read_text().splitlines() if file.exists() else []
    lines = [line for line in lines if json.loads(line)["step"] < step]
    lines.append(json.dumps({"step": step, **figures.model_dump(include=KEPT)}))
    with whole_file(file) as fresh:
        fresh.write_text("".join(f"{line}\n" for line in lines))


def judged(file: Path) -> dict[str, Curve]:
    """The means that `keep` put into a file, over the steps; nothing where it is not there."""
    curves: dict[str, Curve] = {}
    for row in map(json.loads, file.read_text().splitlines() if file.exists() else []):
        for name, value in row["mean"].items():
            curves.setdefault(f"held out {name}", Curve()).add(row["step"], value)
    return curves
