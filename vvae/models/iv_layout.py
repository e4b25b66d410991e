"""The fields of an IV-VAE from the tensors of its released checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vvae.arch.iv_vae import VARIANTS, iv_vae, renames
from vvae.models.family import Family, Fields, Shapes


def _forms(fields: Fields) -> tuple[Fields, ...]:
    """With the releases' levels in time groups may follow from the levels, too."""
    published: Fields = {"grouping": "published"}
    return ({"grouping": "derived"}, published) if fields["temporal"] == (False, True, True) else (published,)


def _told(fields: Fields) -> str:
    return (
        f"width {fields['width']}, {fields['latent_channels']} latent channels, "
        f"temporal factor {2 ** sum(fields['temporal'])}"
    )


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


FAMILY = Family(
    architecture="iv_vae",
    make=iv_vae,
    variants=VARIANTS,
    namings=("published",),
    renames=lambda spec, naming: renames(spec),
    layout=lambda shapes, naming: layout(shapes),
    forms=_forms,
    told=_told,
)
