"""What ships as vvae-small, from the folder of its run: weights in bfloat16, curves as JSON and as a picture.

python -m benchmarks.release runs/vvae_small [--out vvae/models]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import vvae
from vvae.training.journal import Curve, Journal, draw_curves
from vvae.training.judge import FILE, judged
from vvae.training.recipe_file import read

NAME = "vvae-small"
MODELS = Path(vvae.__file__).parent / "models"


def curves(run: Path) -> dict[str, Curve]:
    """All curves of a finished run, those of held-out clips first."""
    return {**judged(run / FILE), **Journal(run, read("vvae_small").steps).curves}


def rounded(curve: Curve) -> dict[str, list[float]]:
    """Points as two lists, each value with five digits."""
    return {"step": [step for step, _ in curve.points], "value": [float(f"{value:.5g}") for _, value in curve.points]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run of the recipe")
    parser.add_argument("--out", type=Path, default=MODELS)
    given = parser.parse_args()
    vvae.load(given.run / "model.safetensors", dtype=torch.bfloat16).save(given.out / f"{NAME}.safetensors")
    found = curves(given.run)
    draw_curves(found, given.out / f"{NAME}.png")
    (given.out / f"{NAME}.json").write_text(json.dumps({name: rounded(curve) for name, curve in found.items()}) + "\n")


if __name__ == "__main__":
    main()
