"""The fields of a Reducio-VAE from the tensors of its released checkpoint."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any

from vvae.arch.reducio import VARIANTS, reducio
from vvae.arch.reducio_names import published_fields, renames
from vvae.models.family import Config, Family, Fields, Shapes

_BLOCK = "{}.{{}}.{}.0.conv1.weight"
_CLIP, _IMAGE, _DECODER = (
    _BLOCK.format(*names)
    for names in (("encoder_3d.down", "block"), ("encoder_2d.down", "block"), ("decoder.up", "block_1"))
)


def layout(shapes: Shapes) -> dict[str, Any]:
    """The fields of a Reducio-VAE with these published tensors. Errors: KeyError and the like where it is none.

    Content comes in by attention, as in the releases, at each level from the stage of the same number: with equal
    widths no tensor tells which. Nor do tensors tell groups, heads and windows: they are those of the releases.
    """
    widths = _widths(shapes, _CLIP)
    grown = _widths(shapes, _DECODER)
    fused = [_attends(shapes, f"decoder.up.{i}.fuse") for i in range(len(widths))]
    table = shapes.get("decoder.mid.fuse.0.pos_embed")
    in_time = _halved(shapes, axis=2)
    return {
        "channels": shapes["encoder_3d.conv_in.weight"][1],
        "widths": widths,
        "decoder_widths": None if grown == widths else grown,
        "stem": shapes["encoder_3d.conv_in.weight"][0],
        "blocks": _count(shapes, "encoder_3d.down.0.block.{}.conv1.weight"),
        "latent_channels": shapes["quant_conv.weight"][0] // 2,
        "inner_channels": shapes["post_quant_conv.weight"][0],
        "time_halvings": in_time,
        "space_halvings": _halved(shapes, axis=3),
        "late": "decoder.up.0.upsample.conv.weight" in shapes,
        "content_widths": _widths(shapes, _IMAGE),
        "content_stem": shapes["encoder_2d.conv_in.weight"][0],
        "content_blocks": _count(shapes, "encoder_2d.down.0.block.{}.conv1.weight"),
        "fuse": tuple(i if attends else None for i, attends in enumerate(fused)),
        "fuse_middle": "attention" if _attends(shapes, "decoder.mid.fuse") else None,
        "positions": None if table is None else "frame",
        **({} if table is None else {"frames": table[1] << in_time}),
    }


def _widths(shapes: Shapes, name: str) -> tuple[int, ...]:
    return tuple(shapes[name.format(i)][0] for i in range(_count(shapes, name)))


def _count(shapes: Shapes, name: str) -> int:
    """How many numbers from 0 on fill the hole of the name."""
    return sum(1 for _ in takewhile(lambda number: name.format(number) in shapes, count()))


def _halved(shapes: Shapes, axis: int) -> int:
    """How many levels of the encoder halve an axis: their kernel is wider than 1 there."""
    levels = range(_count(shapes, _CLIP))
    kernels = (shapes.get(f"encoder_3d.down.{i}.downsample.conv.weight") for i in levels)
    return sum(kernel is not None and kernel[axis] > 1 for kernel in kernels)


def _attends(shapes: Shapes, place: str) -> bool:
    return f"{place}.0.attn.to_q.weight" in shapes


def _stated(config: Config) -> Fields:
    """The whole configuration, or the little that the released config.json says."""
    if "ddconfig" in config:
        return published_fields(config)
    return {"latent_channels": config["embed_dim"]} if "embed_dim" in config else {}


def _told(fields: Fields) -> str:
    widths = ", ".join(map(str, fields["widths"]))
    factor = 2 ** fields["time_halvings"]
    return f"widths {widths}, {fields['latent_channels']} latent channels, temporal factor {factor}"


FAMILY = Family(
    architecture="reducio",
    make=reducio,
    variants=VARIANTS,
    namings=("published",),
    renames=lambda spec, naming: renames(spec),
    layout=lambda shapes, naming: layout(shapes),
    told=_told,
    config=_stated,
)
