"""Where the tensors of a video VAE come from when an image VAE starts it, as data: a table is a list of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

How: TypeAlias = Literal["copy", "last", "centre", "pass", "mean", "zero", "fresh"]


@dataclass(frozen=True)
class Inflation:
    """One row. Patterns are those of `vvae.published.table.Rename`; `image` is None where no image tensor is read.

    copy      the image's tensor, axes of 1 aside
    last      the same; a 2D kernel stands at the last tap in time of a 3D one, with zeros at the others
    centre    the same at the tap in the middle
    pass      every channel as it is: 1 at the tap in the middle, 0 elsewhere
    mean      every channel's mean over the taps in time
    zero      zeros
    fresh     what a new model has

    half: where a layer reads twice the channels of the image's and gives as many, those that it reads: the first half
    (0) or the second (1); zeros read the others. One that gives twice as many is the image's in both halves.
    """

    own: str
    image: str | None
    how: How
    half: int = 0
