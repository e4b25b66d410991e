"""How seconds grow with frames and with the side of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench.figures import Figure, Spread, paired, spread
from vvae.bench.rounds import Sample, Say, play, seconds, timed
from vvae.bench.work import DIRECTIONS, Size, random_model, source, whole
from vvae.summary import Direction


class Growth(Figure):
    """Seconds at one size; over those of the smallest in the same round, beside the same ratio of pixels.

    `exponent`: seconds grow as pixels to that power; 1 is in proportion. None at the smallest size itself.
    """

    direction: Direction
    size: Size
    seconds: Spread
    over_smallest: Spread
    pixels: float
    exponent: float | None


def exponent(seconds_ratio: float, pixels_ratio: float) -> float | None:
    """The power of pixels that seconds follow.

    >>> exponent(8.0, 2.0)
    3.0
    """
    return None if pixels_ratio == 1 else math.log(seconds_ratio) / math.log(pixels_ratio)


def growth(spec: VideoAutoencoderSpec, sizes: Sequence[Size], rounds: int, say: Say) -> list[Growth]:
    """Both directions at all sizes, whole clips, float32; `sizes` from the smallest on."""
    model = random_model(spec)
    found = []
    for direction in DIRECTIONS:
        runs = {_name(size): _run(model, direction, next(source(spec, direction, size))) for size in sizes}
        for run in runs.values():
            run()
        played = play(runs, rounds, say)
        base = seconds(played, _name(sizes[0]))
        for size in sizes:
            own = seconds(played, _name(size))
            over, pixels = paired(own, base), math.prod(size) / math.prod(sizes[0])
            found.append(
                Growth(
                    direction=direction,
                    size=size,
                    seconds=spread(own),
                    over_smallest=over,
                    pixels=pixels,
                    exponent=exponent(over.median, pixels),
                )
            )
    return found


def _name(size: Size) -> str:
    return "x".join(map(str, size))


def _run(model: VideoAutoencoder, direction: Direction, x: Tensor) -> Callable[[], Sample]:
    return lambda: timed(lambda: whole(model, direction, x))
