"""A run in two processes, one of which is killed by the kernel at a place that is given: see `test_kills`."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystemWriter

from tests.training.runs import recipe, run
from vvae.training import parallel, snapshots
from vvae.training.learner import Learner
from vvae.training.parallel import World
from vvae.training.sources import ProceduralSpec

PLACES: dict[str, tuple[Any, str]] = {
    "step": (Learner, "step"),
    "exchange": (World, "agree"),  # the other waits for it
    "write": (FileSystemWriter, "write_data"),
    "finish": (FileSystemWriter, "finish"),
    "rename": (Path, "rename"),
    "synced": (snapshots, "_synced"),
    "remove": (os, "unlink"),
}

GIVEN = recipe(
    stage={"steps": 16, "batch": {"clips": 2, "frames": [5], "sizes": [16]}},
    parallel="fsdp",
    save_every=1,
    keep=1,
)


def dies(place: str, calls: int) -> None:
    """This process is killed when it comes to the place so many times."""
    owner, name = PLACES[place]
    before, left = getattr(owner, name), calls

    def count(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*given, **named)

    setattr(owner, name, count)


def waits(seconds: float) -> None:
    """The first process renders for longer than processes in a step wait for each other."""
    parallel.PATIENCE = timedelta(seconds=seconds)
    before = ProceduralSpec.open

    def late(self: ProceduralSpec, *given: Any) -> Any:
        time.sleep(1.5 * seconds if os.environ["RANK"] == "0" else 0)
        return before(self, *given)

    ProceduralSpec.open = late  # type: ignore[method-assign]


if __name__ == "__main__":
    out, rank, place, calls = sys.argv[1:]
    (Path(out) / f"process_{os.environ['RANK']}").write_text(str(os.getpid()))
    if os.environ["RANK"] == rank and place in PLACES:
        dies(place, int(calls))
    if place == "render":
        waits(float(calls))
    run(GIVEN, Path(out) / "run")
