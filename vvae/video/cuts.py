"""Where one shot of a clip ends and the next begins, from how much frames differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor

LEAST = 10 / 255  # of the range: smaller changes are no cut
TIMES = 3.0  # so many times the changes around it
AROUND = 2  # frames before and after it
BLACK, BLACK_SHARE = 0.1, 0.98  # FFmpeg's blackdetect: so dark, and so many of the pixels
STILL = 1 / 255  # no place changes by more: noise is less in the mean over an area, motion is more somewhere


@dataclass
class Changes:
    """Takes the frames of a clip one by one and keeps a few numbers of each.

    to_last, to_second_last: the mean absolute difference to the frame before, and to the one before that, of the
    range; 0 where there is none. black: whether a frame is. still: whether it repeats the one before.
    """

    to_last: list[float] = field(default_factory=list)
    to_second_last: list[float] = field(default_factory=list)
    black: list[bool] = field(default_factory=list)
    still: list[bool] = field(default_factory=list)
    _held: list[Tensor] = field(default_factory=list)

    def add(self, frame: Tensor) -> None:
        """The next frame, `1 3 1 h w` in [-1, 1], small: it is compared pixel by pixel."""
        seen = (frame + 1) / 2
        for far, found in ((1, self.to_last), (2, self.to_second_last)):
            there = len(self._held) >= far
            found.append(float((seen - self._held[-far]).abs().mean()) if there else 0.0)
        self.still.append(bool(self._held) and float((seen - self._held[-1]).abs().max()) <= STILL)
        dark = seen.mean(dim=1) < BLACK
        self.black.append(float(dark.float().mean()) >= BLACK_SHARE)
        self._held = [*self._held[-1:], seen]

    @property
    def cuts(self) -> list[int]:
        """The first frame of each shot but the first."""
        return [place for place in range(1, len(self.to_last)) if self._is_cut(place)]

    def _is_cut(self, place: int) -> bool:
        """Whether a frame differs from the one before far more than those around differ from theirs.

        Motion that lasts is no cut, however fast it is, and neither is a flash: a single frame between two that are
        alike. Fades and dissolves are not found. The idea of comparing a change to those around it: PySceneDetect's
        adaptive detector.
        """
        change = self.to_last[place]
        near = [*self.to_last[max(1, place - AROUND) : place], *self.to_last[place + 1 : place + 1 + AROUND]]
        if change < LEAST or (near and change < TIMES * median(near)):
            return False
        across = (self.to_second_last[other] for other in (place, place + 1) if 1 < other < len(self.to_last))
        return all(TIMES * other >= change for other in across)


def share(flags: Sequence[bool]) -> float:
    """How many are true, of all; 0 of none."""
    return sum(flags) / len(flags) if flags else 0.0
