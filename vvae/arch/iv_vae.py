"""IV-VAE: "Improved Video VAE for Latent Video Diffusion Model", arXiv 2411.06449; code github.com/ali-vilab/iv-vae.

Every map has two halves of channels: the keyframe half is made per frame, the motion half by group causal convolution;
both read all channels. 4x8x8 compression, a lead frame, then groups of four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

from pydantic import NonNegativeInt, PositiveInt, model_validator

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.layers.activation import SiLUSpec
from vvae.layers.blocks import atrous_head, attention_block, residual_block
from vvae.layers.compose import (
    AfterLeadSpec,
    ChainSpec,
    ParallelSpec,
    PerPartSpec,
    ResidualSpec,
    chain,
    parallel,
    per_part,
)
from vvae.layers.conv import FrameConv2dSpec, GroupCausalConv3dSpec
from vvae.layers.keyframe import BetweenKeyframesSpec, KeyframeBranchesSpec
from vvae.layers.lone import LoneFramesSpec
from vvae.layers.norm import ChannelRMSNormSpec
from vvae.layers.space import ChannelInterleaveSpec, SpatialDownsampleSpec, SpatialUpsampleSpec
from vvae.layers.time import TemporalDownsampleSpec, TemporalRepeatSpec, TemporalSubsampleSpec, TemporalUpsampleSpec
from vvae.losses.latent_diffusion import latent_diffusion
from vvae.losses.objective import AdaptiveSpec, ObjectiveSpec
from vvae.losses.patch import Patch3dSpec
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.spec import LayerSpec, Spec, with_variant

Grouping: TypeAlias = Literal["derived", "published"]

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "z4_dim64": {"width": 64, "latent_channels": 4, "scale": 1.3196, "shift": 0.1250},
        "z8_dim64": {"width": 64, "latent_channels": 8, "scale": 1.0940, "shift": -0.0322},
        "z16_dim64": {"width": 64, "latent_channels": 16, "scale": 0.9697, "shift": -0.1553},
        "z16_dim96": {"width": 96, "latent_channels": 16, "scale": 0.7619, "shift": -0.0483},
    }
)
"""The four releases; `width` is the width of one half at the pixels."""

NORM = ChannelRMSNormSpec(parts=2)
ATTENTION = per_part(keyframe=attention_block(), motion=attention_block())


def two_path(width: int, kernel: int = 3, group: int | None = None) -> ParallelSpec:
    """The keyframe half per frame, the motion half group causal; each of `width` channels, both read all channels."""
    motion: LayerSpec = GroupCausalConv3dSpec(channels=width, kernel=kernel, group=group)
    if kernel == 1:
        motion = FrameConv2dSpec(channels=width, kernel=1)
    return parallel(keyframe=FrameConv2dSpec(channels=width, kernel=kernel), motion=motion)


def clip_block(width_in: int, width: int, group: int | None = None) -> ResidualSpec:
    """A residual block of two-path convolutions."""
    shortcut = None if width_in == width else two_path(width, kernel=1)
    return residual_block(two_path(width, group=group), norm=NORM, shortcut=shortcut)


def frame_block(width_in: int, width: int) -> ResidualSpec:
    """A residual block of 2D convolutions over both halves."""
    shortcut = None if width_in == width else FrameConv2dSpec(channels=2 * width, kernel=1)
    return residual_block(FrameConv2dSpec(channels=2 * width), norm=NORM, shortcut=shortcut)


def downsample(width: int, in_time: bool) -> PerPartSpec:
    """Half the size; in time the keyframe half keeps every second frame, the motion half mixes pairs."""
    space = SpatialDownsampleSpec(channels=width)
    if not in_time:
        return per_part(keyframe=chain(space=space), motion=chain(space=space))
    keep = AfterLeadSpec(layers={"keep": TemporalSubsampleSpec()})
    mix = AfterLeadSpec(layers={"mix": TemporalDownsampleSpec(channels=width)})
    # frames are dropped before the convolution per frame, which gives the same as after it
    return per_part(keyframe=chain(time=keep, space=space), motion=chain(space=space, time=mix))


def upsample(width: int, in_time: bool) -> PerPartSpec:
    """Twice the size at half the width; in time the keyframe half repeats frames, the motion half makes two of one."""
    space = SpatialUpsampleSpec(channels=width // 2)
    if not in_time:
        return per_part(keyframe=chain(space=space), motion=chain(space=space))
    repeat = AfterLeadSpec(layers={"repeat": TemporalRepeatSpec()})
    make = AfterLeadSpec(layers={"make": TemporalUpsampleSpec(channels=width)})
    # frames are repeated after the convolution per frame, which gives the same as before it
    return per_part(keyframe=chain(space=space, time=repeat), motion=chain(time=make, space=space))


class IVVAEFields(Spec):
    """What an IV-VAE is made of.

    `multipliers` times `width` is the width of a half at each level; between levels the size halves, and the frame
    rate where `temporal` says so. `encoder_attention` and `decoder_attention` name levels (each counted in its own
    order) with an attention after every block. `grouping` "derived": groups follow from the temporal factors;
    "published": groups of 4, of 2 next to the smallest level, lone frames in the decoder without a temporal factor.
    """

    name: str | None = None
    width: PositiveInt = 64
    latent_channels: PositiveInt = 4
    shift: float = 0.0
    scale: float = 1.0
    multipliers: tuple[PositiveInt, ...] = (1, 2, 4, 4)
    blocks: PositiveInt = 2
    temporal: tuple[bool, ...] = (False, True, True)
    encoder_attention: tuple[NonNegativeInt, ...] = ()
    decoder_attention: tuple[NonNegativeInt, ...] = ()
    grouping: Grouping = "derived"

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels = len(self.multipliers)
        if self.latent_channels % 2:
            raise SpecError(
                f"latent_channels {self.latent_channels} is odd; both halves have as many, take an even one"
            )
        if not levels or len(self.temporal) != levels - 1:
            raise SpecError(f"{levels} multipliers need {max(levels - 1, 0)} temporal, found {len(self.temporal)}")
        if any(level >= levels for level in (*self.encoder_attention, *self.decoder_attention)):
            raise SpecError(f"attention at a level that is not there; give levels from 0 to {levels - 1}")
        if any(self.width * m < 2 for m in self.multipliers[1:]):
            raise SpecError(f"width {self.width} is halved between levels of the decoder; it must be at least 2 there")
        return self


def iv_vae(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of an IV-VAE: a released variant (`iv_vae.variants`), or any other by its fields, which override it.

    The fields are those of `IVVAEFields`.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = IVVAEFields(**with_variant(variant, VARIANTS, fields))
    widths, z = [given.width * m for m in given.multipliers], given.latent_channels
    published = given.grouping == "published"
    lone = published and not any(given.temporal)  # the published decoder then takes every latent for a lone frame
    encoder = _encoder(widths, z, given.blocks, given.temporal, given.encoder_attention, published)
    decoder = _decoder(widths[::-1], given.blocks, given.temporal[::-1], given.decoder_attention, lone)
    return VideoAutoencoderSpec(
        name=given.name or f"iv_vae_{variant or f'z{z}_dim{given.width}'}",
        encoder=ChainSpec(layers=encoder),
        decoder=ChainSpec(layers={"latent": two_path(z // 2, kernel=1), **decoder}),
        framing=Framing(lead=1, group=4 if published else 2 ** sum(given.temporal)),
        latent=Affine(shift=given.shift, scale=given.scale),
    )


iv_vae.variants = VARIANTS  # type: ignore[attr-defined]


def _encoder(
    widths: Sequence[int], z: int, blocks: int, temporal: Sequence[bool], attention: Sequence[int], published: bool
) -> dict[str, LayerSpec]:
    levels = len(widths)
    layers: dict[str, LayerSpec] = {"conv_in": two_path(widths[0], group=4 if published else None)}
    width_in = widths[0]
    for i, width in enumerate(widths):
        group = (2 if i == levels - 2 else 4) if published else None
        level: dict[str, LayerSpec] = {}
        for j in range(blocks):
            level[f"block{j}"] = clip_block(width_in, width, group) if i < levels - 1 else frame_block(width_in, width)
            width_in = width
            if i in attention:
                level[f"attend{j}"] = ATTENTION
            if i == levels - 1:
                level[f"attend_last{j}"] = ATTENTION
        if i < levels - 1:
            level["down"] = downsample(width, temporal[i])
        if i == levels - 2:
            level["attend"] = ATTENTION
        layers[f"level{i}"] = ChainSpec(layers=level)
    return {
        **layers,
        "middle": _middle(widths[-1]),
        "norm_out": NORM,
        "act_out": SiLUSpec(),
        "head": atrous_head(2 * z),
        "moments": chain(halves=two_path(z, kernel=1), order=ChannelInterleaveSpec(outer=2, inner=2)),
    }


def _decoder(
    widths: Sequence[int], blocks: int, temporal: Sequence[bool], attention: Sequence[int], lone: bool
) -> dict[str, LayerSpec]:
    layers: dict[str, LayerSpec] = {"conv_in": FrameConv2dSpec(channels=2 * widths[0]), "middle": _middle(widths[0])}
    width_in = widths[0]
    for i, width in enumerate(widths):
        level: dict[str, LayerSpec] = {}
        for j in range(blocks + 1):
            level[f"block{j}"] = clip_block(width_in, width) if i else frame_block(width_in, width)
            width_in = width
            if i in attention:
                level[f"attend{j}"] = ATTENTION
            if i == 0:
                level[f"attend_last{j}"] = ATTENTION
        if i < len(widths) - 1:
            level["up"] = upsample(width, temporal[i])
            width_in = width // 2
        layers[f"level{i}"] = LoneFramesSpec(layers=level) if lone else ChainSpec(layers=level)
    return {**layers, "norm_out": NORM, "act_out": SiLUSpec(), "head": _pictures(any(temporal), lone)}


def _pictures(grouped: bool, lone: bool) -> LayerSpec:
    """Keyframes from a head per frame, the frames between them (if there are any) from one that sees their group."""
    keyframe = FrameConv2dSpec(channels=3)
    if lone:
        conv = LoneFramesSpec(layers={"conv": GroupCausalConv3dSpec(channels=3)})
        return KeyframeBranchesSpec(keyframe=keyframe, between=chain(frames=BetweenKeyframesSpec(), lone=conv))
    if grouped:
        return KeyframeBranchesSpec(keyframe=keyframe, between=GroupCausalConv3dSpec(channels=3, skip=1))
    return chain(keyframe=keyframe)


def _middle(width: int) -> ChainSpec:
    return chain(block0=frame_block(width, width), attend=ATTENTION, block1=frame_block(width, width))


# --------------------------------------------------------------------------- published names


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for the published constructor's arguments (`VAutoencoder3d`).

    Its decoder counts attention scales from 1/2**(levels-2) at its first level and doubles them.
    """
    levels, scales = len(config["dim_mult"]), config["attn_scales"]
    return {
        "width": config["dim"],
        "latent_channels": config["z_dim"] // 2 * 2,
        "multipliers": tuple(config["dim_mult"]),
        "blocks": config["num_res_blocks"],
        "temporal": tuple(config["temperal_downsample"]),
        "encoder_attention": tuple(i for i in range(levels) if 2.0**-i in scales),
        "decoder_attention": tuple(i for i in range(levels) if 2.0 ** (i - levels + 2) in scales),
        "scale": float(config["scale_factor"]),
        "shift": float(config["shift_factor"]),
        "grouping": "published",
    }


