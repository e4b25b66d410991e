"""What models there are: those that ship with weights, and the variants of the published architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.files import embedded, spec_in
from vvae.models.names import spec_of, variants
from vvae.models.recognise import shapes_of
from vvae.models.releases import OWN, RELEASES, UNRELEASED, Release
from vvae.models.truths import ahead, in_time
from vvae.stages import fitting_frames


@dataclass(frozen=True)
class Entry:
    """One model. bytes: of its file, None without weights. compression: frames, rows, columns per latent position.

    frames: how many pass as they are; sides: pixels of which height and width are multiples then. in_time: what is true
    of it in time. file: the released one that fits; None where there is none.
    """

    name: str
    architecture: str
    variant: str | None
    bytes: int | None
    parameters: int
    compression: tuple[float, float, float]
    latent_channels: int
    lead: int
    group: int
    piece: int | None
    in_time: str
    group_causal: bool
    streams: bool
    frames: str
    sides: int
    release: Release
    file: str | None

    def to_dict(self) -> dict[str, Any]:
        fields = {key: value for key, value in asdict(self).items() if key != "release"}
        release = {key: value for key, value in asdict(self.release).items() if key != "files"}
        return {**fields, "compression": list(self.compression), **release}


def catalogue() -> list[Entry]:
    """All of them, those with weights first."""
    return list(_entries())


def _entries() -> Iterator[Entry]:
    for name, file in embedded().items():
        yield _entry(name, spec_in(file), name, None, file.stat().st_size)
    for name in variants():
        architecture, _, variant = name.partition(":")
        yield _entry(name, spec_of(name), architecture, variant, None)


def _entry(name: str, spec: VideoAutoencoderSpec, architecture: str, variant: str | None, size: int | None) -> Entry:
    side = float(spec.latents.stride)
    release = RELEASES.get(architecture, UNRELEASED if size is None else OWN)
    return Entry(
        name=name,
        architecture=architecture,
        variant=variant,
        bytes=size,
        parameters=sum(map(math.prod, shapes_of(spec).values())),
        compression=(float(Fraction(spec.pixels.group, spec.latents.group)), side, side),
        latent_channels=spec.latents.channels,
        lead=spec.framing.lead,
        group=spec.framing.group,
        piece=spec.framing.piece,
        in_time=in_time(spec),
        group_causal=spec.framing.piece is None and ahead(spec, "encode") == ahead(spec, "decode") == 0,
        streams=not any(spec.stream_limit(direction) for direction in ("encode", "decode")),
        frames=fitting_frames(spec),
        sides=spec.cell,
        release=release,
        file=release.files.get(variant or ""),
    )
