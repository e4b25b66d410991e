"""The fields of an image VAE from the tensors of its released checkpoint, under each of its namings."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any

from vvae.arch.image_vae import NAMINGS, VARIANTS, Naming, image_vae, published_fields, renames
from vvae.models.family import Config, Family, Fields, Shapes, of_diffusers

KEYS = {
    "in_channels": "channels",
    "block_out_channels": "widths",
    "layers_per_block": "blocks",
    "norm_num_groups": "groups",
    "act_fn": "act",
    "latent_channels": "latent_channels",
    "scaling_factor": "scale",
    "shift_factor": "shift",
    "use_quant_conv": "moments_conv",
    "use_post_quant_conv": "latent_conv",
    "mid_block_add_attention": "middle_attention",
}
"""Keys of diffusers' config.json, and the fields that they say."""


def layout(shapes: Shapes, naming: str) -> dict[str, Any]:
    """The fields of an image VAE with these published tensors. Errors: KeyError and the like where it is none.

    No tensor tells groups and activations: they are those of all releases.
    """
    names = NAMINGS[naming]
    level, block = f"encoder.{names.down}.{{}}", names.block.format(j="{}")
    if (norm := f"encoder.{names.norm_out}.{names.scale[0]}") not in shapes:
        raise KeyError(norm)
    levels = max(1, _count(shapes, f"{level}.{block.format(0)}.conv1.weight"))
    inner = shapes["decoder.conv_in.weight"][1]
    return {
        "channels": shapes["encoder.conv_in.weight"][1],
        "widths": tuple(shapes[f"{level.format(i)}.{block.format(0)}.conv1.weight"][0] for i in range(levels)),
        "stem": shapes["encoder.conv_in.weight"][0],
        "blocks": _count(shapes, f"{level.format(0)}.{block}.conv1.weight"),
        "latent_channels": shapes["quant_conv.weight"][0] // 2 if "quant_conv.weight" in shapes else inner,
        "inner_channels": inner,
        "moments_conv": "quant_conv.weight" in shapes,
        "latent_conv": "post_quant_conv.weight" in shapes,
        "middle_attention": _attends(shapes, f"encoder.{names.middle_attention}", names),
        "encoder_attention": _attended(shapes, "encoder", names.down, range(levels), names),
        "decoder_attention": _attended(shapes, "decoder", names.up, range(levels), names),
        "resample_conv": levels == 1 or f"{level.format(0)}.{names.shrink}.weight" in shapes,
    }


def _count(shapes: Shapes, name: str) -> int:
    """How many numbers from 0 on fill the hole of the name."""
    return sum(1 for _ in takewhile(lambda number: name.format(number) in shapes, count()))


def _attended(shapes: Shapes, part: str, stack: str, levels: range, names: Naming) -> tuple[int, ...]:
    """The levels with an attention after every block; only a naming that counts from the finest level has any."""
    if names.level_attention is None:
        return ()
    first = names.level_attention.format(j=0)
    return tuple(i for i in levels if _attends(shapes, f"{part}.{stack}.{i}.{first}", names))


def _attends(shapes: Shapes, place: str, names: Naming) -> bool:
    norm, query, *_ = names.attention
    # with the norm there and another name for the queries, it is another naming
    return f"{place}.{norm}.{names.scale[0]}" in shapes and bool(shapes[f"{place}.{query}.weight"])


def _told(fields: Fields) -> str:
    widths = ", ".join(map(str, fields["widths"]))
    return f"widths {widths}, {fields['latent_channels']} latent channels, temporal factor 1"


def stated(config: Config) -> Fields:
    """The fields that a config.json says: diffusers' or CompVis'."""
    if "ddconfig" in config:
        return published_fields(config)
    return of_diffusers(config, "AutoencoderKL", KEYS, published_fields)


FAMILY = Family(
    architecture="image_vae",
    make=image_vae,
    variants=VARIANTS,
    namings=tuple(NAMINGS),
    renames=renames,
    layout=layout,
    told=_told,
    config=stated,
)
