"""Which published architecture a released checkpoint is of, from the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.checkpoint import match
from vvae.errors import CheckpointError, SpecError
from vvae.models import image_layout, iv_layout, od_layout, reducio_layout, sora_layout, tae_layout, wan_layout
from vvae.models.family import Config, Family, Fields, Shapes
from vvae.models.settle import settle
from vvae.published.table import Rename, extra_names, published_shapes
from vvae.spec import nearest

FAMILIES = (
    iv_layout.FAMILY,
    image_layout.FAMILY,
    od_layout.FAMILY,
    sora_layout.FAMILY,
    tae_layout.FAMILY,
    reducio_layout.FAMILY,
    wan_layout.FAMILY,
)
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Recognised:
    """An architecture with its fields and naming, and the release that it is, if it is one.

    table: the published name of every tensor. assumed: what no tensor tells, and who says it.
    """

    family: Family
    naming: str
    variant: str | None
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
        names = f", names of {self.naming}" if len(self.family.namings) > 1 else ""
        return f"{self.architecture}, {self.family.told(self.fields)}{names}"


@dataclass(frozen=True)
class Layout:
    """Tensors that look like an architecture, under one of its namings."""

    family: Family
    naming: str
    fields: dict[str, Any]
    spec: VideoAutoencoderSpec

    @cached_property
    def table(self) -> tuple[Rename, ...]:
        return self.family.renames(self.spec, self.naming)

    @cached_property
    def expected(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of all tensors, extras aside."""
        return published_shapes(self.table, shapes_of(self.spec))

    def present(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The tensors that are there, extras aside."""
        extras = extra_names(self.table, set(shapes) - set(self.expected))
        return {name: tuple(shape) for name, shape in shapes.items() if name not in extras}

    def misfits(self, shapes: Shapes) -> int:
        """How many tensors are missing, are too many, or have another shape."""
        return len({name for name, _ in self.expected.items() ^ self.present(shapes).items()})


def shapes_of(spec: VideoAutoencoderSpec) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a model of that spec."""
    return dict(_shapes_of(spec))


@lru_cache(maxsize=128)
def _shapes_of(spec: VideoAutoencoderSpec) -> tuple[tuple[str, tuple[int, ...]], ...]:
    # what is recognised is compared with the same releases again and again
    with torch.device("meta"):
        return tuple((name, tuple(tensor.shape)) for name, tensor in spec.build().state_dict().items())


def family_of(arch: str) -> Family:
    """The family of an architecture by name.

    Raises:
        CheckpointError: no architecture of that name has released checkpoints; names the nearest.
    """
    known = {family.architecture: family for family in FAMILIES}
    if arch not in known:
        raise CheckpointError(f"architecture {nearest(str(arch), known)}")
    return known[arch]


def recognise(
    shapes: Shapes,
    where: str,
    arch: str | None = None,
    config: Config = NOTHING,
    answers: Mapping[str, object] = NOTHING,
    tensors: Mapping[str, Tensor] = NOTHING,
) -> Recognised:
    """The architecture behind these shapes (`arch` where it is known), with what no tensor tells; see `settle`.

    tensors: those of the shapes, for constants that stand in their values.

    Raises:
        CheckpointError: no architecture fits (names the nearest), or something is open that no tensor tells.
    """
    found = laid_out(shapes, where, None if arch is None else family_of(arch))
    fields = {**found.fields, **(found.family.values(tensors) if tensors else {})}
    settled = settle(found.family, fields, where, config, answers)
    table = found.family.renames(settled.spec, found.naming)
    return Recognised(found.family, found.naming, settled.variant, fields, settled.spec, table, settled.why)


def laid_out(shapes: Shapes, where: str, family: Family | None = None) -> Layout:
    """The architecture and naming of which these are the tensors, all of them and in these shapes.

    Raises:
        CheckpointError: none; names the nearest, and what of it is missing, too much or of another shape.
    """
    layouts: list[Layout] = []
    told = ""
    for known, naming in _namings(family):
        try:
            layout = _laid_out(known, naming, shapes)
            if not layout.misfits(shapes):
                return layout
            layouts.append(layout)
        except (KeyError, IndexError, ZeroDivisionError, AttributeError, TypeError, ValueError) as error:
            told = told or (f"; {error}" if isinstance(error, SpecError) else "")
    if not layouts:
        raise CheckpointError(f"{where}: {_guess(shapes, family)}{told}")
    near = min(layouts, key=lambda layout: layout.misfits(shapes))
    like = f"{near.family.architecture} of {near.family.told(near.fields)}"
    match(near.expected, near.present(shapes), f"{where}: looks like {like}")
    return near  # not reached: something misfits


def _laid_out(family: Family, naming: str, shapes: Shapes) -> Layout:
    fields = dict(family.layout(shapes, naming))
    return Layout(family, naming, fields, family.specs(fields)[0])


def _namings(only: Family | None) -> Iterator[tuple[Family, str]]:
    for family in FAMILIES if only is None else (only,):
        for naming in family.namings:
            yield family, naming


def _guess(shapes: Shapes, only: Family | None) -> str:
    """What the tensors are most like."""
    name, known, fitting = max(_likenesses(shapes, only), key=lambda likeness: len(likeness[2]))
    other = next((key for key in sorted(shapes) if key not in fitting), None)
    missing = next((key for key in known if key not in shapes), None)
    rest = f"{other!r} is none of it" if other else f"{missing!r} is missing"
    what = f"no {name}" if only else "no architecture that is known"
    return (
        f"{what}; nearest is {name} with {len(fitting)} of {len(shapes)} tensor names, but {rest}; check the file, or "
        "build the model from a spec"
    )


def _likenesses(shapes: Shapes, only: Family | None) -> Iterator[tuple[str, Sequence[str], set[str]]]:
    """For each naming: the architecture, the names of a release, and which of the tensors have a name like them."""
    for family, naming in _namings(only):
        known = _names_of_a_release(family.architecture, naming)
        patterns = {re.sub(r"\d+", "#", name) for name in known}
        yield family.architecture, known, {name for name in shapes if re.sub(r"\d+", "#", name) in patterns}


@cache
def _names_of_a_release(architecture: str, naming: str) -> tuple[str, ...]:
    """The names of the first release that this naming has names for; nothing where there is none."""
    family = family_of(architecture)
    for variant in family.variants:
        spec = family.make(variant)
        try:
            return tuple(published_shapes(family.renames(spec, naming), shapes_of(spec)))
        except SpecError:
            continue
    return ()
