"""In which order clips are seen: pure integers, the same for any number of processes, workers and restarts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PLACE, SHAPE, NOISE, LOOK = range(4)
"""What random numbers are for: where a piece is cut, what shape a step has, what is drawn from a posterior, and
which pieces are looked at beside the steps."""


def item(seed: int, number: int, length: int) -> int:
    """Which of `length` clips is seen as number `number` of a run: every clip once, then every clip once again."""
    epoch, place = divmod(number, length)
    return int(_shuffled(seed, epoch, length)[place])


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


def numbers(first: int, clips: int, rank: int, world: int) -> range:
    """The share of one of `world` processes of a step's `clips`, of which `first` is the first: neighbours together."""
    each = clips // world
    return range(first + rank * each, first + (rank + 1) * each)


def random(seed: int, use: int, number: int) -> np.random.Generator:
    """Random numbers that depend on these alone."""
    return np.random.default_rng([seed, use, number])


def drawn(seed: int, number: int) -> int:
    """The seed of what is drawn for one clip of a run."""
    return int(random(seed, NOISE, number).integers(2**62))
