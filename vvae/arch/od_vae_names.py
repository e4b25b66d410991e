"""OD-VAE as its code has it: the options of `CausalVAEModel`, and the names of its tensors.

A causal convolution has a step more in its name than one of frames, and often stands where it sees one frame only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from vvae.arch.od_vae import Attention, Convolution, Half, Time
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.layers.attention import TemporalAttentionSpec
from vvae.layers.causal_resample import CausalDownsample3dSpec
from vvae.layers.conv import FrameConv2dSpec
from vvae.layers.mix import LearnedMixSpec
from vvae.layers.space import SpatialDownsampleSpec, SpatialUpsampleSpec
from vvae.published.table import Rename
from vvae.spec import Spec, one_of

T = TypeVar("T")

Side = Literal["encoder", "decoder"]

CONVOLUTIONS: Mapping[str, Convolution] = MappingProxyType({"Conv2d": "2d", "CausalConv3d": "3d"})
BLOCKS: Mapping[str, Convolution] = MappingProxyType({"ResnetBlock2D": "2d", "ResnetBlock3D": "3d"})
ATTENTIONS: Mapping[str, Attention] = MappingProxyType(
    {"AttnBlock": "2d", "AttnBlock3DFix": "3d", "AttnBlock3D": "misfolded", "TemporalAttnBlock": "time"}
)
SPACE: Mapping[str, Convolution | None] = MappingProxyType(
    {
        "": None,
        "Downsample": "2d",
        "SpatialDownsample2x": "2d",
        "Spatial2x3DDownsample": "3d",
        "Spatial2xTime2x3DDownsample": "3d",
        "Upsample": "2d",
        "SpatialUpsample2x": "2d",
        "Spatial2x3DUpsample": "3d",
        "Spatial2xTime2x3DUpsample": "3d",
    }
)
JOINT = ("Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DUpsample")
"""Classes that change the frame rate with the size."""
TIME: Mapping[str, Time | None] = MappingProxyType(
    {
        "": None,
        "TimeDownsample2x": "linear",
        "TimeDownsampleRes2x": "mixed",
        "TimeDownsampleResAdv2x": "attended",
        "TimeUpsample2x": "linear",
        "TimeUpsampleRes2x": "mixed",
        "TimeUpsampleResAdv2x": "attended",
    }
)
FLAT = ("Conv2d", "AttnBlock", "Downsample", "Upsample")
"""Classes whose weights have no axis of time, where those of other classes that compute the same have one."""
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 128,
        "hidden_size_mult": (1, 2, 4, 4),
        "num_res_blocks": 2,
        "z_channels": 4,
        "embed_dim": 4,
        "use_quant_layer": True,
        "attn_resolutions": (),
        "resolution": 256,
        "q_conv": "CausalConv3d",
        **{
            f"{side}_{what}": value
            for side in ("encoder", "decoder")
            for what, value in (
                ("conv_in", "CausalConv3d"),
                ("conv_out", "CausalConv3d"),
                ("attention", "AttnBlock3D"),
                ("resnet_blocks", ("ResnetBlock3D",) * 4),
                ("mid_resnet", "ResnetBlock3D"),
            )
        },
        "encoder_spatial_downsample": ("SpatialDownsample2x",) * 3 + ("",),
        "encoder_temporal_downsample": ("", "TimeDownsample2x", "TimeDownsample2x", ""),
        "decoder_spatial_upsample": ("",) + ("SpatialUpsample2x",) * 3,
        "decoder_temporal_upsample": ("", "", "TimeUpsample2x", "TimeUpsample2x"),
    }
)
"""The arguments of the constructor, which no release leaves as they are."""


def published_fields(config: Mapping[str, Any], *, release: str = "v1.2.0") -> dict[str, Any]:
    """Our fields for the published constructor's arguments; arguments that it does not know are ignored.

    `release` is a tag of the code, or "main". The tags compute what an encoder does to the size of its last level, and
    throw it away. In v1.0.0 the branch with attention over time has no weight.

    Raises:
        SpecError: a class that cannot stand there.
    """
    given = {**DEFAULTS, **config}
    return {
        "width": given["hidden_size"],
        "multipliers": tuple(given["hidden_size_mult"]),
        "blocks": given["num_res_blocks"],
        "latent_channels": given["embed_dim"],
        "inner_channels": given["z_channels"],
        "moments_conv": given["use_quant_layer"],
        "latent_conv": given["use_quant_layer"],
        **_half(given, "encoder", "down", release),
        **_half(given, "decoder", "up", release),
    }


def _half(given: Mapping[str, Any], side: Side, way: str, release: str) -> dict[str, Any]:
    def option(name: str) -> Any:
        return given[f"{side}_{name}"]

    sizes = [name.removesuffix("_GC") for name in option(f"spatial_{way}sample")]
    space = [_known("spatial resampler", name, SPACE) for name in sizes]
    time = [_known("temporal resampler", name, TIME) for name in option(f"temporal_{way}sample")]
    for level, name in enumerate(sizes):
        if name in JOINT and time[level]:
            raise SpecError(f"level {level} changes its frame rate twice; give one resampler of time", (side,))
        time[level] = "joint" if name in JOINT else time[level]
    if side == "encoder" and release != "main":
        space[-1] = time[-1] = None
    if release == "v1.0.0":
        time = ["linear" if name == "attended" else name for name in time]
    half = Half(
        convs=tuple(_known("residual block", name, BLOCKS) for name in option("resnet_blocks")),
        space=tuple(space),
        conv_in=_known("convolution", option("conv_in"), CONVOLUTIONS),
        middle=_known("residual block", option("mid_resnet"), BLOCKS),
        conv_out=_known("convolution", option("conv_out"), CONVOLUTIONS),
        attention=_attended(given, side, space),
    )
    attend = _known("attention", option("attention"), ATTENTIONS)
    return {side: half, f"{side}_time": tuple(time), f"{side}_attend": attend}


def _attended(given: Mapping[str, Any], side: Side, space: Sequence[Convolution | None]) -> tuple[int, ...]:
    """The levels whose nominal side, changed by 2 wherever the size changes, is one of those listed."""
    levels = range(len(space))
    nominal = given["resolution"] if side == "encoder" else given["resolution"] >> len(space) - 1
    found = []
    for level in levels if side == "encoder" else reversed(levels):
        if nominal in given["attn_resolutions"]:
            found.append(level)
        if space[level]:
            nominal = nominal // 2 if side == "encoder" else nominal * 2
    return tuple(sorted(found))


def _known(what: str, name: str, known: Mapping[str, T]) -> T:
    return one_of(what, name.removesuffix("_GC"), known)  # the same, with activation checkpointing


# --------------------------------------------------------------------------- names


def flat_layers(config: Mapping[str, Any]) -> frozenset[str]:
    """Layers of ours, by path, whose published weights have no axis of time though other classes' would have one."""
    given = {**DEFAULTS, **config}
    coarsest = len(given["hidden_size_mult"]) - 1
    classes = {
        "encoder.moments": given["q_conv"],
        "decoder.latent": given["q_conv"],
        **{f"{side}.attend": given[f"{side}_attention"] for side in ("encoder", "decoder")},
        **{f"encoder.level{i}.down": name for i, name in enumerate(given["encoder_spatial_downsample"])},
        **{f"decoder.level{coarsest - i}.up": name for i, name in enumerate(given["decoder_spatial_upsample"])},
    }
    return frozenset(path for path, name in classes.items() if name in FLAT)


