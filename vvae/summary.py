"""What a model costs and what is true of it in time, from its spec alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import flops, peak_bytes
from vvae.errors import VideoError
from vvae.gaussian import DiagonalGaussian
from vvae.reach import group_numbers
from vvae.signal import Signal

Direction: TypeAlias = Literal["encode", "decode"]


@dataclass(frozen=True)
class PartSummary:
    """Encoder, or decoder with what encodes its content. Groups and the frames of `history` are those at the pixels.

    `look_ahead` are the groups after a frame's own on which it depends, `history` the frames before its own group;
    None: the whole clip. `limit` names the layer that prevents streaming.
    """

    parameters: int
    flops: int
    stages: Mapping[str, int]
    group_causal: bool
    look_ahead: int | None
    history: int | None
    limit: str | None
    state_bytes: int | None
    peak_bytes: int


@dataclass(frozen=True)
class Summary:
    """A model for clips of `size` (frames, height, width). Printed, it is a page that a person can read.

    `positions`: pixels per latent position; `numbers`: numbers of the clip per number of its latents.
    """

    name: str
    size: tuple[int, int, int]
    latent_shape: tuple[int, int, int, int]
    positions: Fraction
    numbers: Fraction
    lead: int
    group: int
    piece: int | None
    encode: PartSummary
    decode: PartSummary

    @property
    def parameters(self) -> int:
        return self.encode.parameters + self.decode.parameters

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {**asdict(self), "positions": float(self.positions), "numbers": float(self.numbers)}

    def __str__(self) -> str:
        t, h, w = self.size
        lines = [
            f"{self.name}: {self.parameters:,} parameters",
            f"clip {t} x {h} x {w} -> latents {' x '.join(map(str, self.latent_shape))} (c t h w)",
            f"compression: {float(self.positions):.4g} pixels a position, {float(self.numbers):.4g} numbers a number",
            f"in time: lead {self.lead}, groups of {self.group}"
            + (f", in pieces of {self.piece} frames that do not see each other" if self.piece else ""),
        ]
        for name, part in (("encode", self.encode), ("decode", self.decode)):
            lines += [f"{name}:", *(f"  {line}" for line in _lines(part))]
        return "\n".join(lines)


def _lines(part: PartSummary) -> list[str]:
    sees = "the whole clip" if part.history is None else f"{part.history} frames back"
    ahead = "to the end" if part.look_ahead is None else f"{part.look_ahead} groups ahead"
    causal = "group causal" if part.group_causal else "not group causal"
    state = "" if part.state_bytes is None else f", state {part.state_bytes / 2**20:.2f} MiB"
    return [
        f"{part.parameters:,} parameters, {part.flops / 1e9:,.2f} GFLOP, peak {part.peak_bytes / 2**20:,.1f} MiB",
        f"{causal}; sees {sees}, {ahead}",
        f"streams{state}" if part.limit is None else f"does not stream: {part.limit}",
        *(f"{name:<12} {count / 1e9:>12,.2f} GFLOP" for name, count in part.stages.items()),
    ]


@dataclass(frozen=True, eq=False)
class Dry:
    """A model on the meta device, a clip, its posterior, and the FLOPs of both directions by module path."""

    model: VideoAutoencoder
    clip: Tensor
    posterior: DiagonalGaussian
    flops: Mapping[Direction, Mapping[str, int]]


@lru_cache(maxsize=4)
def dry_run(spec: VideoAutoencoderSpec, size: tuple[int, int, int]) -> Dry:
    """One clip of that size (frames, height, width) there and back, without values."""
    with torch.device("meta"):
        model = spec.build()
        clip = torch.zeros(1, spec.pixels.channels, *size)
    found: list[DiagonalGaussian] = []
    encode = flops(lambda: found.append(model.encode(clip)))
    return Dry(model, clip, found[0], {"encode": encode, "decode": flops(lambda: model.decode(found[0]))})


def summarize(spec: VideoAutoencoderSpec, size: tuple[int, int, int]) -> Summary:
    """See `VideoAutoencoderSpec.summary`; everything is counted on the meta device, in float32."""
    if len(size) != 3 or min(size) < 1:
        raise VideoError(f"size {size} is not (frames, height, width); give three numbers, at least 1 each")
    dry, shape = dry_run(spec, tuple(size)), spec.latent_shape(*size)
    pixels = Fraction(spec.pixels.group, spec.latents.group) * spec.latents.stride**2
    return Summary(
        name=spec.name,
        size=size,
        latent_shape=shape,
        positions=pixels,
        numbers=pixels * spec.pixels.channels / shape[0],
        lead=spec.pixels.lead,
        group=spec.pixels.group,
        piece=spec.framing.piece,
        encode=_part(dry, "encode", dry.clip),
        decode=_part(dry, "decode", dry.posterior),
    )


def _part(dry: Dry, direction: Direction, x: Tensor | DiagonalGaussian) -> PartSummary:
    model, counted = dry.model, dry.flops[direction]
    run: Callable[[Any], Any] = model.encode if direction == "encode" else model.decode
    module = model.encoder if direction == "encode" else model.decoder
    parts = [module, model.content] if direction == "decode" and model.content is not None else [module]
    root = type(module).__name__
    limit = model.spec.stream_limit(direction)
    history, look_ahead = _sight(model.spec, direction)
    return PartSummary(
        parameters=sum(p.numel() for part in parts for p in part.parameters()),
        flops=counted["Global"],
        stages={name: counted.get(f"{root}.{name}", 0) for name, _ in module.named_children()},
        group_causal=look_ahead == 0,
        look_ahead=look_ahead,
        history=history,
        limit=limit,
        state_bytes=_state_bytes(model, direction, x) if limit is None else None,
        peak_bytes=peak_bytes(lambda: run(x)),
    )


def _state_bytes(model: VideoAutoencoder, direction: Direction, clip: Tensor | DiagonalGaussian) -> int:
    """What a stream keeps of frames of that size, after lead and two groups (from then on it does not grow)."""
    spec = model.spec
    if spec.framing.piece:  # pieces leave nothing behind
        return 0
    x = clip.mean if isinstance(clip, DiagonalGaussian) else clip
    signal = spec.chunks(direction)
    chunk = x.new_empty(*x.shape[:2], signal.frames(2), *x.shape[3:])
    with torch.no_grad():
        if direction == "encode":
            return model.encode_chunk(chunk)[1].bytes
        images = clip.content if isinstance(clip, DiagonalGaussian) else None
        if images is not None:
            images = images[:, :, :1].repeat(1, 1, spec.images(chunk.shape[2]), 1, 1)
        return model.decode_chunk(chunk, content=images)[1].bytes


def _sight(spec: VideoAutoencoderSpec, direction: Direction) -> tuple[int | None, int | None]:
    """Frames of history before a frame's own group, and groups seen after it, at the pixels; None: the whole clip.

    Read from longer and longer clips, until doubling the clip changes nothing; of pieces, from one.
    """
    if piece := spec.framing.piece:
        whole = spec.dependency(piece, direction).all()
        return (None, None) if whole else _sight_in(spec, direction, piece)
    found = _sight_in(spec, direction, spec.pixels.frames(8))
    for groups in (16, 32, 64, 128):
        longer = _sight_in(spec, direction, spec.pixels.frames(groups))
        if longer == found:
            return found
        found = longer
    return None, None if found[1] else 0


def _sight_in(spec: VideoAutoencoderSpec, direction: Direction, frames: int) -> tuple[int, int]:
    """The same for a clip of so many frames."""
    rows, columns = np.nonzero(spec.dependency(frames, direction))
    video = np.arange(frames)
    if direction == "encode":
        own, seen = _first_frames(spec, spec.latents, spec.latent_frames(frames))[rows], video[columns]
    else:
        own = _first_frames(spec, spec.pixels, frames)[rows]
        seen = _first_frames(spec, spec.latents, spec.latent_frames(frames))[columns]
    ahead = group_numbers(frames, spec.pixels.lead, spec.pixels.group)
    return int((own - seen).max()), int((ahead[seen] - ahead[own]).max())


def _first_frames(spec: VideoAutoencoderSpec, signal: Signal, count: int) -> NDArray[np.int64]:
    """The first frame, at the pixels, of the group of each of `count` frames or latent positions."""
    number = group_numbers(count, signal.lead, signal.group)
    return np.where(number < 0, 0, spec.pixels.lead + number * spec.pixels.group)
