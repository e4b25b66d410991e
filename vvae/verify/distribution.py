"""What was drawn, counted: a run over random specs has seen every kind of layer, and not the simplest ones alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers import BetweenKeyframesSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies import walk, walk_model

T = TypeVar("T")
AT_ONCE = 10
"""Examples of one run of hypothesis: from the eleventh on it makes new ones of pieces of those before."""


class RareError(AssertionError):
    """Something was drawn too rarely for a run to say much; says what."""


def sample(strategy: st.SearchStrategy[T], count: int, *, start: int = 0) -> list[T]:
    """So many examples, drawn one independently of the other; the same for the same `start`."""
    found: list[T] = []
    number = start
    while len(found) < count:
        found += _run(strategy, number, min(AT_ONCE, count - len(found) + 1))
        number += 1
    return found[:count]


def _run(strategy: st.SearchStrategy[T], number: int, most: int) -> list[T]:
    found: list[T] = []

    @seed(number)
    @settings(
        max_examples=most,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(example: T) -> None:
        found.append(example)

    keep()
    return found[1:] or found  # the first one is the smallest there is, every time


@dataclass
class Distribution:
    """Counts over the specs of a run: layers of each kind, specs with a temporal stride, depths, and lengths of clips.

    `normed`: how many channels the norms take together.
    """

    specs: int = 0
    strided: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    normed: Counter[int] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    frames: Counter[int] = field(default_factory=Counter)

    def add(self, spec: LayerSpec, signal: Signal, frames: int) -> None:
        """One more layer behind that signal, run on a clip of so many frames."""
        self._add(walk(spec, signal), frames)

    def add_model(self, spec: VideoAutoencoderSpec, frames: int) -> None:
        """One more model, run on a clip of so many frames."""
        self._add(walk_model(spec), frames)

    def _add(self, found: Iterable[tuple[LayerSpec, Signal, int]], frames: int) -> None:
        layers = list(found)
        self.specs += 1
        self.strided += any(changes_rate(layer, read) for layer, read, _ in layers)
        self.kinds.update(layer.kind for layer, _, _ in layers)
        self.normed.update(count for layer, read, _ in layers if (count := normed_together(layer, read)))
        self.depths[max(depth for _, _, depth in layers)] += 1
        self.frames[frames] += 1

    def rare(self, kinds: Iterable[str], *, least: int = 20, strided: float = 0.3, several: int = 4) -> list[str]:
        """A phrase for each thing that was too rare: a kind, a temporal stride, different depths and lengths; and for
        norms of one value, of which nothing is left to be seen.
        """
        few = [
            f"{kind} {self.kinds[kind]} times, at least {least}" for kind in sorted(kinds) if self.kinds[kind] < least
        ]
        share = self.strided / max(self.specs, 1)
        if share < strided:
            few.append(f"a temporal stride in {share:.0%} of the specs, at least {strided:.0%}")
        for what, counts in (("depths", self.depths), ("lengths of clips", self.frames)):
            if len(counts) < several:
                few.append(f"{len(counts)} different {what}, at least {several}")
        if self.normed[1]:
            few.append(f"a norm over a single channel {self.normed[1]} times, none should be")
        return few

    def check(self, kinds: Iterable[str], *, least: int = 20, strided: float = 0.3, several: int = 4) -> None:
        """Nothing of it was too rare.

        Raises:
            RareError: something was; one line names it.
        """
        if few := self.rare(kinds, least=least, strided=strided, several=several):
            raise RareError(f"too rare among {self.specs} specs: {'; '.join(few)}")

    def __str__(self) -> str:
        counts = {"depths": self.depths, "frames": self.frames, "channels normed together": self.normed}
        lines = [f"{self.specs} specs, {self.strided / max(self.specs, 1):.0%} with a temporal stride"]
        lines += [f"{what}: {', '.join(f'{n} x {c}' for n, c in sorted(of.items()))}" for what, of in counts.items()]
        lines.append("kinds: " + ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common()))
        return "\n".join(lines)


def changes_rate(layer: LayerSpec, read: Signal) -> bool:
    """Whether a layer has more or fewer frames come out of a group than went in, keyframes set aside."""
    return not isinstance(layer, BetweenKeyframesSpec) and layer.trace(read).group != read.group


def normed_together(layer: LayerSpec, read: Signal) -> int | None:
    """How many channels of a pixel a norm takes together; None for what is no norm."""
    if not layer.kind.endswith("_norm"):
        return None
    return read.channels // getattr(layer, "groups", getattr(layer, "parts", 1))
