"""Mean and covariance of any number of vectors, merged from parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvae.errors import VvaeError


@dataclass(frozen=True, eq=False)
class Moments:
    """`count` vectors: their `mean`, `d`, and `scatter`, `d d`, the sum of outer products about it; float64.

    Merging two is exact up to rounding, in any order, and never subtracts large sums from each other.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def none(cls, size: int) -> Moments:
        """Of no vector of that size."""
        return cls(0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64))

    @classmethod
    def of(cls, vectors: Tensor) -> Moments:
        """Of vectors `n d`, on the CPU."""
        held = vectors.detach().cpu().double()
        if not len(held):
            return cls.none(held.shape[1])
        mean = held.mean(0)
        centred = held - mean
        return cls(len(held), mean, centred.T @ centred)

    def merged(self, other: Moments) -> Moments:
        """Of the vectors of both."""
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        gap, share = other.mean - self.mean, other.count / count
        between = torch.outer(gap, gap) * (self.count * share)
        return Moments(count, self.mean + gap * share, self.scatter + other.scatter + between)

    def covariance(self, unbiased: bool = True) -> Tensor:
        """`d d`: the scatter over count - 1, or over count where not `unbiased`.

        Errors: VvaeError for fewer than two vectors, or than one.
        """
        least = 1 + unbiased
        if self.count < least:
            raise VvaeError(f"a covariance of {self.count} vectors; it takes {least} or more")
        return self.scatter / (self.count - unbiased)
