"""Which published architecture a released checkpoint is of, from the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vvae.arch.iv_vae import VARIANTS, Grouping, iv_vae, renames
from vvae.autoencoder import VideoAutoencoderSpec
from vvae.checkpoint import match
from vvae.errors import CheckpointError, SpecError
from vvae.published.table import Rename, extra_names, published_shapes
from vvae.spec import nearest

Shapes = Mapping[str, Sequence[int]]

_STANDARD = {
    "multipliers": (1, 2, 4, 4),
    "blocks": 2,
    "temporal": (False, True, True),
    "encoder_attention": (),
    "decoder_attention": (),
}
"""What the releases share."""


@dataclass(frozen=True)
class Recognised:
    """An architecture with its fields, the variant whose constants it has, and why these."""

    architecture: str
    variant: str
    fields: Mapping[str, Any]
    spec: VideoAutoencoderSpec
    assumed: str

    @property
    def table(self) -> tuple[Rename, ...]:
        """The published name of every tensor."""
        return renames(self.spec)

    @property
    def own_shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes_of(self.spec)

    def __str__(self) -> str:
        fields = self.fields
        return (
            f"{self.architecture}, width {fields['width']}, {fields['latent_channels']} latent channels, "
            f"temporal factor {2 ** sum(fields['temporal'])}"
        )


def shapes_of(spec: VideoAutoencoderSpec) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a model."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in spec.build().state_dict().items()}


def recognise(shapes: Shapes, where: str, variant: str | None = None) -> Recognised:
    """The architecture behind these tensors. `variant`: whose constants it has, if not those of a release of its size.

    Raises:
        CheckpointError: no architecture fits (names the nearest), or its constants cannot be known.
    """
    try:
        fields = layout(shapes)
        spec = iv_vae(**fields, grouping=groupings(fields)[0])
    except (KeyError, IndexError, ZeroDivisionError, ValueError) as error:
        told = f"; {error}" if isinstance(error, SpecError) else ""
        raise CheckpointError(f"{where}: {_guess(shapes)}{told}") from None
    table = renames(spec)
    expected = published_shapes(table, shapes_of(spec))
    extras = extra_names(table, set(shapes) - set(expected))
    match(expected, {k: v for k, v in shapes.items() if k not in extras}, f"{where}: looks like iv_vae of these fields")
    return _with_constants(fields, where, variant)


def _with_constants(fields: dict[str, Any], where: str, variant: str | None) -> Recognised:
    """Scale and shift of the latents stand in no tensor: they are those of a release."""
    if variant is not None and variant not in VARIANTS:
        raise CheckpointError(f"variant {nearest(variant, VARIANTS)}")
    release = next((name for name in VARIANTS if is_release(fields, name)), None)
    chosen = variant or release
    if chosen is None:
        raise CheckpointError(
            f"{where}: is iv_vae of width {fields['width']} with {fields['latent_channels']} latent channels, "
            f"no release; say whose scale and shift it has, with --variant and one of {', '.join(VARIANTS)}"
        )
    constants = {name: VARIANTS[chosen][name] for name in ("scale", "shift")}
    spec = iv_vae(chosen) if chosen == release else iv_vae(**fields, **constants, grouping=groupings(fields)[0])
    told = "scale {scale} and shift {shift}".format(**constants)
    why = "as published for" if chosen == release else "taken from"
    return Recognised("iv_vae", chosen, fields, spec, f"{told}, {why} {chosen}: no tensor tells them")


def is_release(fields: Mapping[str, Any], variant: str) -> bool:
    """Whether these are the fields of a released variant."""
    return dict(fields) == {**_STANDARD, **{name: VARIANTS[variant][name] for name in ("width", "latent_channels")}}


def groupings(fields: Mapping[str, Any]) -> tuple[Grouping, ...]:
    """Which groupings compute what the published code does; with the releases' levels in time both do."""
    return ("derived", "published") if fields["temporal"] == _STANDARD["temporal"] else ("published",)


def layout(shapes: Shapes) -> dict[str, Any]:
    """The fields of an IV-VAE with these published tensors. Errors: KeyError and the like where it is none."""
    width = shapes["encoder.conv1.conv_2d.weight"][0]
    encoder = _levels(shapes, "encoder.downsamples")
    decoder = _levels(shapes, "decoder.upsamples")
    blocks = _count(encoder[0], "block")
    temporal = tuple(kind == "time" for level in encoder for kind, _ in level if kind in ("time", "space"))
    norms = [next(number for kind, number in level if kind == "block") for level in encoder]
    sizes = [shapes[f"encoder.downsamples.{number}.residual.3.gamma"][0] for number in norms]
    return {
        "width": width,
        "latent_channels": shapes["conv2.conv_2d.weight"][1],
        "multipliers": tuple(size // (2 * width) for size in sizes),
        "blocks": blocks,
        "temporal": temporal,
        # beside those that every IV-VAE has: at the smallest level, and after the encoder's last resampler
        "encoder_attention": _attended(encoder, {len(encoder) - 1: blocks + (len(encoder) > 1)}),
        "decoder_attention": _attended(decoder, {0: blocks + 1}),
    }


def _attended(levels: Sequence[Sequence[tuple[str, int]]], usual: Mapping[int, int]) -> tuple[int, ...]:
    """The levels with more attention than is usual there."""
    return tuple(i for i, level in enumerate(levels) if _count(level, "attend") > usual.get(i, 0))


def _count(level: Sequence[tuple[str, int]], kind: str) -> int:
    return sum(1 for found, _ in level if found == kind)


def _levels(shapes: Shapes, stack: str) -> list[list[tuple[str, int]]]:
    """Kind and number of each module of a published stack, by level; a level ends with its resampler.

    The attention that follows the encoder's last resampler is counted with the last level.
    """
    parts: dict[int, set[str]] = {}
    for name in shapes:
        if found := re.fullmatch(rf"{re.escape(stack)}\.(\d+)\.(\w+)\..+", name):
            parts.setdefault(int(found[1]), set()).add(found[2])
    levels: list[list[tuple[str, int]]] = [[]]
    for number in range(max(parts) + 1):
        kind = _kind(parts[number])
        levels[-1].append((kind, number))
        if kind in ("time", "space"):
            levels.append([])
    return levels


def _kind(parts: set[str]) -> str:
    if "residual" in parts:
        return "block"
    if "Attention_2d" in parts:
        return "attend"
    if "resample_2d" not in parts:
        raise KeyError("resample_2d")
    return "time" if "time_conv" in parts else "space"


def _guess(shapes: Shapes) -> str:
    """What the tensors are most like."""
    known = published_shapes(renames(iv_vae("z4_dim64")), shapes_of(iv_vae("z4_dim64")))
    patterns = {re.sub(r"\d+", "#", name) for name in known}
    fitting = [name for name in shapes if re.sub(r"\d+", "#", name) in patterns]
    other = next((name for name in sorted(shapes) if name not in fitting), None)
    missing = next((name for name in known if name not in shapes), None)
    rest = f"{other!r} is none of it" if other else f"{missing!r} is missing"
    return (
        f"no architecture that is known; nearest is iv_vae with {len(fitting)} of {len(shapes)} tensor names, but "
        f"{rest}; check the file, or build the model from a spec"
    )
