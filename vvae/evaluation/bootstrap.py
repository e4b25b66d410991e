"""Whether one model is better than another on the same clips: paired differences with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vvae.bench.figures import Figure


class Difference(Figure):
    """The mean over clips of `a` less `b` in one metric, and where it lies with the protocol's confidence.

    `low` and `high` are None for a single clip, which says nothing about others.
    """

    a: str
    b: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    per_clip: tuple[float, ...]

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_interval(
    differences: Sequence[float], resamples: int, confidence: float, seed: int
) -> tuple[float, float] | None:
    """The percentile interval of the mean difference: clips are drawn again with replacement, `resamples` times.

    The same seed gives the same interval. None for a single clip. For fewer than about ten it is too narrow.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[drawn].mean(1), (tail, 1 - tail))
    return float(low), float(high)
