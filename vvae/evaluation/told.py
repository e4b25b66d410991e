"""What is told of work under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int | None], None]
"""Called with the frames that are done and those promised by the files (None: one does not say)."""


@dataclass
class Told:
    """Counts, and tells `progress` after each step."""

    progress: Progress | None
    total: int | None
    done: int = 0

    def __call__(self, frames: int = 1) -> None:
        self.done += frames
        if self.progress is not None:
            self.progress(self.done, self.total)