def renames(spec: VideoAutoencoderSpec) -> tuple[Rename, ...]:
    """The published name of every tensor of an `iv_vae` spec."""
    return (
        *conv_names("encoder.conv1.", "encoder.conv_in."),
        *_numbered("encoder.downsamples", "encoder", spec.encoder),
        *_middle_names("encoder"),
        Rename("encoder.head.0.gamma", "encoder.norm_out.weight", "view", shape=(0, 1, 1, 1)),
        Rename("encoder.head.2.PAC_0.conv.", "encoder.head.branches.point."),
        Rename("encoder.head.2.PAC_{d}.conv.weight", "encoder.head.branches.dilated{d}.weight"),
        Rename("encoder.head.2.PAC_{d}.conv.bias", "encoder.head.branches.dilated{d}.bias"),
        Rename("encoder.head.2.PAC_conv.conv.", "encoder.head.mix."),
        *pointwise_names("conv1.", "encoder.moments.halves."),
        *pointwise_names("conv2.", "decoder.latent."),
        Rename("decoder.conv1.conv.", "decoder.conv_in."),
        *_middle_names("decoder"),
        *_numbered("decoder.upsamples", "decoder", spec.decoder),
        Rename("decoder.head.0.gamma", "decoder.norm_out.weight", "view", shape=(0, 1, 1, 1)),
        Rename("decoder.head.2.conv_2d.", "decoder.head.keyframe."),
        Rename("decoder.head.2.conv_3d.", "decoder.head.between.lone.conv."),
        Rename("decoder.head.2.conv_3d.", "decoder.head.between."),
        Rename("decoder.head.2.conv_3d.", None),  # without frames between keyframes its pictures are never shown
    )


