"""The times of a stream, and a clock that always moves forward."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream

from vvae.errors import VideoError

_SLOWEST, _FASTEST = Fraction(1, 1000), 100_000  # frames per second
_RESTART = 1  # second: a longer step back is a clock that started again, a shorter one is a slip of the muxer


class Clock:
    """Turns the times of a clip's frames into strictly increasing ones, in seconds.

    A frame without a time comes 1 / `fps` after the one before. A time that is not later than the one before
    becomes one `tick` later; after a step back of more than a second the clock is taken to have started again, one
    frame after the last. Other times stay exactly as they are.
    """

    def __init__(self, fps: Fraction, tick: Fraction | None) -> None:
        self.step = 1 / fps
        self.tick = min(tick, self.step) if tick is not None and tick > 0 else self.step
        self._last: Fraction | None = None
        self._offset = Fraction(0)

    def shown(self, time: Fraction | None) -> Fraction:
        """The time of the next frame, given what the file says of it."""
        last = self._last
        if last is None:
            found = time or Fraction(0)
        elif time is None:
            found = last + self.step
        else:
            if time + self._offset < last - _RESTART:
                self._offset = last + self.step - time
            moved = time + self._offset
            found = moved if moved > last else last + self.tick
        self._last = found
        return found


def given_rate(path: str | Path, fps: float | Fraction) -> Fraction:
    """Frames per second that a caller gave. Errors: VideoError below 1/1000 or above 100000."""
    if not _SLOWEST <= fps <= _FASTEST:
        raise VideoError(f"{path}: fps is {fps}, legal is {float(_SLOWEST)} to {_FASTEST}")
    return Fraction(fps).limit_denominator(10_000)


def rate(video: VideoStream) -> Fraction:
    """Frames per second: the mean that the file states, else FFmpeg's guess, else 25."""
    return next((Fraction(x) for x in (video.average_rate, video.guessed_rate) if x and x > 0), Fraction(25))


def seconds(ticks: int | None, video: VideoStream) -> Fraction | None:
    """A time of a stream in seconds."""
    return None if ticks is None or not video.time_base else Fraction(ticks * video.time_base)
