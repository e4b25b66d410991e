"""Where a model can be cut: sections of its layers that run in tiles, and those that must see whole frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from vvae import reach
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import TileError
from vvae.layers.compose import ChainSpec, CompositeSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.tiling.layout import Axis, TilePlan, halo_axis
from vvae.tiling.rules import Direction


@dataclass(frozen=True)
class Link:
    """A layer of a chain: its path in the model, and the signal that it reads."""

    path: str
    layer: LayerSpec
    read: Signal


@dataclass(frozen=True)
class Section:
    """Layers one after the other that run in tiles, or whole.

    `cell`: pixels of which a tile's borders are multiples. `margin`: pixels around what is kept of a tile that reach
    into it, a multiple of that.
    """

    links: tuple[Link, ...]
    tiled: bool
    cell: int
    margin: int

    @property
    def read(self) -> Signal:
        return self.links[0].read

    @property
    def given(self) -> Signal:
        return self.links[-1].layer.trace(self.links[-1].read)

    def plan(self, height: int, width: int, core: int) -> TilePlan:
        """The tiles of a frame of that many cells, `core` pixels of each side kept of each."""
        return TilePlan(None, self._axis(height, core), self._axis(width, core), exact=True)

    def _axis(self, cells: int, core: int) -> Axis:
        read, given = self.read.stride, self.given.stride
        return halo_axis(int(cells * read), core, self.margin, cell=self.cell, read=read, given=given)


def sections(spec: VideoAutoencoderSpec, direction: Direction) -> tuple[Section, ...]:
    """The encoder, or the decoder, cut where layers see whole frames.

    An encoder runs in tiles up to the first of these, a decoder behind the last one; the rest runs whole.

    Raises:
        TileError: nothing would be saved: such a layer stands where frames are as large as the clip.
    """
    layer, read = (spec.encoder, spec.pixels) if direction == "encode" else (spec.decoder, spec.latents)
    links = list(_links(f"{direction}r", layer, read))
    wide = [number for number, link in enumerate(links) if link.layer.halo(link.read) is None]
    if not wide:
        return (_section(links, tiled=True),)
    cut = wide[0] if direction == "encode" else wide[-1] + 1
    first, rest = links[:cut], links[cut:]
    tiles, at = (first, wide[0]) if direction == "encode" else (rest, wide[-1])
    if not tiles or links[at].layer.trace(links[at].read).stride <= spec.pixels.stride:
        raise TileError(
            f"{spec.name} cannot {direction} in tiles that give what the whole frame gives: {_at_fault(links[at])} "
            f"sees whole frames where they are as large as the clip; take an inexact preset (vvae.tiling.presets)"
        )
    return (
        (_section(tiles, tiled=True), _section(rest, tiled=False))
        if direction == "encode"
        else (_section(first, tiled=False), _section(tiles, tiled=True))
    )


def _links(path: str, layer: LayerSpec, read: Signal) -> Iterator[Link]:
    """The layers of a chain one after the other, those of chains inside it too."""
    if type(layer) is not ChainSpec or not layer.layers:
        yield Link(path, layer, read)
        return
    for name, child, signal in layer.inputs(read):
        yield from _links(f"{path}.{name}", child, signal)


def _section(links: list[Link], *, tiled: bool) -> Section:
    cell = math.lcm(*(link.layer.cell(link.read) for link in links))
    return Section(tuple(links), tiled, cell, _margin(links, cell) if tiled else 0)


def _margin(links: list[Link], cell: int) -> int:
    """Pixels around a tile that reach into it, from the halos of its layers; each layer computes whole cells."""
    margin = Fraction(0)
    for link in reversed(links):
        halo, stride = link.layer.halo(link.read), link.read.stride
        assert halo is not None
        margin = math.ceil((margin + halo * stride) / stride) * stride
    return math.ceil(margin / cell) * cell


def _at_fault(link: Link) -> str:
    """The path of the first layer inside that sees whole frames, and its kind."""
    if isinstance(link.layer, CompositeSpec):
        for name, child, read in link.layer.inputs(link.read):
            if child.halo(read) is None:
                return _at_fault(Link(f"{link.path}.{name}", child, read))
    return f"{link.path} ({link.layer.kind})"


def groups_around(spec: VideoAutoencoderSpec, direction: Direction) -> tuple[int, int]:
    """Groups before and after its own that a frame of what comes out sees.

    Raises:
        TileError: a layer that sees the whole clip, or a clip of which one end is no group like the others.
    """
    layer, read = (spec.encoder, spec.pixels) if direction == "encode" else (spec.decoder, spec.latents)
    if read.lead or spec.framing.piece or spec.framing.surplus == "front":
        raise TileError(
            f"{spec.name} cannot {direction} in chunks: {spec.stream_limit(direction)}, and its clips do not "
            f"begin with a whole group; leave the chunk out"
        )
    seen = _groups_seen(layer, read)
    if max(seen) < _MOST // 2:
        return seen
    links = _links(f"{direction}r", layer, read)
    wide = (link for link in links if max(_groups_seen(link.layer, link.read)) >= _MOST // 2)
    told = next((f"{_at_fault_in_time(link)} sees the whole clip" for link in wide), "its layers together see too far")
    raise TileError(f"{spec.name} cannot {direction} in chunks: {told}; leave the chunk out")


_MOST = 32  # groups: of a layer that sees half as many, no chunk saves anything


def _groups_seen(layer: LayerSpec, read: Signal) -> tuple[int, int]:
    return reach.groups_around(layer.reach(read, read.frames(_MOST)), layer.trace(read), read)


def _at_fault_in_time(link: Link) -> str:
    """The path of the first layer inside that sees the whole clip, and its kind."""
    if isinstance(link.layer, CompositeSpec):
        for name, child, read in link.layer.inputs(link.read):
            if max(_groups_seen(child, read)) >= _MOST // 2:
                return _at_fault_in_time(Link(f"{link.path}.{name}", child, read))
    return f"{link.path} ({link.layer.kind})"