def _middle_names(part: str) -> Iterator[Rename]:
    yield from block_names(f"{part}.middle.0.", f"{part}.middle.block0.")
    yield from attention_names(f"{part}.middle.1.", f"{part}.middle.attend.")
    yield from block_names(f"{part}.middle.2.", f"{part}.middle.block1.")


def _numbered(published: str, part: str, stack: LayerSpec) -> Iterator[Rename]:
    """The published code numbers blocks, attentions and resamplers through all levels."""
    levels = [(name, layer) for name, layer in stack.children().items() if name.startswith("level")]
    places = [f"{part}.{level}.{name}" for level, layers in levels for name in layers.children()]
    for number, own in enumerate(places):
        kind = own.rpartition(".")[2]
        of = (
            block_names
            if kind.startswith("block")
            else attention_names
            if kind.startswith("attend")
            else resample_names
        )
        yield from of(f"{published}.{number}.", f"{own}.")


def block_names(published: str, own: str) -> Iterator[Rename]:
    for norm, conv, letter in ((0, 2, "a"), (3, 6, "b")):
        yield Rename(f"{published}residual.{norm}.gamma", f"{own}norm_{letter}.weight", "view", shape=(0, 1, 1, 1))
        yield from conv_names(f"{published}residual.{conv}.", f"{own}conv_{letter}.")
    yield from pointwise_names(f"{published}shortcut.", f"{own}shortcut.")
    yield from conv2d_names(f"{published}shortcut.conv.", f"{own}shortcut.")


