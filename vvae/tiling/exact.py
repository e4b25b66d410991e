"""Tiles and chunks that give what the whole clip gives: each is read with all that reaches into it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.context import Context, StreamState, StreamStep, WholeClip
from vvae.errors import StreamError, TileError
from vvae.framing import Fit, FramingRule, check_clip
from vvae.gaussian import DiagonalGaussian
from vvae.layers.compose import Chain
from vvae.layers.layer import join_frames
from vvae.signal import Signal
from vvae.tiling.layout import TilePlan, reach_axis, whole_axis
from vvae.tiling.rules import Compression, Direction, Window
from vvae.tiling.sections import Section, groups_around, sections
from vvae.tiling.tiles import Place, Progress, checked_into, in_tiles
from vvae.tiling.units import Frames, Pixels
from vvae.whole_clips import LAYOUTS, Content, own_content


class ExactTiling(VideoAutoencoder):
    """A twin of a model that shares its weights and runs in tiles and chunks; what it gives is what the model gives.

    Whole clips, streams and their states work as those of the model; each tile has a stream of its own inside the
    state, so that chunks in time and tiles in space combine. Made by `exact`.

    `tile`: pixels of a side that are kept of a tile; None: frames stay whole. `groups`: groups of frames in a chunk;
    None: a clip stays whole. `sections`: which layers run in tiles. `around`: where a direction does not stream, the
    groups before and after a chunk that it is read with.
    """

    tile: int | None
    groups: int | None
    sections: Mapping[Direction, tuple[Section, ...]]
    around: Mapping[Direction, tuple[int, int]]
    progress: Progress | None

    def plans(self, height: int, width: int) -> dict[Direction, TilePlan]:
        """The tiles of encoder and decoder for frames of that many pixels."""
        height, width = self.spec.filled_size(height, width)
        return {
            direction: self._plan(section, int(height / section.read.stride), int(width / section.read.stride))
            for direction, parts in self.sections.items()
            for section in parts
            if section.tiled
        }

    @property
    def digest(self) -> str:
        """Of the spec and the tiles: a state of this twin continues with its like alone."""
        return hashlib.sha256(f"{self.spec.digest} {self.tile} {sorted(self.sections)}".encode()).hexdigest()

    def encode(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        noise: Mapping[str, Tensor] | None = None,
        framing: FramingRule = "fill",
    ) -> DiagonalGaussian:
        """As `VideoAutoencoder.encode`, chunk by chunk; at once with noise inside, or as published."""
        if not self._streams("encode") or generator is not None or noise is not None or framing == "published":
            return super().encode(x, generator, noise, framing)
        check_clip(x, self.spec.pixels.channels)
        self._framed(x, framing)
        found = list(self.encode_stream(self._chunks(x, "encode"), frames=x.shape[2]))
        mean, logvar = (join_frames(*(getattr(one, name) for one in found)) for name in ("mean", "logvar"))
        images = [one.content for one in found if one.content is not None]
        content = join_frames(*images) if images else None
        return replace(found[0], mean=mean, logvar=logvar, fit=Fit(*x.shape[2:]), content=content)

    def decode(
        self,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
        into: Tensor | None = None,
    ) -> Tensor:
        """As `VideoAutoencoder.decode`, chunk by chunk, into one tensor: `into`, or one that is made once.

        For a sink take `decode_stream`.

        Raises:
            TileError: an `into` of another shape than what comes back.
        """
        if not self._streams("decode"):
            video = super().decode(latents, frames=frames, size=size, content=content)
            return video if into is None else checked_into(into, video, *video.shape[2:]).copy_(video)
        z, fit = self._latents(latents)
        fit = self._cropped(z, fit, self.spec.decoded_frames(z.shape[2]), frames, size)
        content = own_content(latents, content)
        size, at = (fit.height, fit.width), 0
        for video in self.decode_stream(self._chunks(z, "decode"), frames=fit.frames, size=size, content=content):
            if into is None:
                into = video.new_empty(*video.shape[:2], fit.frames, *size)
            checked_into(into, video, fit.frames, *size)[:, :, at : at + video.shape[2]] = video
            at += video.shape[2]
        assert into is not None
        return into

    def _streams(self, direction: Direction) -> bool:
        """Whether a whole clip goes through as a stream. Pieces pass by themselves in any case."""
        return self.groups is not None and direction not in self.around and not self.spec.framing.piece

    def _chunks(self, x: Tensor, direction: Direction) -> Iterator[Tensor]:
        """The lead and the groups of a chunk, then as many groups each."""
        signal, groups = self.spec.chunks(direction), self.groups or 1
        start, end = 0, signal.frames(groups)
        while start < x.shape[2]:
            yield x[:, :, start:end]
            start, end = end, end + groups * signal.group

    def _run(self, part: Literal["encoder", "decoder"], x: Tensor, ctx: Context) -> Tensor:
        direction: Direction = "encode" if part == "encoder" else "decode"
        if direction not in self.around or len(ctx.noise):
            return self._run_sections(direction, x, ctx)

        def run(chunk: Tensor, place: Place) -> Tensor:
            return self._run_sections(direction, chunk, WholeClip(content=ctx.content))

        return in_tiles(run, x, self._plan_in_time(direction, x))

    def _run_sections(self, direction: Direction, x: Tensor, ctx: Context) -> Tensor:
        part: Literal["encoder", "decoder"] = "encoder" if direction == "encode" else "decoder"
        if direction not in self.sections:
            return super()._run(part, x, ctx)
        for section in self.sections[direction]:
            # the layers of the model, which know nothing of the chain
            layers = Chain({f"link{i}": self.get_submodule(link.path) for i, link in enumerate(section.links)})
            x = self._tiled(section, layers, x, ctx) if section.tiled else layers(x, ctx)
        return x

    def _tiled(self, section: Section, layers: Chain, x: Tensor, ctx: Context) -> Tensor:
        plan = self._plan(section, x.shape[3], x.shape[4])

        def run(tile: Tensor, place: Place) -> Tensor:
            row, column = place
            window = plan.rows.spans[row].read, plan.columns.spans[column].read
            own = _own_context(ctx, place, _noise(section, ctx, window))
            given: Tensor = layers(tile.contiguous(memory_format=LAYOUTS[5]), own)
            if isinstance(own, StreamStep):
                own.close()
            return given

        return in_tiles(run, x, plan, progress=self.progress)

    def _plan(self, section: Section, rows: int, columns: int) -> TilePlan:
        """The tiles of a frame of so many cells of what the section reads."""
        return section.plan(rows, columns, self.tile or section.cell)

    def _plan_in_time(self, direction: Direction, x: Tensor) -> TilePlan:
        layer, read = (
            (self.spec.encoder, self.spec.pixels) if direction == "encode" else (self.spec.decoder, self.spec.latents)
        )
        given = layer.trace(read)
        time = reach_axis(
            x.shape[2],
            self.groups or 1,
            self.around[direction],
            read=read.group,
            given=given.group,
            gives=lambda n: layer.frames(read, n),
        )
        rows, columns = (whole_axis(side, lambda n: int(n * read.stride / given.stride)) for side in x.shape[3:])
        return TilePlan(time, rows, columns, exact=True)

    def _opened(self, state: StreamState | None, direction: Literal["encode", "decode"], x: Tensor) -> StreamState:
        digest = self.digest
        if state is not None and state.digest == self.spec.digest:
            raise StreamError("this state is of the model without tiles; start a new stream with state=None")
        if state is not None and state.digest == digest:
            state = replace(state, digest=self.spec.digest)
        return replace(super()._opened(state, direction, x), digest=digest)


def exact(
    model: VideoAutoencoder,
    tile: Pixels | None = None,
    chunk: Frames | None = None,
    *,
    directions: Sequence[Direction] = ("encode", "decode"),
    progress: Progress | None = None,
) -> ExactTiling:
    """A twin of the model in tiles of which `tile` x `tile` pixels are kept; what it gives is what the model gives.

    Each tile is read with the halo that reaches into it, known from the spec; what must see whole frames (attention at
    latent resolution) runs whole. `chunk`: so many frames go through at a time, as a stream, or with the frames that
    reach into them where a model does not stream. None: frames, or the clip, stay whole. `progress` is called after
    each tile with the tiles done and those of the step.

    >>> twin = exact(model, Pixels(256), Frames(16))  # doctest: +SKIP
    >>> video = twin.decode(twin.encode(video))  # doctest: +SKIP

    Raises:
        TileError: a tile or chunk of another unit, or one that breaks cells or groups; a model that sees whole frames
            where they are large, or the whole clip in time. Says which layer, and what is legal.
    """
    pixels, latents = model.spec.pixels, model.spec.latents
    by = Compression(int(latents.stride), pixels.group // latents.group, latents.lead)
    core = None if tile is None else by.expect(tile, Pixels, "tile")
    length = None if chunk is None else by.expect(chunk, Frames, "chunk")
    found = {} if core is None else {direction: sections(model.spec, direction) for direction in directions}
    if core is not None:
        _check_tile(core, found)
    around: dict[Direction, tuple[int, int]] = {}
    if length is not None:
        without = [direction for direction in directions if model.spec.stream_limit(direction)]
        around = {direction: groups_around(model.spec, direction) for direction in without}
    twin = ExactTiling.__new__(ExactTiling)
    twin.__dict__.update(model.__dict__)
    twin.tile, twin.sections, twin.around, twin.progress = core, found, around, progress
    twin.groups = None if length is None else groups_of(model.spec.chunks("encode"), length)
    return twin


def groups_of(signal: Signal, frames: int) -> int:
    """The groups of chunks of so many frames, the lead counted or not; TileError for a broken one."""
    lead = signal.lead if frames % signal.group else 0
    groups, rest = divmod(frames - lead, signal.group)
    if rest or groups < 1:
        legal = ", ".join(str(signal.group * n) for n in (1, 2, 3))
        raise TileError(f"chunks of {frames} frames break groups of {signal.group}; multiples are legal: {legal}, ...")
    return groups


def _check_tile(core: int, found: Mapping[Direction, Sequence[Section]]) -> None:
    cell = math.lcm(*(section.cell for parts in found.values() for section in parts if section.tiled))
    if not core or core % cell:
        near = " or ".join(str(n) for n in sorted({core // cell * cell, (core // cell + 1) * cell}) if n)
        raise TileError(f"tiles of {core} pixels break cells of {cell}; multiples of {cell} are legal, as {near}")


def _own_context(ctx: Context, place: Place, noise: Mapping[str, Tensor]) -> Context:
    """The context of a tile: as that of the clip, but what its layers keep stands under names of its own."""
    names = {module: _at(path, place) for module, path in ctx.names.items()}
    noise = {_at(path, place): drawn for path, drawn in noise.items()}
    if not isinstance(ctx, StreamStep):
        return WholeClip(names=names, content=ctx.content, noise=noise, frames=ctx.frames)
    step = StreamStep(names, ctx.before, last=ctx.last, content=ctx.content, noise=noise, frames=ctx.frames)
    step.after = ctx.after
    return step


def _at(path: str, place: Place) -> str:
    return f"{path}[{place[0]},{place[1]}]"


def _noise(section: Section, ctx: Context, window: tuple[Window, Window]) -> dict[str, Tensor]:
    """The noise of the layers inside, cut to that window of what the section reads."""
    found = {}
    for link in section.links if len(ctx.noise) else ():
        for below, drawn in link.layer.draws(link.read).items():
            path, scale = f"{link.path}.{below}".rstrip("."), section.read.stride / drawn.stride
            rows, columns = (slice(int(start * scale), int(end * scale)) for start, end in window)
            found[path] = ctx.noise[path][..., rows, columns]
    return found
