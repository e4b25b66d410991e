"""Released checkpoints as models of vvae, and back under their published names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.checkpoint import EXTRAS
from vvae.errors import CheckpointError
from vvae.models.family import Family
from vvae.models.files import filled, find_file
from vvae.models.recognise import FAMILIES, Recognised, laid_out, recognise, shapes_of
from vvae.models.sources import Source, read_source
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename, place
from vvae.spec import nearest


@dataclass(frozen=True)
class TensorKind:
    """Tensors that were treated alike: the end of their published and own names, what was done, and how many."""

    published: str
    own: str
    done: str
    count: int


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint; `source` is what it held, where it is a released one."""

    recognised: Recognised
    tensors: Mapping[str, Tensor]
    kinds: tuple[TensorKind, ...]
    source: Source | None = None


def load_published(
    arch: str | None, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **choices: object
) -> VideoAutoencoder:
    """The model in a released checkpoint, in evaluation mode: `load_published("image_vae", path, variant="sdxl")`.

    path: a file of safetensors, torch or MindSpore, or a folder of one or of shards with their index. arch: a name in
    `vvae.arch`; None recognises it. The variant is recognised from the names and shapes of the tensors, and from a
    config.json beside them. `choices` say what neither tells; the error that asks for them lists them. Weights are
    float32 where the file holds half precision, unless `dtype` says otherwise.

    Raises:
        CheckpointError: no such file, tensors of no architecture that is known, or a choice that must be made.
    """
    found = from_published(path, arch, **choices)
    return filled(found.recognised.spec, found.tensors, os.fspath(path), dtype)


def from_published(path: str | os.PathLike[str], arch: str | None = None, /, **choices: object) -> Conversion:
    """The tensors of a released checkpoint under vvae's names, values and dtypes unchanged; see `load_published`.

    Tensors without a function are there under their published names, led by `EXTRAS`.
    """
    source = read_source(path)
    found = recognise(source.shapes, source.where, arch, source.config, choices, source.tensors)
    own, extras = to_own(found.table, source.tensors, found.own_shapes, source.where)
    tensors = {**own, **{f"{EXTRAS}{name}": tensor for name, tensor in extras.items()}}
    return Conversion(found, tensors, _kinds(found.table, own, extras), source)


def as_published(name: str | os.PathLike[str], naming: str | None = None) -> Conversion:
    """The tensors of a model of vvae (a name or a file) under the names of its release: `from_published` reversed.

    naming: whose names, where releases have several.

    Raises:
        CheckpointError: no such model, one that no release has names for, or no such naming.
    """
    path = find_file(name)
    text, held = checkpoint.load_weights(path)
    spec = VideoAutoencoderSpec.from_json(text)
    own = {key: tensor for key, tensor in held.items() if not key.startswith(EXTRAS)}
    extras = {key.removeprefix(EXTRAS): tensor for key, tensor in held.items() if key.startswith(EXTRAS)}
    checkpoint.match(shapes_of(spec), {key: tensor.shape for key, tensor in own.items()}, str(path))
    found, published, beside = _exported(spec, own, extras, str(name), naming)
    return Conversion(found, published, _kinds(found.table, own, beside))


def _exported(
    spec: VideoAutoencoderSpec, own: Mapping[str, Tensor], extras: Mapping[str, Tensor], where: str, naming: str | None
) -> tuple[Recognised, dict[str, Tensor], Mapping[str, Tensor]]:
    """The release that the spec is one of, its tensors under the first naming that has a name for all of them, and
    those of them that no layer holds.
    """
    nearly: list[Family] = []
    for family, known in _known_namings(naming):
        try:
            table = family.renames(spec, known)
            beside = {**family.constants(spec, known), **extras}
            published = to_published(table, own, beside)
            layout = laid_out({key: tuple(tensor.shape) for key, tensor in published.items()}, where, family)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue
        nearly.append(family)
        if family.computes(spec, layout.fields):
            told = _told_by_no_tensor(family, layout.fields)
            return Recognised(family, known, spec.name, layout.fields, spec, table, told), published, beside
    if nearly:
        raise CheckpointError(
            f"{where}: {spec.name} is no {nearly[0].architecture} as released; its published code would compute another"
        )
    names = f"names of {naming}" if naming else "published names"
    known_ones = ", ".join(family.architecture for family in FAMILIES)
    raise CheckpointError(f"{where}: {spec.name} has no {names}; those of {known_ones} have, as released")


def _known_namings(only: str | None) -> Iterator[tuple[Family, str]]:
    all_of_them = {naming: None for family in FAMILIES for naming in family.namings}
    if only is not None and only not in all_of_them:
        raise CheckpointError(f"naming {nearest(only, all_of_them)}")
    for family in FAMILIES:
        yield from ((family, naming) for naming in family.namings if only in (None, naming))


def _told_by_no_tensor(family: Family, fields: Mapping[str, object]) -> str:
    names = {name: None for variant in family.variants.values() for name in variant if name not in fields}
    names |= {choice.name: None for choice in family.choices(fields)}
    return f"no tensor holds {', '.join(names)}: keep it in mind" if names else ""


def _kinds(table: Iterable[Rename], own: Iterable[str], extras: Iterable[str]) -> tuple[TensorKind, ...]:
    counts: Counter[tuple[str, str, str]] = Counter()
    done = {"same": "renamed", "view": "reshaped, axes of 1 dropped", "cat": "joined"}
    for name, where in place(table, own).items():
        ends = [_end(published) for published in where.published]
        counts[" + ".join(ends), _end(name), done[where.row.op]] += 1
    for name in extras:
        counts[_end(name), "", "kept beside the model"] += 1
    return tuple(TensorKind(*kind, count) for kind, count in sorted(counts.items()))


def _end(name: str) -> str:
    """What a tensor belongs to: the last words of its name, without numbers, and without weight and bias."""
    parts = [re.sub(r"^\d+$|(?<=[a-z])\d+$", "*", part) for part in name.split(".")]
    kept = parts[:-1] if parts[-1] in ("weight", "bias") else parts
    return ".".join(kept[-2:])
