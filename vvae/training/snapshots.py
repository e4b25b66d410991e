"""Checkpoints of a run: whole or not there, of any number of processes for any other number."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.optim import Optimizer

from vvae.errors import CheckpointError
from vvae.training.parallel import World

_PART = "part_"
"""How folders begin that are not whole yet, or no longer."""
_NAME = re.compile(r"step_(\d{8})")
_ABOUT = "run.json"


def save(folder: Path, step: int, state: dict[str, Any], about: Mapping[str, Any], world: World, keep: int) -> Path:
    """Write `folder`/step_N, by all processes: a kill leaves no such folder, or a whole one. The last `keep` stay.

    Raises:
        CheckpointError: it cannot be written; what was there before stays.
    """
    done = folder / f"step_{step:08d}"
    part = folder / f"{_PART}{step:08d}"
    try:
        with _quietly():
            dcp.save(state, checkpoint_id=part, no_dist=world.size == 1)  # type: ignore[attr-defined]
        if world.first:
            _write(part / _ABOUT, json.dumps(dict(about)))
            part.rename(done)
            _synced(folder)
    except (OSError, RuntimeError, CheckpointException) as error:
        shutil.rmtree(part, ignore_errors=True)
        told = _innermost(error)
        raise CheckpointError(f"{done} cannot be written ({told}); make room, then go on from the one before") from None
    world.wait()
    if world.first:
        for old in sorted(found(folder))[:-keep]:
            _drop(folder / f"step_{old:08d}")
    return done


def clear(folder: Path) -> None:
    """Removes what a kill left in writing or in removing."""
    for part in folder.glob(f"{_PART}*"):
        shutil.rmtree(part, ignore_errors=True)


def _drop(done: Path) -> None:
    """A kill in between leaves no folder that looks whole."""
    part = done.with_name(f"{_PART}{done.name}")
    done.rename(part)
    shutil.rmtree(part, ignore_errors=True)


def found(folder: Path) -> list[int]:
    """The steps of which there is a checkpoint."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def about(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint says of itself; None: there is none."""
    steps = found(folder)
    if not steps:
        return None
    held: dict[str, Any] = json.loads((folder / f"step_{steps[-1]:08d}" / _ABOUT).read_text())
    return held


def moved(named: Mapping[str, nn.Parameter], optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """What optimizers remember, by "parameter, what"; of parameters that have not moved yet there is nothing."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in named.items()}
    return {
        f"{names[parameter]},{what}": value
        for optimizer in optimizers
        for parameter, held in optimizer.state.items()
        for what, value in held.items()
    }


def move(named: Mapping[str, nn.Parameter], optimizers: Sequence[Optimizer], held: Mapping[str, Tensor]) -> None:
    """Optimizers remember what `moved` gave."""
    owners = {parameter: each for each in optimizers for group in each.param_groups for parameter in group["params"]}
    for key, value in held.items():
        name, what = key.rsplit(",", 1)
        owners[named[name]].state[named[name]][what] = value


def load(folder: Path, state: dict[str, Any], named: Mapping[str, nn.Parameter], world: World) -> None:
    """Fills `state` with the tensors of the newest checkpoint, whatever the number of processes was.

    `state` has tensors of their shapes, but for "moved", which becomes what is there, sharded as the parameters are.

    Raises:
        CheckpointError: it does not hold them.
    """
    newest = folder / f"step_{found(folder)[-1]:08d}"
    try:
        known = FileSystemReader(newest).read_metadata().state_dict_metadata
        state["moved"] = {
            key.removeprefix("moved."): _like(named[key.removeprefix("moved.").rsplit(",", 1)[0]], about)
            for key, about in known.items()
            if key.startswith("moved.")
        }
        with _quietly():
            dcp.load(state, checkpoint_id=newest, no_dist=world.size == 1)  # type: ignore[attr-defined]
    except (OSError, RuntimeError, CheckpointException) as error:
        raise CheckpointError(
            f"{newest} cannot be read ({_innermost(error)}); delete it to go on from the one before"
        ) from None


def _like(parameter: nn.Parameter, about: Any) -> Tensor:
    """A tensor to be filled with what is remembered of a parameter: as large as it, or one number."""
    if not about.size:
        return torch.zeros((), dtype=about.properties.dtype)
    return torch.zeros_like(parameter, requires_grad=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """torch warns where a process is alone, which is no mistake here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _write(file: Path, text: str) -> None:
    with file.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _synced(folder: Path) -> None:
    """The name of what was renamed is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _innermost(error: BaseException) -> str:
    """Why, in a line."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())[:200]
