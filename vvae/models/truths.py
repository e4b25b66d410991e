"""What is true of a model in time, in words, derived from its spec alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers.compose import CompositeSpec
from vvae.reach import groups_around, is_same_frame
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.summary import Direction

GROUPS = (4, 8, 16, 32, 64)
"""Lengths of clips, in groups: what is seen of each of them and more of each longer one is the whole clip."""
DIRECTIONS: tuple[Direction, ...] = ("encode", "decode")


@dataclass(frozen=True)
class Sight:
    """What a layer sees in time: how many groups of its input after a frame's own (None: the whole clip), and whether
    each frame sees itself alone.
    """

    path: str
    kind: str
    ahead: int | None
    alone: bool


def sights(spec: VideoAutoencoderSpec, direction: Direction) -> list[Sight]:
    """The layers of the encoder or decoder, in order."""
    layer, read = (spec.encoder, spec.pixels) if direction == "encode" else (spec.decoder, spec.latents)
    leaves = _leaves(f"{direction}r", layer, read)
    return [Sight(path, leaf.kind, *_sight(leaf, signal)) for path, leaf, signal in leaves]


def _leaves(path: str, layer: LayerSpec, signal: Signal) -> Iterator[tuple[str, LayerSpec, Signal]]:
    if not isinstance(layer, CompositeSpec):
        yield path, layer, signal
        return
    for name, child, read in layer.inputs(signal):
        yield from _leaves(f"{path}.{name}", child, read)


@lru_cache(maxsize=4096)
def _sight(layer: LayerSpec, read: Signal) -> tuple[int | None, bool]:
    given = layer.trace(read)
    found = (groups_around(layer.reach(read, read.frames(n)), given, read)[1] for n in GROUPS)
    return _settled(found), is_same_frame(layer.reach(read, read.frames(GROUPS[0])))


def _settled(found: Iterable[int]) -> int | None:
    """What is found of a clip and of the one twice as long; None where it grows with the clip."""
    return next((few for few, more in pairwise(found) if few == more), None)


def ahead(spec: VideoAutoencoderSpec, direction: Direction) -> int | None:
    """How many groups after its own an output depends on at most, in one piece; None: all of them."""
    looks = {sight.ahead for sight in sights(spec, direction)}
    if None in looks:
        return None
    if looks <= {0}:
        return 0
    given, read = (spec.latents, spec.pixels) if direction == "encode" else (spec.pixels, spec.latents)
    whole = spec.replace(framing=spec.framing.replace(piece=None))
    matrices = (whole.dependency(whole.pixels.frames(n), direction) for n in GROUPS)
    return _settled(groups_around(matrix, given, read)[1] for matrix in matrices)


def in_time(spec: VideoAutoencoderSpec) -> str:
    """In a few words: "every frame by itself", "group causal", "decoder looks 1 latent ahead", "pieces of 16"."""
    encode, decode = (ahead(spec, direction) for direction in DIRECTIONS)
    if spec.framing.piece:
        inside = "each seen whole" if encode is decode is None else _looks(spec, encode, decode)
        return f"pieces of {spec.framing.piece}, {inside}"
    return "sees the whole clip" if encode is decode is None else _looks(spec, encode, decode)


def _looks(spec: VideoAutoencoderSpec, encode: int | None, decode: int | None) -> str:
    if encode == decode == 0:
        alone = all(sight.alone for direction in DIRECTIONS for sight in sights(spec, direction))
        return "every frame by itself" if alone else "group causal"
    parts = [f"{part} {_sees(groups)}" for part, groups in (("encoder", encode), ("decoder", decode)) if groups != 0]
    return ", ".join(parts)


def _sees(groups: int | None) -> str:
    if groups is None:
        return "sees the whole clip"
    return f"looks {groups} {'latent' if groups == 1 else 'latents'} ahead"


def told(spec: VideoAutoencoderSpec, direction: Direction) -> list[str]:
    """Which layers see the whole clip, and which look ahead and how far: one line each."""
    seen = sights(spec, direction)
    what = "piece" if spec.framing.piece else "clip"
    whole = [sight for sight in seen if sight.ahead is None]
    lines = [f"whole {what} seen by {_counted(whole)}"] if whole else []
    for groups in sorted({sight.ahead for sight in seen if sight.ahead}):
        some = [sight for sight in seen if sight.ahead == groups]
        lines.append(f"{groups} {'group' if groups == 1 else 'groups'} ahead seen by {_counted(some)}")
    return lines or [f"no layer sees the whole {what}, none looks ahead"]


def _counted(seen: list[Sight]) -> str:
    """How many of each kind, and where the first is: "12 clip_group_norm, 1 clip_attention; first norm_out"."""
    kinds = Counter(sight.kind for sight in seen)
    return f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}; first {seen[0].path.partition('.')[2]}"
