"""The fields of an OD-VAE from the tensors of its released checkpoint."""

from __future__ import annotations

from itertools import count, product, takewhile
from typing import Any

from vvae.arch.od_vae import VARIANTS, Convolution, Half, Time, od_vae
from vvae.arch.od_vae_names import Side, published_fields, renames
from vvae.models.family import Choice, Config, Family, Fields, Shapes

SIDES: tuple[tuple[Side, str, str], ...] = (
    ("encoder", "encoder.down.{}", "downsample"),
    ("decoder", "decoder.up.{}", "upsample"),
)


def layout(shapes: Shapes) -> dict[str, Any]:
    """The fields of an OD-VAE with these published tensors. Errors: KeyError and the like where it is none.

    No tensor tells groups, whether attention is that of v1.0, and at which levels the frame rate changes unless a
    learned number mixes it. What the encoder does behind its last level is thrown away.
    """
    first = shapes[_conv(shapes, "encoder.conv_in")]
    levels = range(_count(shapes, "encoder.down.{}.block.0.norm1.weight"))
    inner = shapes[_conv(shapes, "decoder.conv_in")][1]
    convs_around = "quant_conv.conv.weight" in shapes
    fields: dict[str, Any] = {
        "channels": first[1],
        "width": first[0],
        "multipliers": tuple(shapes[f"encoder.down.{i}.block.0.norm2.weight"][0] // first[0] for i in levels),
        "blocks": _count(shapes, "encoder.down.0.block.{}.norm1.weight"),
        "latent_channels": shapes["quant_conv.conv.weight"][0] // 2 if convs_around else inner,
        "inner_channels": inner,
        "moments_conv": convs_around,
        "latent_conv": convs_around,
    }
    for side, stack, resampler in SIDES:
        fields.update(_half(shapes, side, [stack.format(i) for i in levels], resampler))
    return fields


def _half(shapes: Shapes, side: Side, levels: list[str], resampler: str) -> dict[str, Any]:
    space = [_space(shapes, f"{level}.{resampler}.conv") for level in levels]
    time = [_time(shapes, f"{level}.time_{resampler}") for level in levels]
    if side == "encoder":
        space[-1] = time[-1] = None
    half = Half(
        convs=tuple(_of_conv(shapes, f"{level}.block.0.conv1") for level in levels),
        space=tuple(space),
        conv_in=_of_conv(shapes, f"{side}.conv_in"),
        middle=_of_conv(shapes, f"{side}.mid.block_1.conv1"),
        conv_out=_of_conv(shapes, f"{side}.conv_out"),
        attention=tuple(i for i, level in enumerate(levels) if f"{level}.attn.0.norm.weight" in shapes),
    )
    query = shapes.get(f"{side}.mid.attn_1.q.weight")
    attend = {} if query is None else {f"{side}_attend": "2d" if len(query) == 4 else "time"}
    return {side: half, **attend, **({f"{side}_time": tuple(time)} if any(time) else {})}


def _conv(shapes: Shapes, place: str) -> str:
    """The name of the weight of a convolution; a causal one has a step more."""
    return f"{place}.weight" if f"{place}.weight" in shapes else f"{place}.conv.weight"


def _of_conv(shapes: Shapes, place: str) -> Convolution:
    return "2d" if len(shapes[_conv(shapes, place)]) == 4 else "3d"


def _space(shapes: Shapes, place: str) -> Convolution | None:
    shape = shapes.get(_conv(shapes, place))
    return None if shape is None else "2d" if len(shape) == 4 or shape[2] == 1 else "3d"


def _time(shapes: Shapes, place: str) -> Time | None:
    if f"{place}.mix_factor" not in shapes:
        return None
    return "attended" if f"{place}.res.norm1.weight" in shapes else "mixed"


def _count(shapes: Shapes, name: str) -> int:
    """How many numbers from 0 on fill the hole of the name."""
    return sum(1 for _ in takewhile(lambda number: name.format(number) in shapes, count()))


# --------------------------------------------------------------------------- what no tensor tells


def _forms(fields: Fields) -> tuple[Fields, ...]:
    """Of what is open: attention as in v1.0 or not, and the frame rate; with 3D convolutions that change the size."""
    attends = [f"{side}_attend" for side, _, _ in SIDES if f"{side}_attend" not in fields]
    times = list(_rates(fields).options.values()) if _rate_is_open(fields) else [_joint(fields)]
    return tuple(
        {**{name: value for name, value in time.items() if name not in fields}, **dict.fromkeys(attends, attend)}
        for time, attend in product(times, ("3d", "misfolded"))
    )


def _joint(fields: Fields) -> dict[str, tuple[Time | None, ...]]:
    halves = {side: fields[side].space for side, _, _ in SIDES}
    return {f"{side}_time": tuple("joint" if of == "3d" else None for of in space) for side, space in halves.items()}


def _rate_is_open(fields: Fields) -> bool:
    """Whether nothing in space or time could change the frame rate but what has no tensors."""
    return not any(f"{side}_time" in fields or "3d" in fields[side].space for side, _, _ in SIDES)


def _rates(fields: Fields) -> Choice:
    levels = len(fields["multipliers"])
    decoder = _linear(levels, (levels - 2, levels - 1))
    options = {
        name: {"encoder_time": _linear(levels, at), "decoder_time": decoder}
        for name, at in (("0,1", (0, 1)), ("1,2", (1, 2)))
    }
    about = "at which levels of the encoder the frame rate halves (v1.0: 0,1; its code unless told otherwise: 1,2)"
    return Choice("levels", about, options)


def _linear(levels: int, at: tuple[int, ...]) -> tuple[Time | None, ...]:
    return tuple("linear" if level in at else None for level in range(levels))


def _stated(config: Config) -> Fields:
    """What a config.json says of all that."""
    said = {}
    for side, _, resampler in SIDES:
        if f"{side}_temporal_{resampler}" in config:
            said[f"{side}_time"] = published_fields(config)[f"{side}_time"]
        if f"{side}_attention" in config:
            said[f"{side}_attend"] = published_fields(config)[f"{side}_attend"]
    return said


def _told(fields: Fields) -> str:
    flat = {side: fields[side].convs.count("2d") for side, _, _ in SIDES}
    where = f"2D at {flat['encoder']} levels of the encoder and {flat['decoder']} of the decoder"
    return f"width {fields['width']}, {fields['latent_channels']} latent channels, {where}"


FAMILY = Family(
    architecture="od_vae",
    make=od_vae,
    variants=VARIANTS,
    namings=("published",),
    renames=lambda spec, naming: renames(spec),
    layout=lambda shapes, naming: layout(shapes),
    told=_told,
    forms=_forms,
    choices=lambda fields: (_rates(fields),) if _rate_is_open(fields) else (),
    config=_stated,
)
