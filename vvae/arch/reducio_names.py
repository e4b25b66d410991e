"""Reducio-VAE as published: the options of its code as fields of `reducio`, and the published name of every tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from vvae.arch.reducio import Fusion
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.layers.space import SpatialDownsampleSpec
from vvae.published.table import Rename
from vvae.spec import Spec, nearest

FUSIONS: Mapping[str | None, Fusion | None] = MappingProxyType(
    {"attn": "attention", "linear": "linear", "add": "add", "add+attn": "add+attention", None: None}
)
POSITIONS: Mapping[str, str] = MappingProxyType({"t": "frame", "thw": "pixel"})


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for a published configuration: `ddconfig`, `ddconfig_2d`, `embed_dim` of `ReducioVAE`.

    Raises:
        SpecError: a fusion that the code does not know.
    """
    clip, image = config["ddconfig"], config["ddconfig_2d"]
    levels, content_levels = len(clip["ch_mult"]), len(image["ch_mult"])
    in_space = clip.get("f_s", levels - 1)
    early = {"content_channels": 2 * image["z_channels"]} if image.get("out_z") else {}
    fused = config.get("enable_2d", True) and clip.get("enable_fuse", True)
    kind = clip["fuse_type"]
    return {
        "channels": clip["in_channels"],
        "widths": tuple(clip["ch"] * m for m in clip["ch_mult"]),
        "decoder_widths": None if clip["ch_in"] == clip["ch"] else tuple(clip["ch_in"] * m for m in clip["ch_mult"]),
        "stem": clip["ch"],
        "blocks": clip["num_res_blocks"],
        "latent_channels": config["embed_dim"],
        "inner_channels": clip["z_channels"],
        "time_halvings": clip["f_t"],
        "space_halvings": in_space,
        "late": not clip["upsample_first"],
        "frames": clip["temp_res"],
        "content_widths": tuple(image["ch"] * m for m in image["ch_mult"]),
        "content_stem": image["ch"],
        "content_blocks": image["num_res_blocks"],
        **early,
        "fuse": tuple(stage if fused and stage >= 0 else None for stage in clip["ch_fuse"]),
        "fuse_by": _fusion_of(kind) if isinstance(kind, str) else tuple(map(_fusion_of, kind)),
        "fuse_middle": _published_middle(clip, in_space != image.get("fs", content_levels - 1)) if fused else None,
        "positions": POSITIONS.get(clip["pos_embed_mode"]),
        "side": clip["resolution"],
        "window": _pair(clip.get("window_size")),
        "content_norm": "channel" if clip.get("norm_type", "layer") == "layer" else "group",
        "gate": float(clip.get("init_values", 0)) if clip.get("is_tanh_gating") else None,
        "fusion_shortcut": clip.get("use_conv_shortcut", False),
        "resample_conv": clip.get("resamp_with_conv", True),
        "content_resample_conv": image.get("resamp_with_conv", True),
        "unshuffle": clip.get("upsample_mode") == "unshuffle",
        "causal": config.get("mode") == "causal",
        "tanh_out": clip.get("tanh_out", False),
    }


def _published_middle(clip: Mapping[str, Any], other_size: bool) -> Fusion | None:
    """Where clip and content have another size in the middle it is attention, whatever the configuration names."""
    if not clip["fuse_mid"]:
        return None
    return "attention" if other_size else _fusion_of(clip.get("fuse_mid_type"))


def _fusion_of(name: str | None) -> Fusion | None:
    if name not in FUSIONS:
        raise SpecError(f"fuse_type {nearest(str(name), {str(known): known for known in FUSIONS})}")
    return FUSIONS[name]


def _pair(window: Any) -> Any:
    return tuple(window) if isinstance(window, list) else window


# --------------------------------------------------------------------------- published names


