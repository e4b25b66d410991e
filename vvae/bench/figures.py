"""Figures of a run: spreads over rounds, ratios within a round, verdicts on targets. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

MIB = 2**20


class Figure(BaseModel):
    """A frozen result that becomes JSON."""

    model_config = ConfigDict(frozen=True)


class Spread(Figure):
    """Median and quartiles over rounds.

    >>> print(spread([1.0, 2.0, 3.0, 4.0, 5.0]))
    3 [2, 4]
    """

    median: float
    q25: float
    q75: float

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.q25:.3g}, {self.q75:.3g}]"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value; between two values quartiles are interpolated."""
    q25, median, q75 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Spread(median=median, q25=q25, q75=q75)


def paired(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The spread of the ratio, taken within each round: what slows a whole round cancels out."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


class Verdict(Figure):
    """A target for a ratio: met where the upper quartile is at most `limit`. `stretch`: wished for, not promised."""

    name: str
    ratio: Spread
    limit: float
    stretch: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool:
        return self.ratio.q75 <= self.limit

    @property
    def text(self) -> str:
        return "met" if self.met else "not met"
