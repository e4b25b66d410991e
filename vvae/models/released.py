"""Released checkpoints as models of vvae, and back under their published names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder, VideoAutoencoderSpec
from vvae.errors import CheckpointError, SpecError
from vvae.models.files import EXTRAS, filled, find_file
from vvae.models.recognise import FAMILIES, Recognised, laid_out, recognise, shapes_of
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename, place

_WRAPPERS = ("module.", "_orig_mod.", "model.", "vae.", "first_stage_model.")
_TORCH = (".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class TensorKind:
    """Tensors that were treated alike: the end of their published and own names, what was done, and how many."""

    published: str
    own: str
    done: str
    count: int


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint."""

    recognised: Recognised
    tensors: Mapping[str, Tensor]
    kinds: tuple[TensorKind, ...]
    dropped_prefix: str = ""


def load_released(path: str | os.PathLike[str], *, variant: str | None = None) -> VideoAutoencoder:
    """The model in a released checkpoint (.pth, .pt, .ckpt, .bin, .safetensors, or a folder), in evaluation mode.

    It is recognised from the names and shapes of its tensors; see `from_published`.

    Raises:
        CheckpointError: no such file, or no architecture that is known.
    """
    found = from_published(path, variant)
    own = {name: tensor for name, tensor in found.tensors.items() if not name.startswith(EXTRAS)}
    return filled(found.recognised.spec, own, os.fspath(path))


def from_published(path: str | os.PathLike[str], variant: str | None = None) -> Conversion:
    """The tensors of a released checkpoint under vvae's names, values and dtypes unchanged.

    variant: whose constants (scale and shift of the latents) it has, where its shapes are those of no release, or of
    several.

    Raises:
        CheckpointError: no such file, no architecture that is known, or constants that cannot be known.
    """
    where = os.fspath(path)
    published, prefix = _unwrapped(read_released(path))
    found = recognise({name: tuple(tensor.shape) for name, tensor in published.items()}, where, variant)
    own, extras = to_own(found.table, published, found.own_shapes, where)
    tensors = {**own, **{f"{EXTRAS}{name}": tensor for name, tensor in extras.items()}}
    return Conversion(found, tensors, _kinds(found.table, own, extras), prefix)


def as_published(name: str | os.PathLike[str]) -> Conversion:
    """The tensors of a model of vvae (a name or a file) under the names of its release: `from_published` reversed.

    Raises:
        CheckpointError: no such model, or one that no release has names for.
    """
    path = find_file(name)
    text, held = checkpoint.load_weights(path)
    spec = VideoAutoencoderSpec.from_json(text)
    own = {key: tensor for key, tensor in held.items() if not key.startswith(EXTRAS)}
    extras = {key.removeprefix(EXTRAS): tensor for key, tensor in held.items() if key.startswith(EXTRAS)}
    checkpoint.match(shapes_of(spec), {key: tensor.shape for key, tensor in own.items()}, str(path))
    found, published = _exported(spec, own, extras, str(name))
    return Conversion(found, published, _kinds(found.table, own, extras))


def _exported(
    spec: VideoAutoencoderSpec, own: Mapping[str, Tensor], extras: Mapping[str, Tensor], where: str
) -> tuple[Recognised, dict[str, Tensor]]:
    """The release that the spec is one of, and its tensors, under the first naming that has a name for all of them."""
    nearly = ""
    for family in FAMILIES:
        for naming in family.namings:
            try:
                table = family.renames(spec, naming)
                published = to_published(table, own, extras)
                layout = laid_out({key: tuple(tensor.shape) for key, tensor in published.items()}, where)
            except (SpecError, CheckpointError):
                continue
            nearly = nearly or layout.family.architecture
            if layout.family is family and family.has_network(spec, layout.fields):
                assumed = "scale and shift are not saved: no tensor holds them"
                return Recognised(family, spec.name, layout.fields, spec, table, assumed), published
    if nearly:
        raise CheckpointError(
            f"{where}: {spec.name} is no {nearly} as released; its published code would compute another"
        )
    known = " and ".join(family.architecture for family in FAMILIES)
    raise CheckpointError(f"{where}: {spec.name} has no published names; only {known} have, as released")


def read_released(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a released checkpoint, or of all .safetensors files in a folder.

    Raises:
        CheckpointError: nothing there that holds tensors.
    """
    place_ = Path(path)
    if not place_.is_dir():
        return _read(place_)
    files = sorted(place_.glob("*.safetensors")) or sorted(f for f in place_.iterdir() if f.suffix in _TORCH)
    if not files:
        raise CheckpointError(f"{path}: the folder holds no .safetensors, .pth, .pt, .ckpt or .bin file; give another")
    tensors: dict[str, Tensor] = {}
    for file in files:
        held = _read(file)
        if twice := sorted(held.keys() & tensors.keys()):
            raise CheckpointError(f"{file}: {twice[0]} stands in another file of the folder too; give one file alone")
        tensors.update(held)
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return checkpoint.read_pth(path)
    tensors, metadata = checkpoint.read_file(path)
    if "vvae.spec" in metadata:
        raise CheckpointError(f"{path}: is a model of vvae already; use it as it is, or export it with --to published")
    return tensors


def _unwrapped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors without what wrappers put before every name, and that."""
    dropped = ""
    while wrapper := next((w for w in _WRAPPERS if tensors and all(name.startswith(w) for name in tensors)), None):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
        dropped += wrapper
    return tensors, dropped


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
