"""What models there are: those that ship with weights, and the variants of the published architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vvae.autoencoder import VideoAutoencoderSpec
from vvae.models.files import embedded, spec_in
from vvae.models.names import spec_of, variants
from vvae.models.recognise import shapes_of
from vvae.reach import group_numbers


@dataclass(frozen=True)
class Entry:
    """One model. bytes: of its file, None without weights. compression: frames, rows, columns per latent position."""

    name: str
    bytes: int | None
    parameters: int
    compression: tuple[float, float, float]
    latent_channels: int
    lead: int
    group: int
    group_causal: bool
    streams: bool

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "compression": list(self.compression)}


def catalogue() -> list[Entry]:
    """All of them, those with weights first."""
    return list(_entries())


def _entries() -> Iterator[Entry]:
    for name, file in embedded().items():
        yield _entry(name, spec_in(file), file.stat().st_size)
    for name in variants():
        yield _entry(name, spec_of(name), None)


def _entry(name: str, spec: VideoAutoencoderSpec, size: int | None) -> Entry:
    side = float(spec.latents.stride)
    return Entry(
        name=name,
        bytes=size,
        parameters=sum(map(math.prod, shapes_of(spec).values())),
        compression=(float(Fraction(spec.pixels.group, spec.latents.group)), side, side),
        latent_channels=spec.latents.channels,
        lead=spec.framing.lead,
        group=spec.framing.group,
        group_causal=_is_group_causal(spec),
        streams=not any(spec.stream_limit(direction) for direction in ("encode", "decode")),
    )


def _is_group_causal(spec: VideoAutoencoderSpec) -> bool:
    """Whether no frame that comes back depends on a later group than its own."""
    frames = spec.pixels.frames(6)
    number = group_numbers(frames, spec.pixels.lead, spec.pixels.group)
    return not (spec.dependency(frames) & (number[None, :] > number[:, None])).any()
