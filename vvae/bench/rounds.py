"""Paired rounds: in each round every contestant runs once, in an order that rotates from round to round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from vvae.bench.figures import Figure

Say: TypeAlias = Callable[[str], None]


class Sample(Figure):
    """One run: wall clock and CPU seconds, and the machine's load (average of the last minute) as it started."""

    seconds: float
    cpu_seconds: float
    load: float

    @property
    def cpu(self) -> float:
        """CPU seconds per second: the number of threads where nobody else wanted the cores."""
        return self.cpu_seconds / self.seconds


Round: TypeAlias = Mapping[str, Sample]


def timed(run: Callable[[], object]) -> Sample:
    load = os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Sample(seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu, load=load)


def order(names: Sequence[str], number: int, rounds: int) -> list[str]:
    """The contestants in round `number` of `rounds`: rotated so far that all of them have come first or nearly so."""
    shift = number * max(1, len(names) // rounds) % len(names)
    return [*names[shift:], *names[:shift]]


def play(contestants: Mapping[str, Callable[[], Sample]], rounds: int, say: Say) -> list[Round]:
    """The samples of each round. Warm up before."""
    played: list[Round] = []
    for number in range(rounds):
        samples = {}
        for name in order(list(contestants), number, rounds):
            samples[name] = contestants[name]()
            say(f"round {number + 1} of {rounds}: {name} {samples[name].seconds:.3g} s")
        played.append(samples)
    return played


def seconds(rounds: Sequence[Round], name: str) -> list[float]:
    """Seconds of one contestant, round by round."""
    return [played[name].seconds for played in rounds]
