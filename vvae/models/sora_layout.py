"""The fields of Open-Sora's video VAE, or of a part of it, from the tensors of its released checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count, takewhile
from typing import Any

import torch
from torch import Tensor

from vvae.arch.open_sora import AT_ONCE, NAMINGS, VARIANTS, open_sora, published_constants, renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models import image_layout
from vvae.models.family import Choice, Family, Fields, Shapes
from vvae.scaling import Affine


def layout(shapes: Shapes, naming: str) -> dict[str, Any]:
    """The fields behind these published tensors. Errors: KeyError and the like where there are none.

    No tensor tells groups and activations, which are those of the release, nor the length of pieces, which is a choice.
    How many frames run at one time changes no value; they are those of the variants.
    """
    return {**LAYOUTS[naming](shapes), "at_once": AT_ONCE}


def _pipeline(shapes: Shapes) -> dict[str, Any]:
    temporal = _temporal(_below(shapes, "temporal_vae."))
    return {**temporal, "component": "pipeline", "spatial": _image(_below(shapes, "spatial_vae.module."))}


def _spatial(shapes: Shapes) -> dict[str, Any]:
    return {"component": "spatial", "spatial": _image(_below(shapes, "module."))}


def _temporal(shapes: Shapes) -> dict[str, Any]:
    first = "encoder.block_res_blocks.{}.0.conv1.conv.weight"
    levels, width = range(_count(shapes, first)), shapes["encoder.conv_in.conv.weight"][0]
    return {
        "component": "temporal",
        "spatial": {"latent_channels": shapes["encoder.conv_in.conv.weight"][1]},
        "width": width,
        "multipliers": tuple(shapes[first.format(i)][0] // width for i in levels),
        "blocks": _count(shapes, "encoder.block_res_blocks.0.{}.conv1.conv.weight"),
        "temporal": tuple(f"encoder.conv_blocks.{i}.conv.weight" in shapes for i in levels[:-1]),
        "latent_channels": shapes["post_quant_conv.conv.weight"][1],
        "inner_channels": shapes["post_quant_conv.conv.weight"][0],
    }


def _image(shapes: Shapes) -> dict[str, Any]:
    return image_layout.layout(shapes, "diffusers")


def _alone(part: Callable[[Shapes], dict[str, Any]]) -> Callable[[Shapes], dict[str, Any]]:
    """A part has no pieces, and no shift and scale."""
    return lambda shapes: {**part(shapes), "piece": None, "shift": 0.0, "scale": 1.0}


LAYOUTS: Mapping[str, Callable[[Shapes], dict[str, Any]]] = {
    "pipeline": _pipeline,
    "spatial": _alone(_spatial),
    "temporal": _alone(_temporal),
}


def values(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Shift and scale, which the whole holds as tensors; its code divides by its scale."""
    held = {name: tensors[name].double().flatten().tolist() for name in ("shift", "scale") if name in tensors}
    if "scale" in held:
        held["scale"] = [1 / number for number in held["scale"]]
    return {name: tuple(numbers) if tensors[name].ndim else numbers[0] for name, numbers in held.items()}


def constants(spec: VideoAutoencoderSpec, naming: str) -> dict[str, Tensor]:
    """The same tensors from the numbers of a spec: `1 c 1 1 1`, or of no axis where one number stands for all."""
    if naming != "pipeline" or not isinstance(spec.latent, Affine):
        return {}
    shift, scale = (torch.tensor(numbers, dtype=torch.float64) for numbers in (spec.latent.shift, spec.latent.scale))
    held = {"shift": shift, "scale": 1 / scale}
    return {name: (x.reshape(1, -1, 1, 1, 1) if x.ndim else x).float() for name, x in held.items()}


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _count(shapes: Shapes, name: str) -> int:
    """How many numbers from 0 on fill the hole of the name."""
    return sum(1 for _ in takewhile(lambda number: name.format(number) in shapes, count()))


def _told(fields: Fields) -> str:
    if fields["component"] == "spatial":
        return f"spatial part, widths {', '.join(map(str, fields['spatial']['widths']))}"
    part = "" if fields["component"] == "pipeline" else "temporal part, "
    return (
        f"{part}width {fields['width']}, {fields['latent_channels']} latent channels, "
        f"temporal factor {2 ** sum(fields['temporal'])}"
    )


MICRO_FRAMES = Choice(
    "micro_frames",
    "how many frames pass by themselves",
    {"17": {"piece": 17}, "none": {"piece": None}},
    number="piece",
)

FAMILY = Family(
    architecture="open_sora",
    make=open_sora,
    variants=VARIANTS,
    namings=NAMINGS,
    renames=renames,
    layout=layout,
    told=_told,
    forms=lambda fields: ({"at_once": fields["at_once"]}, {"at_once": None}),
    choices=lambda fields: (MICRO_FRAMES,) if fields["component"] == "pipeline" else (),
    config=published_constants,
    values=values,
    constants=constants,
)