def renames(spec: VideoAutoencoderSpec) -> tuple[Rename, ...]:
    """The published name of every tensor of a `reducio` spec."""
    return (
        *_network_names("encoder_3d", "encoder", clip=True),
        *_level_names(spec.encoder, "encoder_3d.down", "encoder", finest_first=True),
        *_network_names("decoder", "decoder", clip=True),
        *_level_names(spec.decoder, "decoder.up", "decoder", finest_first=False),
        *_fusion_names("decoder.mid.fuse", "decoder.middle.fuse", _fusion_in(spec.decoder, "middle")),
        *_fusion_names("decoder.mid.fuse", "decoder.fuse", spec.decoder.children().get("fuse")),
        *_point_names("quant_conv", "encoder.moments", clip=True),
        *_point_names("post_quant_conv", "decoder.latent", clip=True),
        *_content_names(spec),
        Rename("*.attn_1.attn_mask", None),
        Rename("*.norm.num_batches_tracked", None),
    )


def _fusion_in(network: Spec, level: str) -> Spec | None:
    return network.children()[level].children().get("fuse")


def _network_names(published: str, own: str, *, clip: bool) -> Iterator[Rename]:
    """What stands around the levels."""
    for name in ("conv_in", "norm_out", "conv_out"):
        yield Rename(f"{published}.{name}.", f"{own}.{name}.")
    yield from _middle_names(f"{published}.mid.", f"{own}.middle.", clip=clip)


def _middle_names(published: str, own: str, *, clip: bool) -> Iterator[Rename]:
    for j in (0, 1):
        yield from block_names(f"{published}block_{j + 1}.", f"{own}block{j}.", clip=clip)
    yield from attention_names(f"{published}attn_1.", f"{own}attend.", clip=clip)


def _level_names(network: Spec, published: str, own: str, *, finest_first: bool) -> Iterator[Rename]:
    levels = {name: level for name, level in network.children().items() if name.startswith("level")}
    for i, (name, level) in enumerate(levels.items()):
        there, here = f"{published}.{i if finest_first else len(levels) - 1 - i}.", f"{own}.{name}."
        for block_there, block_here in (("block", "block"), ("block_1", "before"), ("block_2", "after")):
            yield from block_names(f"{there}{block_there}.{{j}}.", f"{here}{block_here}{{j}}.", clip=True)
        yield from _fusion_names(f"{there}fuse", f"{here}fuse", level.children().get("fuse"))
        in_space = isinstance(level.children().get("down"), SpatialDownsampleSpec)
        yield from down_names(f"{there}downsample.", f"{here}down.", in_space=in_space)
        yield from up_names(f"{there}upsample.", f"{here}up.")


def down_names(published: str, own: str, *, in_space: bool) -> Iterator[Rename]:
    """in_space: a convolution of frames, there of clips."""
    if in_space:
        yield Rename(f"{published}conv.weight", f"{own}weight", "view", shape=(0, 0, 1, -1, 3))
    yield Rename(f"{published}conv.", own)


def up_names(published: str, own: str) -> Iterator[Rename]:
    """Repeated cells and their convolution are one layer, or two."""
    yield Rename(f"{published}conv.", f"{own}conv.")
    yield Rename(f"{published}conv.", own)


def _point_names(published: str, own: str, *, clip: bool) -> Iterator[Rename]:
    """A pointwise convolution of frames, there of clips."""
    if clip:
        yield Rename(f"{published}.weight", f"{own}.weight", "view", shape=(0, 0, 1, 1, 1))
    yield Rename(f"{published}.", f"{own}.")


def block_names(published: str, own: str, *, clip: bool) -> Iterator[Rename]:
    for number, letter in (("1", "a"), ("2", "b")):
        yield Rename(f"{published}norm{number}.", f"{own}norm_{letter}.")
        yield Rename(f"{published}conv{number}.", f"{own}conv_{letter}.")
    yield from _point_names(f"{published}nin_shortcut", f"{own}shortcut", clip=clip)


