"""In which order clips are seen: pure integers, the same for any number of processes, workers and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PLACE, SHAPE, NOISE, LOOK, EPOCH, OTHERS = range(6)
"""What random numbers are for: where a piece is cut, what shape a step has, what is drawn from a posterior, which
pieces are looked at beside the steps, the order of an epoch, and what stands in for a clip that cannot be used."""


def item(seed: int, number: int, length: int) -> int:
    """Which of `length` clips is seen as number `number` of a run: every clip once, then every clip once again."""
    epoch, place = divmod(number, length)
    return int(_shuffled(seed, epoch, length)[place])


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return random(seed, EPOCH, epoch).permutation(length)


def candidates(seed: int, number: int, length: int) -> Iterator[int]:
    """The clip that is seen as number `number`, and then all others, each once, to stand in for it.

    At random, as clips that cannot be used often lie side by side.
    """
    own = item(seed, number, length)
    yield own
    yield from (int(other) for other in random(seed, OTHERS, number).permutation(length) if other != own)


def numbers(first: int, clips: int, rank: int, world: int) -> range:
    """The share of one of `world` processes of a step's `clips`, of which `first` is the first: neighbours together."""
    return range(first + rank * clips // world, first + (rank + 1) * clips // world)


def random(seed: int, use: int, number: int) -> np.random.Generator:
    """Random numbers that depend on these alone."""
    return np.random.default_rng([seed, use, number])


def drawn(seed: int, number: int) -> int:
    """The seed of what is drawn for one clip of a run."""
    return int(random(seed, NOISE, number).integers(2**62))
