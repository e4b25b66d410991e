"""What one check of the machine found."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Part = Literal["machine", "convolution", "attention", "video", "compile"]
Verdict = Literal["fit", "unfit", "hint", "skipped"]


class Row(BaseModel):
    """One line of the table.

    figure, limit: what was measured and what it may be; None where nothing could be. Of convolutions, attention and
    compiled layers max|a-b| / max|b|, b the true values; of video the mean difference in grey levels of 255.
    verdict: "hint" is no fault, but there is something to gain; "skipped" could not be tried here. found: where it was
    worst, or what happened. remedy: a setting under which the same was right. advice: what to do.
    """

    model_config = ConfigDict(frozen=True)

    part: Part
    device: str
    check: str
    dtype: str = ""
    layout: str = ""
    figure: float | None = None
    limit: float | None = None
    verdict: Verdict
    found: str = ""
    remedy: str = ""
    advice: str = ""

    @property
    def name(self) -> str:
        """What was checked, in a few words."""
        return " ".join(word for word in (self.check, self.dtype, self.layout) if word)


class Gap(NamedTuple):
    """How far a result is from the true one, and which result; infinite where it is not finite or there is none."""

    figure: float
    where: str


def widest(gaps: Iterable[Gap]) -> Gap:
    """The largest of at least one."""
    return max(gaps, key=lambda gap: gap.figure)


def measured(part: Part, device: str, check: str, gap: Gap, limit: float, dtype: str = "", layout: str = "") -> Row:
    """The row of a figure: fit up to the limit."""
    finite = math.isfinite(gap.figure)
    return Row(
        part=part,
        device=device,
        check=check,
        dtype=dtype,
        layout=layout,
        figure=gap.figure if finite else None,
        limit=limit,
        verdict="fit" if gap.figure <= limit else "unfit",
        found=gap.where,
    )


def raised(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
