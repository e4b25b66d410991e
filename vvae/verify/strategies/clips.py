"""Clips, what they are made of, and the chunks into which they fall: drawn at random, shrinking to the smallest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st
from torch import Tensor, nn

from vvae.context import WHOLE_CLIP, Context
from vvae.signal import Signal
from vvae.verify import random_clip

CHANNELS = st.integers(1, 4)
CONTENT = "image"
"""The name of the one content feature that stands beside a drawn signal."""


@dataclass(frozen=True)
class Clip:
    """A clip of a `signal` as a record that can be printed and shrunk: `tensor()` makes it, the same every time.

    Sizes in frames and cells of the signal; normal noise of unit size, float64, drawn with `seed`.

    >>> Clip(Signal(2), frames=3, width=4).tensor().shape
    torch.Size([1, 2, 3, 1, 4])
    """

    signal: Signal
    batch: int = 1
    frames: int = 1
    height: int = 1
    width: int = 1
    seed: int = 0

    def tensor(self) -> Tensor:
        """`b c t h w`"""
        return random_clip(self.signal, self.frames, self.height, self.width, batch=self.batch, seed=self.seed)

    def features(self) -> dict[str, Tensor]:
        """The content features beside the clip, `b c 1 h' w'`, each as large as its stride says."""
        made = {}
        for number, (name, beside) in enumerate(self.signal.content.items()):
            rows, columns = (int(side * self.signal.stride / beside.stride) for side in (self.height, self.width))
            made[name] = random_clip(beside, 1, rows, columns, batch=self.batch, seed=self.seed + number + 1)
        return made


class Beside(nn.Module):
    """A layer with content features beside every clip that it gets, so that laws need not know of them."""

    def __init__(self, layer: nn.Module, features: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layer, self.features = layer, dict(features)

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        own = copy(ctx)
        own.content = self.features
        y: Tensor = self.layer(x, own)
        return y


def group_sizes(most: int = 4) -> st.SearchStrategy[int]:
    """Frames of a group."""
    return st.sampled_from(range(1, most + 1))


def signals(
    leads: st.SearchStrategy[int] | None = None,
    groups: st.SearchStrategy[int] | None = None,
    *,
    content: bool = False,
) -> st.SearchStrategy[Signal]:
    """Signals of few channels with small groups, with and without a lead; with `content`, some have a feature beside.

    >>> signals(st.just(0), group_sizes(2)).example()  # doctest: +SKIP
    Signal(channels=3, lead=0, group=2, stride=Fraction(1, 1), content={})
    """
    beside = st.builds(Signal, channels=st.integers(1, 3), stride=st.sampled_from([Fraction(1), Fraction(1, 2)]))
    return st.builds(
        Signal,
        channels=CHANNELS,
        lead=st.integers(0, 1) if leads is None else leads,
        group=group_sizes() if groups is None else groups,
        content=st.dictionaries(st.just(CONTENT), beside) if content else st.just({}),
    )


@st.composite
def clips(
    draw: st.DrawFn,
    signal: Signal,
    frames: st.SearchStrategy[int] | Sequence[int] | None = None,
    *,
    multiple: int = 1,
    most_batch: int = 1,
) -> Clip:
    """Clips of a signal: of up to three groups unless `frames` says which lengths, and of sides that are multiples.

    A clip is at least two cells wide: over one cell a softmax is 1, whatever it sees.
    """
    if frames is None:
        frames = st.integers(0 if signal.lead else 1, 3).map(signal.frames)
    return Clip(
        signal,
        batch=draw(st.integers(1, most_batch)),
        frames=draw(frames if isinstance(frames, st.SearchStrategy) else st.sampled_from(frames)),
        height=multiple * draw(st.integers(1, 2)),
        width=multiple * draw(st.integers(2, 3)),
        seed=draw(st.integers(0, 3)),
    )


def splits(frames: int, most: int = 5) -> st.SearchStrategy[list[int]]:
    """Lengths of chunks, in frames, that are a clip of so many frames together; 0: an empty chunk.

    >>> splits(5).example()  # doctest: +SKIP
    [2, 0, 3]
    """
    cuts = st.lists(st.integers(0, frames), max_size=most - 1).map(sorted)
    return cuts.map(lambda at: [end - start for start, end in zip([0, *at], [*at, frames], strict=True)])


def plans(groups: int) -> st.SearchStrategy[list[int]]:
    """A clip of so many groups as groups per chunk; 0: an empty chunk, -1: an empty chunk before the lead."""
    first = st.lists(st.just(-1), max_size=1)
    return st.tuples(first, splits(groups)).map(lambda parts: [*parts[0], *parts[1]])
