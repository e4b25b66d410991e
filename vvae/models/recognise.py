"""Which published architecture a released checkpoint is of, from the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vvae.autoencoder import VideoAutoencoderSpec
from vvae.checkpoint import match
from vvae.errors import CheckpointError, SpecError
from vvae.models import image_layout, iv_layout
from vvae.models.family import Family, Fields, Shapes
from vvae.published.table import Rename, extra_names, published_shapes
from vvae.spec import nearest

FAMILIES = (iv_layout.FAMILY, image_layout.FAMILY)


@dataclass(frozen=True)
class Recognised:
    """An architecture with its fields, the variant whose constants it has, and why these.

    table: the published name of every tensor.
    """

    family: Family
    variant: str
    fields: Fields
    spec: VideoAutoencoderSpec
    table: tuple[Rename, ...]
    assumed: str

    @property
    def architecture(self) -> str:
        return self.family.architecture

    @property
    def own_shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes_of(self.spec)

    def __str__(self) -> str:
        return f"{self.architecture}, {self.family.told(self.fields)}"


@dataclass(frozen=True)
class Layout:
    """Tensors that look like an architecture, under one of its namings."""

    family: Family
    naming: str
    fields: dict[str, Any]
    spec: VideoAutoencoderSpec

    @property
    def table(self) -> tuple[Rename, ...]:
        return self.family.renames(self.spec, self.naming)


def shapes_of(spec: VideoAutoencoderSpec) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a model."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in spec.build().state_dict().items()}


def recognise(shapes: Shapes, where: str, variant: str | None = None) -> Recognised:
    """The architecture behind these tensors. `variant`: whose constants it has, where its shapes do not tell.

    Raises:
        CheckpointError: no architecture fits (names the nearest), or its constants cannot be known.
    """
    found = laid_out(shapes, where)
    expected = published_shapes(found.table, shapes_of(found.spec))
    extras = extra_names(found.table, set(shapes) - set(expected))
    like = f"{where}: looks like {found.family.architecture} of these fields"
    match(expected, {k: v for k, v in shapes.items() if k not in extras}, like)
    return _with_constants(found, where, variant)


def laid_out(shapes: Shapes, where: str) -> Layout:
    """The architecture and naming whose layout the tensors have; CheckpointError, which names the nearest, if none."""
    told = ""
    for family, naming in _namings():
        try:
            fields = dict(family.layout(shapes, naming))
            return Layout(family, naming, fields, family.specs(fields)[0])
        except (KeyError, IndexError, ZeroDivisionError, ValueError) as error:
            told = told or (f"; {error}" if isinstance(error, SpecError) else "")
    raise CheckpointError(f"{where}: {_guess(shapes)}{told}")


def _namings() -> Iterator[tuple[Family, str]]:
    for family in FAMILIES:
        for naming in family.namings:
            yield family, naming


def _with_constants(found: Layout, where: str, variant: str | None) -> Recognised:
    """Scale and shift of the latents stand in no tensor: they are those of a release."""
    family, fields = found.family, found.fields
    if variant is not None and variant not in family.variants:
        raise CheckpointError(f"variant {nearest(variant, family.variants)}")
    releases = [name for name in family.variants if family.has_network(family.make(name), fields)]
    chosen = variant or (releases[0] if len(releases) == 1 else None)
    if chosen is None:
        which = f"as are {' and '.join(releases)}" if releases else "no release"
        raise CheckpointError(
            f"{where}: is {family.architecture} of {family.told(fields)}, {which}; say whose scale and shift it has, "
            f"with --variant and one of {', '.join(releases or family.variants)}"
        )
    release = family.make(chosen)
    spec = release if chosen in releases else found.spec.replace(latent=release.latent)
    why = "as published for" if chosen in releases else "taken from"
    told = f"scale {release.latent.scale} and shift {release.latent.shift}"  # type: ignore[union-attr]
    return Recognised(family, chosen, fields, spec, found.table, f"{told}, {why} {chosen}: no tensor tells them")


def _guess(shapes: Shapes) -> str:
    """What the tensors are most like."""
    name, known, fitting = max(_likenesses(shapes), key=lambda likeness: len(likeness[2]))
    other = next((key for key in sorted(shapes) if key not in fitting), None)
    missing = next((key for key in known if key not in shapes), None)
    rest = f"{other!r} is none of it" if other else f"{missing!r} is missing"
    return (
        f"no architecture that is known; nearest is {name} with {len(fitting)} of {len(shapes)} tensor names, but "
        f"{rest}; check the file, or build the model from a spec"
    )


def _likenesses(shapes: Shapes) -> Iterator[tuple[str, Sequence[str], set[str]]]:
    """For each naming: the architecture, the names of a release, and which of the tensors have a name like them."""
    for family, naming in _namings():
        spec = family.make(next(iter(family.variants)))
        known = list(published_shapes(family.renames(spec, naming), shapes_of(spec)))
        patterns = {re.sub(r"\d+", "#", name) for name in known}
        yield family.architecture, known, {name for name in shapes if re.sub(r"\d+", "#", name) in patterns}
