"""The fields of a VAE of Wan from the tensors of its released checkpoint, under each of its namings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile
from typing import Any

from vvae.arch.wan import NAMINGS, VARIANTS, Naming, published_fields, renames, wan
from vvae.models.family import Config, Family, Fields, Shapes, of_diffusers

KEYS = {
    "in_channels": "channels",
    "base_dim": "width",
    "decoder_base_dim": "decoder_width",
    "dim_mult": "multipliers",
    "temperal_downsample": "temporal",
    "num_res_blocks": "blocks",
    "z_dim": "latent_channels",
    "latents_mean": "shift",
    "latents_std": "scale",
}
"""Keys of diffusers' config.json, and the fields that they say."""


def layout(shapes: Shapes, naming: str) -> dict[str, Any]:
    """The fields of a VAE of Wan with these published tensors. Errors: KeyError and the like where it is none."""
    names = NAMINGS[naming]
    conv_in, moments = f"{names.ends[0]}.weight", f"{names.around[0]}.weight"
    width, channels, *_ = shapes[f"encoder.{conv_in}"]
    levels = list(_levels(shapes, names))
    multipliers = tuple(blocks[-1] // width for blocks, _ in levels)
    return {
        "channels": channels,
        "width": width,
        "decoder_width": shapes[f"decoder.{conv_in}"][0] // multipliers[-1],
        "multipliers": multipliers,
        "temporal": tuple(in_time for _, in_time in levels[:-1]),
        "blocks": len(levels[0][0]),
        "latent_channels": shapes[moments][0] // 2,
    }


def _levels(shapes: Shapes, names: Naming) -> Iterator[tuple[list[int], bool]]:
    """Of each level of the encoder the widths of its blocks, and whether the frame rate changes at its end."""
    blocks: list[int] = []
    for place in takewhile(lambda place: _is_there(shapes, place, names), _places(names)):
        width = shapes.get(f"{place}.{names.block[3]}.weight")
        if width is not None:
            blocks.append(width[0])
        else:
            yield blocks, f"{place}.time_conv.weight" in shapes
            blocks = []
    yield blocks, False


def _places(names: Naming) -> Iterator[str]:
    """Where the blocks and changes of size of an encoder stand."""
    return (f"encoder.{names.encoder[0].format(n=n)}" for n in count())


def _is_there(shapes: Shapes, place: str, names: Naming) -> bool:
    return any(f"{place}.{part}.weight" in shapes for part in (names.block[3], "resample.1"))


def _told(fields: Fields) -> str:
    factor = 2 ** sum(fields["temporal"])
    return f"width {fields['width']}, {fields['latent_channels']} latent channels, temporal factor {factor}"


def stated(config: Config) -> Fields:
    """The fields that diffusers' config.json says."""
    return of_diffusers(config, "AutoencoderKLWan", KEYS, published_fields)


FAMILY = Family(
    architecture="wan",
    make=wan,
    variants=VARIANTS,
    namings=tuple(NAMINGS),
    renames=renames,
    layout=layout,
    told=_told,
    config=stated,
)
