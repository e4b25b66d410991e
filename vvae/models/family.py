"""What must be known of an architecture so that its released checkpoints are recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vvae.autoencoder import VideoAutoencoderSpec
from vvae.published.table import Rename

Shapes = Mapping[str, Sequence[int]]
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """One architecture. `namings`: the ways in which releases name its tensors.

    layout: the fields behind the shapes of a checkpoint of that naming; KeyError and the like where it is none. forms:
    fields to add, one set for each spec that computes what the published code does; the first is taken. told: the
    fields in words.
    """

    architecture: str
    make: Callable[..., VideoAutoencoderSpec]
    variants: Mapping[str, Fields]
    namings: tuple[str, ...]
    renames: Callable[[VideoAutoencoderSpec, str], tuple[Rename, ...]]
    layout: Callable[[Shapes, str], Fields]
    forms: Callable[[Fields], tuple[Fields, ...]]
    told: Callable[[Fields], str]

    def specs(self, fields: Fields) -> tuple[VideoAutoencoderSpec, ...]:
        """The specs of those fields that compute what the published code does; constants are the defaults."""
        return tuple(self.make(**fields, **form) for form in self.forms(fields))

    def has_network(self, spec: VideoAutoencoderSpec, fields: Fields) -> bool:
        """Whether the published code of those fields computes what the spec says."""
        return any((spec.encoder, spec.decoder) == (made.encoder, made.decoder) for made in self.specs(fields))
