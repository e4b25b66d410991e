"""The first steps of the recipe of vvae-small, for three seeds, as they were recorded.

python -m tests.training.first_steps FOLDER    # records them anew; FOLDER keeps the rendered clips
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import torch

from vvae.training import loop
from vvae.training.parallel import World
from vvae.training.recipe_file import read

FILE = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
STEPS, WINDOW, PLACES = 200, 20, (50, 100, 200)
"""The means of the `WINDOW` steps that end at each of the places are compared."""


def first_steps(out: Path, seed: int) -> dict[str, list[float]]:
    """The loss and every term of the first steps, by name; clips are rendered into `out` once."""
    run = loop.Run(read("vvae_small").replace(seed=seed), out, World(), lambda line: None)
    found: dict[str, list[float]] = {}
    for step, batch in enumerate(islice(run.batches(), STEPS)):
        told = run.learner.step(batch, step)
        for name, value in {"loss": told.loss, **told.values}.items():
            found.setdefault(name, []).append(value)
    return found


def means(values: list[float]) -> list[float]:
    """The means before each of the places."""
    return [sum(values[place - WINDOW : place]) / WINDOW for place in PLACES]


def main(out: Path) -> None:
    torch.set_num_threads(1)
    seeds = {seed: first_steps(out, seed) for seed in SEEDS}
    recipe = read("vvae_small")
    about = {"device": "cpu", "precision": recipe.precision, "torch": torch.__version__, "places": PLACES}
    rounded = {
        seed: {name: [float(f"{v:.5g}") for v in run] for name, run in runs.items()} for seed, runs in seeds.items()
    }
    FILE.write_text(json.dumps({**about, "seeds": rounded}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
