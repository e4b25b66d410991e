"""The fields of a TAE from the tensors of its released checkpoint."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any

from vvae.arch.tae import VARIANTS, renames, tae
from vvae.models.family import Choice, Family, Fields, Shapes

_FIRST = "block.0.conv1.conv_spat.weight"


def layout(shapes: Shapes) -> dict[str, Any]:
    """The fields of a TAE with these published tensors. Errors: KeyError and the like where it is none.

    No tensor tells groups and paddings: groups are those of the release, paddings are a choice.
    """
    levels = range(_count(shapes, f"decoder.up.{{}}.{_FIRST}"))
    return {
        "channels": shapes["encoder.conv_in.conv_spat.weight"][1],
        "widths": tuple(shapes[f"decoder.up.{i}.{_FIRST}"][0] for i in levels),
        "stem": shapes["encoder.conv_in.conv_spat.weight"][0],
        "blocks": _count(shapes, "encoder.down.0.block.{}.conv1.conv_spat.weight"),
        "latent_channels": shapes["decoder.conv_in.conv_spat.weight"][1],
        "temporal_down": _where(shapes, "encoder.down.{}.downsample_temp.conv.weight", levels),
        "temporal_up": _where(shapes, "decoder.up.{}.upsample_temp.conv.weight", levels),
        "temporal_attention": "encoder.mid.attn_1.1.norm.gamma" in shapes,
        "encoder_attention": _where(shapes, "encoder.down.{}.attn.0.0.norm.gamma", levels),
        "decoder_attention": _where(shapes, "decoder.up.{}.attn.0.0.norm.gamma", levels),
        "moments_conv": "quant_conv.conv_spat.weight" in shapes,
        "latent_conv": "post_quant_conv.conv_spat.weight" in shapes,
    }


def _count(shapes: Shapes, name: str) -> int:
    """How many numbers from 0 on fill the hole of the name."""
    return sum(1 for _ in takewhile(lambda number: name.format(number) in shapes, count()))


def _where(shapes: Shapes, name: str, levels: range) -> tuple[int, ...]:
    return tuple(level for level in levels if name.format(level) in shapes)


def _told(fields: Fields) -> str:
    widths = ", ".join(map(str, fields["widths"]))
    factor = 2 ** len(fields["temporal_down"])
    return f"widths {widths}, {fields['latent_channels']} latent channels, temporal factor {factor}"


PADDING = Choice(
    "padding", "what stands past the ends of the clip where the frame rate changes (TAE's code had several)", VARIANTS
)

FAMILY = Family(
    architecture="tae",
    make=tae,
    variants=VARIANTS,
    namings=("mindspore",),
    renames=lambda spec, naming: renames(spec),
    layout=lambda shapes, naming: layout(shapes),
    told=_told,
    forms=lambda fields: tuple(VARIANTS.values()),
    choices=lambda fields: (PADDING,),
)
