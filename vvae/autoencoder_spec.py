"""A video autoencoder as data: its layers, and all that follows from them about lengths, sizes and time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from vvae import reach
from vvae.content import ContentSpec
from vvae.errors import SpecError, VideoError
from vvae.framing import Framing, Piece, legal_frames
from vvae.gaussian import PosteriorSpec
from vvae.layers.compose import limit_of
from vvae.reach import Reach
from vvae.scaling import Affine, ClipNorm, LatentScaling
from vvae.signal import Signal
from vvae.spec import AnyLayer, LayerSpec, Spec, at

if TYPE_CHECKING:
    from vvae.autoencoder import VideoAutoencoder
    from vvae.summary import Summary

FORMAT = 1


class VideoAutoencoderSpec(Spec):
    """Everything a video autoencoder is, except its weights. Wiring is checked when it is made.

    `encoder` reads the clip that `framing` describes and gives moments; `decoder` reads latents, half as many channels,
    and the features of one frame of each piece where there is a `content`.
    """

    format: int = FORMAT
    name: str
    encoder: AnyLayer
    decoder: AnyLayer
    framing: Framing
    posterior: PosteriorSpec = PosteriorSpec()
    latent: LatentScaling = Affine()
    content: ContentSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _version(cls, data: Any) -> Any:
        # first of all: a newer format may hold fields and kinds that this version does not know
        found = data.get("format", FORMAT) if isinstance(data, Mapping) else FORMAT
        if found != FORMAT:
            raise SpecError(
                f"spec of format {found}, but this vvae reads format {FORMAT}; install the vvae that wrote it"
            )
        return data

    @model_validator(mode="after")
    def _wiring(self) -> Self:
        self.latent.check(self.latents.channels)
        if self.latents.stride.denominator > 1:
            raise SpecError(f"a latent is {self.latents.stride} pixels wide; it must be a whole number", ("encoder",))
        with at("decoder"):
            out, pixels = replace(self.decoder.trace(self.latents), content={}), self.pixels
            if out != pixels:
                raise SpecError(f"gives {out}, but the pixels are {pixels}; it must give them")
        if self.content is not None and not self.decoder.reads():
            told = "no layer of the decoder reads a feature of it; leave it out, or take a decoder that does"
            raise SpecError(told, ("content",))
        if self.framing.piece and self._filled(self.framing.piece) != self.framing.piece:
            raise SpecError(
                f"framing: pieces of {self.framing.piece} frames do not pass as they are; take a length that does"
            )
        if self.content is not None and self.content.every is not None:
            self._check_renewal(self.content.every)
        return self

    def _check_renewal(self, every: int) -> None:
        """SpecError unless the clip falls into stretches of `every` frames that a stream can take one by one."""
        framing = self.framing
        with at("content"):
            if framing.piece:
                told = f"pieces of {framing.piece} frames have an image each; give no `every`, or no pieces"
                raise SpecError(f"renewed every {every} frames, but {told}")
            if framing.lead or every % framing.group:
                told = f"lead {framing.lead} and groups of {framing.group}; take no lead, and a multiple of the group"
                raise SpecError(f"cannot be renewed every {every} frames of a clip of {told}")
            if framing.surplus == "front":
                told = "its first group is completed in front; take surplus 'end'"
                raise SpecError(f"cannot be renewed every {every} frames of a clip: {told}")
        if limit := self.stream_limit("decode"):
            raise SpecError(f"its content is renewed every {every} frames, so the decoder must stream: {limit}")
        for name, layer, read in (("encoder", self.encoder, self.pixels), ("decoder", self.decoder, self.latents)):
            if layer.stream_limit(read) is None and _sees_later_groups(layer, read):
                told = "while it waits for later frames; take layers that see no later group"
                raise SpecError(f"the content is renewed every {every} frames, {told}", (name,))

    @property
    def pixels(self) -> Signal:
        """The clip that the encoder reads."""
        return self.framing.pixels

    @cached_property
    def latents(self) -> Signal:
        """The latents that the decoder reads."""
        with at("encoder"):
            moments = self.encoder.trace(self.pixels)
            latents = moments.with_channels(self.posterior.channels(moments.channels))
        with at("content"):
            return replace(latents, content={} if self.content is None else self.content.trace(self.pixels))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the spec: of its JSON, or of its tree where a layer has no spec."""
        try:
            text = self.to_json()
        except SpecError:
            text = str(self)
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self) -> VideoAutoencoder:
        """The model with fresh weights."""
        from vvae.autoencoder import VideoAutoencoder

        return VideoAutoencoder(self)

    @property
    def cell(self) -> int:
        """Pixels of which height and width are multiples where nothing must be filled."""
        image = 1 if self.content is None else self.content.cell(self.pixels, self.decoder.reads())
        return math.lcm(self.encoder.cell(self.pixels), self.decoder.cell(self.latents), image)

    def pieces(self, frames: int) -> tuple[Piece, ...]:
        """The pieces that a clip of that many frames falls into, filled where they must be."""
        length = self.framing.piece or frames
        whole, rest = divmod(frames, length)
        return (self._piece(length),) * whole + ((self._piece(rest),) if rest else ())

    def _piece(self, frames: int) -> Piece:
        filled = self._filled(frames)
        return Piece(taken=frames, filled=filled, positions=self.encoder.frames(self.pixels, filled), kept=frames)

    def published_pieces(self, frames: int) -> tuple[Piece, ...]:
        """The same as the release did: nothing is filled, and what does not come back is dropped."""
        length = self.framing.piece if self.framing.piece and self.framing.published_pieces else frames
        lengths = (min(length, frames - start) for start in range(0, frames, length))
        return tuple(piece for piece in map(self._floored_piece, lengths) if piece.positions)

    def _floored_piece(self, frames: int) -> Piece:
        try:
            positions = self.encoder.frames(self.pixels, frames)
            return Piece(frames, frames, positions, min(frames, self.decoder.frames(self.latents, positions)))
        except SpecError:
            length = self.floored_frames(frames)
            return self._piece(length) if length else Piece(0, 0, 0, 0)

    def latent_frames(self, frames: int) -> int:
        """Latent positions in time of a clip of that many frames, filled where it must be."""
        return sum(piece.positions for piece in self.pieces(frames))

    @cached_property
    def piece_positions(self) -> int | None:
        """Latent positions of a whole piece; None where a clip is one piece."""
        return self.framing.piece and self._piece(self.framing.piece).positions

    @property
    def stretch(self) -> int | None:
        """Frames that pass together: those of a piece, or those of one content image; None: the whole clip does."""
        return self.content.every if self.content is not None and self.content.every else self.framing.piece

    @cached_property
    def stretch_positions(self) -> int | None:
        """The same in latent positions."""
        return self.stretch and self._piece(self.stretch).positions

    def decoded_pieces(self, positions: int) -> tuple[tuple[int, int], ...]:
        """For each piece, or stretch of one, of so many latent positions: how many it has, and how many frames it gives
        at most.
        """
        if not positions:
            return ()
        length, most = self.stretch_positions or positions, self.stretch
        whole, rest = divmod(positions, length)
        lengths = (length,) * whole + ((rest,) if rest else ())
        with at("decoder"):
            given = {n: self.decoder.frames(self.latents, n) for n in set(lengths)}
        return tuple((n, given[n] if most is None else min(most, given[n])) for n in lengths)

    def images(self, positions: int) -> int:
        """Pieces, or stretches of one, of so many latent positions: each is decoded with a content image of its own."""
        return -(-positions // (self.stretch_positions or max(positions, 1)))

    def decoded_frames(self, positions: int) -> int:
        """Frames that so many latent positions give."""
        return sum(frames for _, frames in self.decoded_pieces(positions))

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """c, t, h, w of the latents of a clip of that size, filled where it must be."""
        rows, columns = (int(side / self.latents.stride) for side in self.filled_size(height, width))
        return self.latents.channels, self.latent_frames(frames), rows, columns

    def filled_frames(self, frames: int) -> int:
        """The smallest number of frames, at least `frames`, that passes and comes back whole."""
        return sum(piece.filled for piece in self.pieces(frames))

    def _filled(self, frames: int) -> int:
        """The same for one piece."""
        filled = legal_frames(frames, self._pass, 1, self._search)
        if filled is None:
            raise VideoError(f"no clip of {frames} frames or slightly more passes through {self.name}")
        return filled

    def floored_frames(self, frames: int) -> int:
        """The largest number of frames, at most `frames`, that passes and comes back whole; 0 if none does."""
        whole = frames // self.framing.piece * self.framing.piece if self.framing.piece else 0
        return whole + (legal_frames(frames - whole, self._pass, -1, self._search) or 0)

    @property
    def _search(self) -> int:
        """Frames from any number to the next one that passes, at most."""
        return max(self.framing.lead + self.framing.group, self.framing.piece or 0)

    def _pass(self, frames: int) -> None:
        """SpecError unless a piece of so many frames passes and comes back whole."""
        with at("encoder"):
            positions = self.encoder.frames(self.pixels, frames)
        with at("decoder"):
            if (given := self.decoder.frames(self.latents, positions)) < frames:
                raise SpecError(f"{frames} frames come back as {given}; give a number that comes back whole")

    def filled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, each filled to whole cells at every layer."""
        cell = self.cell
        return -(-height // cell) * cell, -(-width // cell) * cell

    def dependency(self, frames: int, direction: Literal["encode", "decode", "reconstruct"] = "reconstruct") -> Reach:
        """Who depends on whom in time for a clip of that many frames, from the spec alone.

        encode: rows latents, columns source frames. decode: rows frames that come back, columns latents. reconstruct:
        rows frames that come back, columns source frames. A filled frame counts as the frame that it repeats. What
        comes through a content image is not counted.
        """
        if direction not in ("encode", "decode", "reconstruct"):
            raise VideoError(f"direction {direction!r} is unknown; it is one of encode, decode, reconstruct")
        pieces = self.pieces(frames)
        seen = {piece: self._piece_dependency(piece, direction) for piece in set(pieces)}
        return reduce(reach.beside, (seen[piece] for piece in pieces))

    def _piece_dependency(self, piece: Piece, direction: Literal["encode", "decode", "reconstruct"]) -> Reach:
        encoded = self.encoder.reach(self.pixels, piece.filled)
        encoded[:, piece.taken - 1] |= encoded[:, piece.taken :].any(1)
        encoded = encoded[:, : piece.taken]
        if direction == "encode":
            return encoded
        decoded = self.decoder.reach(self.latents, encoded.shape[0])
        start = len(decoded) - piece.kept if self.framing.surplus == "front" else 0
        decoded = decoded[start : start + piece.kept]
        return decoded if direction == "decode" else reach.then(encoded, decoded)

    def chunks(self, direction: Literal["encode", "decode"]) -> Signal:
        """What the chunks of a stream consist of: lead and groups, or whole pieces, or stretches."""
        read, length = (self.pixels, self.stretch) if direction == "encode" else (self.latents, self.stretch_positions)
        return read if length is None else read.with_time(lead=0, group=length)

    def stream_limit(self, direction: Literal["encode", "decode"]) -> str | None:
        """The layer that prevents streaming and why; None: it streams, group by group or piece by piece."""
        if self.framing.piece:
            return None
        if direction == "decode" and isinstance(self.latent, ClipNorm):
            return "latent: clip_norm is over all latents of the clip"
        layer, read = (self.encoder, self.pixels) if direction == "encode" else (self.decoder, self.latents)
        limit = limit_of(f"{direction}r", layer, read)
        if limit is None and self.framing.surplus == "front" and _sees_later_groups(layer, read):
            return f"{direction}r: it waits for later frames, while frames that are none of the clip stand in front"
        return limit

    def summary(self, size: tuple[int, int, int] = (17, 256, 256)) -> Summary:
        """Parameters, cost, memory and truths in time for clips of that size (frames, height, width)."""
        from vvae.summary import summarize

        return summarize(self, size)


def _sees_later_groups(layer: LayerSpec, read: Signal) -> bool:
    return reach.groups_around(layer.reach(read, read.frames(2)), layer.trace(read), read)[1] > 0