def attention_names(published: str, own: str, *, clip: bool) -> Iterator[Rename]:
    """Queries, keys and values are one convolution here, three there."""
    shape = (0, 0, 1, 1, 1) if clip else (0, 0, 1, 1)
    yield Rename(f"{published}norm.", f"{own}norm.")
    names = tuple(f"{published}{name}" for name in ("q", "k", "v"))
    yield Rename(tuple(f"{name}.weight" for name in names), f"{own}attend.qkv.weight", "cat", shape=shape)
    yield Rename(tuple(f"{name}.bias" for name in names), f"{own}attend.qkv.bias", "cat")
    yield Rename(f"{published}proj_out.weight", f"{own}attend.out.weight", "view", shape=shape)
    yield Rename(f"{published}proj_out.bias", f"{own}attend.out.bias")


def _fusion_names(published: str, own: str, layers: Spec | None) -> Iterator[Rename]:
    """What is fused first has the number 0."""
    if layers is None:
        return
    kinds = [name for name in layers.children() if name != "positions"]
    makers = {"attend": content_attention_names, "add": sum_names, "linear": mix_names}
    for k, kind in enumerate(kinds):
        yield from makers[kind](f"{published}.{k}.", f"{own}.")


def content_attention_names(published: str, own: str) -> Iterator[Rename]:
    yield Rename(f"{published}pos_embed", f"{own}positions.table")
    yield Rename(f"{published}norm.", f"{own}attend.norm.")
    yield from look_names(f"{published}attn.", f"{own}attend.attend.")
    yield Rename(f"{published}gamma", f"{own}attend.gate.weight")
    yield Rename(f"{published}conv_shortcut.", f"{own}attend.shortcut.")


def look_names(published: str, own: str) -> Iterator[Rename]:
    for there, here in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "out")):
        yield Rename(f"{published}{there}.", f"{own}{here}.")


def sum_names(published: str, own: str) -> Iterator[Rename]:
    yield Rename(f"{published}temp_embed", f"{own}add.sum.table")
    yield Rename(f"{published}conv_context.", f"{own}add.sum.conv.")
    for name in ("conv", "norm"):
        yield Rename(f"{published}{name}.", f"{own}add.{name}.")


def mix_names(published: str, own: str) -> Iterator[Rename]:
    yield Rename(f"{published}conv_context.", f"{own}linear.mix.conv.")
    yield Rename(f"{published}conv.weight", f"{own}linear.mix.weight", "view", shape=(0, 0, 1, 1, 1))
    yield Rename(f"{published}conv.bias", f"{own}linear.mix.bias")
    yield Rename(f"{published}norm.", f"{own}linear.norm.")


def _content_names(spec: VideoAutoencoderSpec) -> Iterator[Rename]:
    """The image encoder; what of it nothing reads, and fusion without content, are extras."""
    if spec.content is None:
        for unused in ("encoder_2d.", "decoder.mid.fuse.", "decoder.up.{i}.fuse."):
            yield Rename(unused, None)
        return
    names = list(spec.content.stages)
    built = max(names.index(name) for name in spec.decoder.reads()) + 1
    for i, name in enumerate(names[:-1]):
        own = f"content.{name}." if i < built else None
        yield from _stage_names(i, own)
    yield Rename("encoder_2d.conv_in.", "content.level0.conv_in.")
    last = f"content.{names[-1]}."
    if built == len(names):
        yield from _middle_names("encoder_2d.mid.", last, clip=False)
        for end in ("norm_out", "conv_out"):
            yield Rename(f"encoder_2d.{end}.", f"{last}{end}.")
    if built < len(names) or names[-1] == "middle":
        for unused in ("mid.block_2." if built == len(names) else "mid.", "norm_out.", "conv_out."):
            yield Rename(f"encoder_2d.{unused}", None)


def _stage_names(i: int, own: str | None) -> Iterator[Rename]:
    """A level of the image encoder, and the downsampling in front of it."""
    if own is None:
        yield Rename(f"encoder_2d.down.{i}.block.", None)
        yield Rename(f"encoder_2d.down.{i - 1}.downsample.", None)
        return
    yield from block_names(f"encoder_2d.down.{i}.block.{{j}}.", f"{own}block{{j}}.", clip=False)
    yield Rename(f"encoder_2d.down.{i - 1}.downsample.conv.", f"{own}down.")