def attention_names(published: str, own: str) -> Iterator[Rename]:
    for theirs, ours in (("Attention_2d", "keyframe"), ("Attention_3d", "motion")):
        yield Rename(f"{published}{theirs}.norm.gamma", f"{own}{ours}.norm.weight", "view", shape=(0, 1, 1))
        yield Rename(f"{published}{theirs}.to_qkv.", f"{own}{ours}.attend.qkv.")
        yield Rename(f"{published}{theirs}.proj.", f"{own}{ours}.attend.out.")


def resample_names(published: str, own: str) -> Iterator[Rename]:
    yield Rename(f"{published}resample_2d.1.", f"{own}keyframe.space.")
    yield Rename(f"{published}resample_3d.1.", f"{own}motion.space.")
    step = "mix" if own.endswith("down.") else "make"
    yield Rename(f"{published}time_conv.", f"{own}motion.time.{step}.")


def conv_names(published: str, own: str) -> Iterator[Rename]:
    """A two-path convolution, or one convolution over both halves."""
    yield Rename(f"{published}conv_2d.", f"{own}keyframe.")
    yield Rename(f"{published}conv_3d.", f"{own}motion.")
    yield from conv2d_names(f"{published}conv.", own)


def conv2d_names(published: str, own: str) -> Iterator[Rename]:
    """One 2D convolution over both halves."""
    for tensor in ("weight", "bias"):
        yield Rename(f"{published}{tensor}", f"{own}{tensor}")


def pointwise_names(published: str, own: str) -> Iterator[Rename]:
    """A two-path convolution with kernel 1: the motion half is a 3D convolution in the published code."""
    yield Rename(f"{published}conv_2d.", f"{own}keyframe.")
    yield Rename(f"{published}conv_3d.weight", f"{own}motion.weight", "view", shape=(0, 0, 1, 1, 1))
    yield Rename(f"{published}conv_3d.bias", f"{own}motion.bias")


# --------------------------------------------------------------------------- what training minimises

OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "before_game": latent_diffusion(),
        "last": latent_diffusion(
            Patch3dSpec(), start=0, adaptive=AdaptiveSpec(parameter="decoder.head.between.weight")
        ),
    }
)
"""As far as known: L1, KL and LPIPS, and in the last phase of 100,000 steps a game against a discriminator over clips.
Neither weights nor reductions nor the discriminator are published; latent diffusion's and OD-VAE's stand here."""

iv_vae.objectives = OBJECTIVES  # type: ignore[attr-defined]
