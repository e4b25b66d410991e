"""What two processes do for the tests of `test_parallel`: all of it in one start, as each takes seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.training.runs import GAME, recipe, run
from vvae.losses.objective import Objective
from vvae.losses.shared import alone
from vvae.training import snapshots
from vvae.training.learner import Learner
from vvae.training.parallel import World, joined
from vvae.training.recipe import Recipe

STEPS = {"steps": 10, "batch": {"clips": 4, "frames": [5], "sizes": [24]}, "clip_gradient": 0.01}


def plain(**fields: Any) -> Recipe:
    return recipe(stage=STEPS, save_every=5, **fields)


def game(**fields: Any) -> Recipe:
    return recipe(stage={**STEPS, "objective": GAME}, save_every=5, **fields)


def stages(**fields: Any) -> Recipe:
    """Two stages, the second with a frozen encoder; blocks are checkpointed, batches come in parts."""
    given = game(**fields, checkpoint_activations=True)
    first = given.stages[0].replace(steps=3, batch={"clips": 4, "frames": [5], "sizes": [24], "accumulate": 2})
    return given.replace(stages=[first, first.replace(name="second", freeze=["encoder"])], save_every=2)


def without_reduction(name: str) -> None:
    """A run in which one thing is each process's own."""
    if name == "adaptive":
        before = Objective._adaptive

        def own(self: Objective, *given: Any) -> Any:
            shared, self.reduce = self.reduce, alone
            found = before(self, *given)
            self.reduce = shared
            return found

        Objective._adaptive = own  # type: ignore[method-assign]
    if name == "lecam":
        lecam = Objective._lecam

        def own_lecam(self: Objective, *given: Any) -> Any:
            shared, self.reduce = self.reduce, alone
            found = lecam(self, *given)
            self.reduce = shared
            return found

        Objective._lecam = own_lecam  # type: ignore[method-assign]
    if name == "batch_norm":
        build = Objective.__init__

        def own_norms(self: Objective, spec: Any, channels: int = 3, **given: Any) -> None:
            build(self, spec, channels, **given)
            for module in self.modules():
                if module is not self and hasattr(module, "reduce"):
                    module.reduce = alone

        Objective.__init__ = own_norms  # type: ignore[method-assign]
    if name == "clipping":
        length = torch.nn.utils.get_total_norm

        def own_length(gradients: Any) -> Any:
            return length([g.to_local() if hasattr(g, "to_local") else g for g in gradients])

        torch.nn.utils.get_total_norm = own_length
    if name == "guard":
        World.mean = lambda self, x: x.detach()  # type: ignore[method-assign]


def poisoned(rank: int, out: Path) -> None:
    """The second process alone sees a loss that is not finite at step 2."""
    step = Learner._pass

    def fail(self: Learner, batch: Any, within: int, values: dict[str, float]) -> float:
        found = step(self, batch, within, values)
        return float("nan") if within == 2 and self.world.rank == 1 else found

    Learner._pass = fail  # type: ignore[method-assign]
    run(recipe(stage={**STEPS, "steps": 4}), out)
    Learner._pass = step  # type: ignore[method-assign]


def main(out: Path, *names: str) -> None:
    torch.set_num_threads(1)
    for name in names:
        if name.startswith("without_"):
            without_reduction(name.removeprefix("without_"))
            run(game(parallel="fsdp" if name == "without_clipping" else "ddp"), out / name)
        elif name.startswith("poisoned"):
            poisoned(0, out / name)
        else:
            kind, how = name.split("_")
            run({"game": game, "plain": plain, "stages": stages}[kind](parallel=how), out / name)
    (out / "done.json").write_text(json.dumps({name: snapshots.found(out / name / "checkpoints") for name in names}))


if __name__ == "__main__":
    with joined():
        main(Path(sys.argv[1]), *sys.argv[2:])