def _flat_as_released(spec: VideoAutoencoderSpec) -> frozenset[str]:
    """Where the releases have 2D convolutions: an encoder that starts with one has them wherever the size changes."""
    levels = spec.encoder.children()
    starts_flat = isinstance(levels["conv_in"], FrameConv2dSpec)
    return frozenset(f"encoder.{name}.down" for name in levels if starts_flat)


def renames(spec: VideoAutoencoderSpec, flat: Collection[str] | None = None) -> tuple[Rename, ...]:
    """The published name of every tensor of an `od_vae` or `od_vae_streaming` spec.

    `flat`: the layers whose published weights have no axis of time, by path, "encoder.attend" for all attentions of the
    encoder; as in the releases if None (see `flat_layers`).
    """
    flat = _flat_as_released(spec) if flat is None else flat
    coarsest = sum(name.startswith("level") for name in spec.encoder.children()) - 1
    return (
        *half_names("encoder.down.{}", "encoder", spec.encoder, range(coarsest + 1), flat),
        *half_names("decoder.up.{}", "decoder", spec.decoder, range(coarsest, -1, -1), flat),
        *conv_names("quant_conv.", "encoder.moments.", frames=True, flat="encoder.moments" in flat),
        *conv_names("post_quant_conv.", "decoder.latent.", frames=True, flat="decoder.latent" in flat),
        # computed by the tags, and thrown away
        Rename(f"encoder.down.{coarsest}.downsample.", None),
        Rename(f"encoder.down.{coarsest}.time_downsample.", None),
        Rename("loss.", None),
    )


