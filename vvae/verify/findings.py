"""What a law says when it does not hold, and how far two results are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

TOLERANCE: Mapping[torch.dtype, float] = MappingProxyType(
    {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
)
"""Largest difference between two ways to compute the same, as a part of the largest value.

float64: a kernel that chooses its order of sums by the size of its input differs by a few of the 1e-16 that a rounding
makes; a defect does by 1e-6 and more. The others have the same few roundings.
"""


class LawError(AssertionError):
    """A law does not hold: which one, what was found, by how much, and where it was seen.

    `figure` is a difference (see `difference`) or a count, `where` what the law varied when it failed: plain values.
    """

    def __init__(self, law: str, message: str, *, figure: float | None = None, **where: Any) -> None:
        super().__init__(f"{law}: {message}")
        self.law, self.message, self.figure, self.where = law, message, figure, where


class RefusalError(Exception):
    """A case that the target refuses in words, which breaks no law; `where` says what is refused, as in LawError."""

    def __init__(self, **where: Any) -> None:
        super().__init__(f"refused: {', '.join(f'{name} {value}' for name, value in where.items())}")
        self.where = where


class UnableError(Exception):
    """What a law asks for cannot be had here, of torch or of the machine: nothing is said of the target."""


def difference(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|; where b is all zero, 0 for equal and infinity for unequal; infinity for other shapes."""
    if a.shape != b.shape:
        return math.inf
    if not a.numel():
        return 0.0
    gap, size = (a.double() - b.double()).abs().max().item(), b.double().abs().max().item()
    if math.isnan(gap):
        return math.inf
    return gap / size if size else (0.0 if gap == 0 else math.inf)


def near(law: str, what: str, found: Tensor, want: Tensor, limit: float, **where: Any) -> float:
    """How far they are apart; LawError where that is more than the limit."""
    if found.shape != want.shape:
        raise LawError(law, f"{what}: shapes differ: {tuple(found.shape)} and {tuple(want.shape)}", **where)
    error = difference(found, want)
    if not error <= limit:
        allowed = f"allowed {limit:.0e}" if limit else "it must not"
        told = f"{what}: differs by {error:.1e} of the largest value ({allowed})"
        raise LawError(law, told, figure=error, **where)
    return error
