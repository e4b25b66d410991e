"""The batches of a run: what a step sees depends on the recipe and the step's number alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vvae.errors import VideoError
from vvae.training import order
from vvae.training.recipe import Recipe
from vvae.training.sources import Source

TRIES = 50
"""Clips that are tried in the place of one that cannot be read."""


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
        number, within = self.recipe.stage_at(step)
        rule = self.recipe.stages[number].batch
        before = sum(stage.steps * stage.batch.clips for stage in self.recipe.stages[:number])
        frames, size = self.shape(step)
        video, names, skipped = [], [], list[str]()
        own = order.numbers(before + within * rule.clips, rule.clips, self.rank, self.world)
        for each in own:
            piece, name = self._piece(each, frames, size, skipped)
            video.append(piece)
            names.append(name)
        return Batch(torch.stack(video), names, own, skipped)

    def shape(self, step: int) -> tuple[int, int]:
        """Frames and side of the clips of a step, the same in every process."""
        rule = self.recipe.stages[self.recipe.stage_at(step)[0]].batch
        rng = order.random(self.recipe.seed, order.SHAPE, step)
        single = rng.random() < rule.images
        frames, size = rule.frames[rng.integers(len(rule.frames))], rule.sizes[rng.integers(len(rule.sizes))]
        return (1 if single else frames), size

    def _piece(self, number: int, frames: int, size: int, skipped: list[str]) -> tuple[Tensor, str]:
        """The clip with that number; in the place of one that cannot be read one of the others, by the same number."""
        rng = order.random(self.recipe.seed, order.PLACE, number)
        index = order.item(self.recipe.seed, number, len(self.source))
        for _ in range(min(TRIES, len(self.source))):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of damage that can be shown
                    return self.source.piece(index, frames, size, rng), self.source.name(index)
            except VideoError as error:
                skipped.append(" ".join(str(error).split()))
            index = (index + 1) % len(self.source)
        raise VideoError(
            f"none of {len(skipped)} clips in a row can be used, the last: {skipped[-1]}; look at the data"
        )


def loaded(batches: Batches, first: int, last: int, workers: int) -> Iterator[Batch]:
    """The batches of steps `first` to `last`, in order, prepared by `workers` processes (0: by this one)."""
    steps = range(first, last)
    if not workers:
        yield from (batches[step] for step in steps)
        return
    # forked workers would share what this process's threads hold
    yield from DataLoader(
        batches, batch_size=None, sampler=steps, num_workers=workers, multiprocessing_context="spawn", prefetch_factor=2
    )
