"""The batches of a run: what a step sees depends on the recipe and the step's number alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vvae.errors import VideoError, VvaeError
from vvae.training import order
from vvae.training.recipe import Recipe
from vvae.training.sources import Source

TRIES = 50
"""Clips that are tried for one place in a batch."""


@dataclass(frozen=True)
class Batch:
    """One process's share of a step: clips `b 3 t h w`, their names and numbers, and what was skipped and why."""

    video: Tensor
    names: Sequence[str]
    numbers: Sequence[int]
    skipped: Sequence[str] = ()


class Batches(Dataset[Batch]):
    """By the number of the step, for process `rank` of `world`."""

    def __init__(self, recipe: Recipe, source: Source, rank: int = 0, world: int = 1) -> None:
        self.recipe, self.source, self.rank, self.world = recipe, source, rank, world

    def __getitem__(self, step: int) -> Batch:
        """Raises VideoError where one clip after the other cannot be used."""
        frames, size = self.shape(step)
        own, skipped = self.numbers(step), list[str]()
        found = [self._piece(number, frames, size, skipped) for number in own]
        return Batch(torch.stack([piece for piece, _ in found]), [name for _, name in found], own, skipped)

    def numbers(self, step: int) -> list[int]:
        """The numbers, in the run, of the clips that this process sees at a step.

        Where a batch passes in parts, each part is the same clips for any number of processes, since batch norms and
        adaptive weights see a part at a time.
        """
        stage, within = self.recipe.stage_at(step)
        before = sum(stage.steps * stage.batch.clips for stage in self.recipe.stages[:stage])
        rule = self.recipe.stages[stage].batch
        first, each = before + within * rule.clips, rule.clips // rule.accumulate
        starts = range(first, first + rule.clips, each)
        return [number for start in starts for number in order.numbers(start, each, self.rank, self.world)]

    def shape(self, step: int) -> tuple[int, int]:
        """Frames and side of the clips of a step, the same in every process."""
        rule = self.recipe.stages[self.recipe.stage_at(step)[0]].batch
        rng = order.random(self.recipe.seed, order.SHAPE, step)
        single = rng.random() < rule.images
        frames, size = rule.frames[rng.integers(len(rule.frames))], rule.sizes[rng.integers(len(rule.sizes))]
        return (1 if single else frames), size

    def _piece(self, number: int, frames: int, size: int, skipped: list[str]) -> tuple[Tensor, str]:
        """The clip with that number and its name; in the place of one that cannot be used the first that can."""
        for index in islice(order.candidates(self.recipe.seed, number, len(self.source)), TRIES):
            rng = order.random(self.recipe.seed, order.PLACE, number)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of damage that can be shown
                    return self.source.piece(index, frames, size, rng), self.source.name(index)
            except VideoError as error:
                skipped.append(" ".join(str(error).split()))
        tried = min(TRIES, len(self.source))
        raise VideoError(
            f"{tried} clips tried and none can be used, the last: {skipped[-1]}; see `vvae data check` of them all"
        )


def loaded(batches: Batches, first: int, last: int, workers: int) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, in order, prepared by `workers` processes (0: by this one).

    Raises:
        VideoError: as `Batches`, from whichever process; or a process died.
    """
    steps = range(first, last)
    workers = min(workers, len(steps))
    if not workers:
        yield from (batches[step] for step in steps)
        return
    # forked workers would share what this process's threads hold
    found = DataLoader(
        _Told(batches), batch_size=None, sampler=steps, num_workers=workers, multiprocessing_context="spawn"
    )
    try:
        for batch in found:
            if isinstance(batch, VvaeError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise VideoError(
            f"a process that prepares clips died ({error}); take fewer workers, or none to see why"
        ) from None


class _Told(Dataset[Batch | VvaeError]):
    """Batches, and errors as values: one that is raised in a worker arrives with a traceback for a message."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | VvaeError:
        try:
            return self.batches[step]
        except VvaeError as error:
            return error
