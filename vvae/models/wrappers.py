"""What stands around the tensors of a model in a released checkpoint, told by names alone, and taken away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from vvae.errors import CheckpointError

PREFIXES = ("module.", "_orig_mod.", "model.", "vae.", "first_stage_model.")
"""What trainers and larger models put before every name."""
INFIXES = ("autoencoder.", "_backbone.")
"""What the trainers of MindSpore put into names, wherever it stands."""
PARTS = ("first_stage_model.", "vae.")
"""What leads the names of the autoencoder in a file that holds a diffusion model and its text encoder, too."""

_TRAINING = {
    "the training loss": re.compile(r"loss\..+"),
    "moving averages of the weights": re.compile(r"(?:.+\.)?[^.]*_ema\..+"),
    "an optimizer": re.compile(r"(?:optimizer\w*|moment[12s]|adam_[mv])\..+|beta[12]_power|global_step|learning_rate"),
}


@dataclass(frozen=True)
class LeftOut:
    """What of a checkpoint is no part of the model: how the names begin, what they are, how many."""

    names: str
    what: str
    count: int

    def __str__(self) -> str:
        return f"{self.names} ({self.count} of {self.what})"


@dataclass(frozen=True)
class Bare:
    """The tensors of a model by their published names; what was taken from before every name, and what was left out."""

    tensors: Mapping[str, Tensor]
    prefix: str = ""
    left_out: tuple[LeftOut, ...] = ()


def bare(tensors: Mapping[str, Tensor]) -> Bare:
    """The tensors without what wrappers put before every name, and without those that are no part of the model."""
    found = Bare(tensors)
    while (after := _peeled(found)) is not found:
        found = after
    return found


def _peeled(found: Bare) -> Bare:
    """One wrapper less, or the tensors of one kind; the same object where there is nothing to take away."""
    names = found.tensors
    for what, pattern in _TRAINING.items():
        if any(map(pattern.fullmatch, names)):
            return _cut(found, {name for name in names if not pattern.fullmatch(name)}, what)
    if prefix := next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), None):
        short = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
        return Bare(short, found.prefix + prefix, found.left_out)
    if part := next((p for p in PARTS if any(name.startswith(p) for name in names)), None):
        return _cut(found, {name for name in names if name.startswith(part)}, "another model")
    return found


def _cut(found: Bare, kept: Collection[str], what: str) -> Bare:
    """Without the tensors that are not kept."""
    counts = Counter(_beginning(name) for name in found.tensors if name not in kept)
    left = (LeftOut(beginning, what, count) for beginning, count in sorted(counts.items()))
    tensors = {name: tensor for name, tensor in found.tensors.items() if name in kept}
    return Bare(tensors, found.prefix, (*found.left_out, *left))


def _beginning(name: str) -> str:
    """How a name begins; names without a dot are told together."""
    head, dot, _ = name.partition(".")
    return f"{head}." if dot else "others"


def without_infixes(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a file of MindSpore by names without `INFIXES`.

    Raises:
        CheckpointError: two names that differ in them alone.
    """
    short: dict[str, str] = {}
    for name in tensors:
        plain = name
        for infix in INFIXES:
            plain = plain.replace(infix, "")
        if plain in short:
            raise CheckpointError(f"{where}: {short[plain]} and {name} are both {plain}; keep the one that is meant")
        short[plain] = name
    return {plain: tensors[name] for plain, name in short.items()}