def half_names(stack: str, side: str, half: Spec, numbers: Sequence[int], flat: Collection[str]) -> Iterator[Rename]:
    """The encoder or the decoder, whose own levels 0, 1, ... have the published `numbers`."""
    layers = half.children()
    for end in ("conv_in", "conv_out"):
        frames = isinstance(layers[end], FrameConv2dSpec)
        yield from conv_names(f"{side}.{end}.", f"{side}.{end}.", frames=frames, flat=frames)
    yield Rename(f"{side}.norm_out.", f"{side}.norm_out.")
    middle, attend_flat = layers["middle"].children(), f"{side}.attend" in flat
    for j in (0, 1):
        yield from block_names(f"{side}.mid.block_{j + 1}.", f"{side}.middle.block{j}.", middle[f"block{j}"])
    yield from attention_names(f"{side}.mid.attn_1.", f"{side}.middle.attend.", middle["attend"], flat=attend_flat)
    for i, number in enumerate(numbers):
        theirs, ours, level = f"{stack.format(number)}.", f"{side}.level{i}.", layers[f"level{i}"].children()
        for name, layer in level.items():
            if name.startswith("block"):
                yield from block_names(f"{theirs}block.{name[5:]}.", f"{ours}{name}.", layer)
            elif name.startswith("attend"):
                yield from attention_names(f"{theirs}attn.{name[6:]}.", f"{ours}{name}.", layer, flat=attend_flat)
            elif name == "time":
                yield from time_names(f"{theirs}time_{_SAMPLE[side]}.", f"{ours}time.", layer)
            else:
                yield from space_names(f"{theirs}{_SAMPLE[side]}.", f"{ours}{name}.", layer, flat=ours + name in flat)


_SAMPLE = {"encoder": "downsample", "decoder": "upsample"}


def conv_names(published: str, own: str, *, frames: bool, flat: bool) -> Iterator[Rename]:
    """A convolution of single `frames` here or not; `flat`: one of frames there."""
    if flat or not frames:
        yield Rename(published if flat else f"{published}conv.", own)
    else:
        yield Rename(f"{published}conv.weight", f"{own}weight", "view", shape=(0, 0, 1, 0, -1))
        yield Rename(f"{published}conv.bias", f"{own}bias")


def block_names(published: str, own: str, block: Spec) -> Iterator[Rename]:
    layers = block.children()
    frames = isinstance(layers["conv_a"], FrameConv2dSpec)
    for number, letter in (("1", "a"), ("2", "b")):
        yield Rename(f"{published}norm{number}.", f"{own}norm_{letter}.")
        yield from conv_names(f"{published}conv{number}.", f"{own}conv_{letter}.", frames=frames, flat=frames)
    if shortcut := layers.get("shortcut"):
        of_frames = isinstance(shortcut, FrameConv2dSpec)
        name = "nin_shortcut" if isinstance(shortcut, FrameConv2dSpec) and shortcut.kernel == 1 else "conv_shortcut"
        yield from conv_names(f"{published}{name}.", f"{own}shortcut.", frames=of_frames, flat=frames)


def attention_names(published: str, own: str, block: Spec, *, flat: bool = False) -> Iterator[Rename]:
    """Queries, keys and values are one convolution here, three there."""
    step = "" if flat or isinstance(block.children()["attend"], TemporalAttentionSpec) else "conv."
    shape = (0, 0, 1, 1) if flat else (0, 0, 1, 1, 1)
    read = [f"{published}{name}.{step}" for name in "qkv"]
    yield Rename(f"{published}norm.", f"{own}norm.")
    yield Rename(tuple(f"{name}weight" for name in read), f"{own}attend.qkv.weight", "cat", shape=shape)
    yield Rename(tuple(f"{name}bias" for name in read), f"{own}attend.qkv.bias", "cat")
    yield Rename(f"{published}proj_out.{step}weight", f"{own}attend.out.weight", "view", shape=shape)
    yield Rename(f"{published}proj_out.{step}bias", f"{own}attend.out.bias")


def space_names(published: str, own: str, layer: Spec, *, flat: bool = False) -> Iterator[Rename]:
    if isinstance(layer, SpatialDownsampleSpec | SpatialUpsampleSpec):
        yield from conv_names(f"{published}conv.", own, frames=True, flat=flat)
    else:
        yield Rename(f"{published}conv.conv.", own if isinstance(layer, CausalDownsample3dSpec) else f"{own}conv.")


def time_names(published: str, own: str, layer: Spec) -> Iterator[Rename]:
    """Only what is mixed has tensors; where frames become more, they do so before."""
    mix = layer.children().get("mix", layer)
    if not isinstance(mix, LearnedMixSpec):
        return
    place, conv = (own, "conv.") if mix is layer else (f"{own}mix.", "conv.conv.")
    yield Rename(f"{published}mix_factor", f"{place}factor")
    learned = mix.branches["learned"]
    yield from learned_names(published, f"{place}learned.", learned.children(), f"{published}{conv}")


def learned_names(published: str, own: str, layers: Mapping[str, Spec], conv: str) -> Iterator[Rename]:
    if not layers:
        yield Rename(conv, own)
        return
    yield from block_names(f"{published}res.", f"{own}block.", layers["block"])
    yield from attention_names(f"{published}attn.", f"{own}attend.", layers["attend"])
    yield Rename(conv, f"{own}conv.")
    yield Rename(f"{published}norm.", None)  # of those that make more frames; nothing is normed by it
