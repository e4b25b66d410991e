"""What the training loop costs beside a bare PyTorch loop with the same model, batch and optimizer: paired steps.

    python -m benchmarks.training [--pairs 15]

Both train vvae-small from the same weights on the same clips, by turns; the loop makes its batches, draws its noise,
reads its terms, keeps averages, guards against what is not finite, and writes its journal. Threads: OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vvae.training import Recipe, journal
from vvae.training.loop import Run
from vvae.training.parallel import World

RESULTS = Path(__file__).parent / "results"
STEPS = 1000
MODEL = {"name": "vvae_small", "start": "linear"}


def recipe(frames: int, side: int) -> Recipe:
    terms = {"l1": {"kind": "l1"}, "kl": {"kind": "kl", "weight": 1e-6}}
    stage = {
        "steps": STEPS,
        "batch": {"clips": 2, "frames": [frames], "sizes": [side]},
        "objective": {"terms": terms},
        "optimizer": {"rate": 1e-4},
    }
    data = {"kind": "procedural", "clips": 8, "frames": frames, "size": side + 16}
    return Recipe(model=MODEL, data=data, stages=[stage], average=0.99)


def bare(run: Run, video: Tensor) -> Callable[[], None]:
    """The same step in plain PyTorch, on a model of its own."""
    model = run.averaged().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, betas=(0.9, 0.98), weight_decay=0.0)
    average = [p.detach().clone() for p in model.parameters()]

    def step() -> None:
        posterior = model.encode(video)
        latents = posterior.sample(noise=torch.randn_like(posterior.mean))
        result = model.decode(latents, frames=video.shape[2], size=(video.shape[3], video.shape[4]))
        loss = (result - video).abs().mean() + 1e-6 * posterior.kl().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 0.01)

    return step


def measured(pairs: int, frames: int, side: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe(frames, side), Path(folder), World(), lambda line: None)
        run.log = journal.Journal(Path(folder), 0)
        batches = iter(run.batches())
        plain = bare(run, next(batches).video)

        def loop() -> None:
            batch = next(batches)
            begun = time.perf_counter()
            told = run.learner.step(batch, run.step)
            run.note(told, 0, time.perf_counter() - begun)
            run.step += 1

        ratios, seconds = [], []
        for number in range(pairs + 2):
            order = (loop, plain) if number % 2 else (plain, loop)
            took = {each: _seconds(each) for each in order}
            if number >= 2:
                ratios.append(took[loop] / took[plain])
                seconds.append(took[plain])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "clip": f"2 x {frames}x{side}x{side}",
        "threads": torch.get_num_threads(),
        "pairs": pairs,
        "ratio": round(middle, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "seconds_of_a_bare_step": round(statistics.median(seconds), 4),
        "torch": torch.__version__,
    }


def _seconds(step: Callable[[], None]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=15)
    given = parser.parse_args()
    rows = [measured(given.pairs, frames, side) for frames, side in ((5, 64), (17, 128))]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['clip']}: the loop takes {row['ratio']} {row['quartiles']} of a bare one")


if __name__ == "__main__":
    main()
