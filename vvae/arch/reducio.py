"""Reducio-VAE: "REDUCIO! Generating 1K Video within 16 Seconds using Extremely Compressed Motion Latents", 2411.13552.

A clip of 16 frames is compressed 4 x 32 x 32 (or 2 x 32 x 32). One frame of it, the content image, is kept beside: an
image encoder makes features of it, and the decoder looks at them. Norms and the attention in the middle of encoder and
decoder span the clip. Longer clips are pieces of 16 by themselves. The latents are normed over the clip, without a way
back. Code: github.com/microsoft/Reducio-VAE, `ldm/models/reducio_vae.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.content import ContentSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import SiLUSpec, TanhSpec
from vvae.layers.attention import ClipAttentionSpec, FrameAttentionSpec
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.compose import ChainSpec, ResidualSpec, chain
from vvae.layers.content import ContentAttentionSpec, TimePositionsSpec, WindowedContentAttentionSpec, WithContentSpec
from vvae.layers.conv import CausalConv3dSpec, FrameConv2dSpec
from vvae.layers.conv3d import Conv3dSpec
from vvae.layers.norm import ChannelLayerNormSpec, ClipGroupNormSpec, FrameGroupNormSpec
from vvae.layers.resample3d import Average3dSpec, Downsample3dSpec, Upsample3dSpec
from vvae.layers.space import DepthToSpaceSpec, SpatialAverageSpec, SpatialDownsampleSpec, SpatialRepeatSpec
from vvae.layers.time import ChannelToTimeSpec, TemporalRepeatSpec
from vvae.losses.latent_diffusion import latent_diffusion
from vvae.losses.objective import ObjectiveSpec
from vvae.losses.patch import PatchConvsSpec, Three, patch_gan
from vvae.losses.term_specs import NLLSpec, OutlierSpec
from vvae.published.legacy.fusion import (
    ChannelGateSpec,
    ClipPositionsSpec,
    ContentMixSpec,
    ContentSumSpec,
    StoredNormSpec,
)
from vvae.published.legacy.reducio import EarlyDownsample3dSpec, SkipFramesSpec
from vvae.scaling import ClipNorm
from vvae.spec import LayerSpec, Spec, with_variant
from vvae.tiling.rules import ContentTiles, Tiles, TilingRule, extended

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"ft4": {}, "ft2": {"time_halvings": 1}})
"""The released checkpoints, by how many times fewer frames there are in time; both have attention at levels 2 and 3."""

LIMITS = (-30.0, 20.0)
HEAD = 64  # channels of a head that looks at the content
SILU = SiLUSpec()
Fusion: TypeAlias = Literal["attention", "linear", "add", "add+attention"]


class ReducioVAEFields(Spec):
    """What a Reducio-VAE is made of.

    `widths` are the channels of the levels, the finest first, `decoder_widths` those of the decoder where they differ,
    `stem` the width that the encoder starts with (that of the finest level if None). Each level of the encoder has
    `blocks` residual blocks, of the decoder twice as many. The coarsest of the levels end with another size: frames are
    halved `time_halvings` times, rows and columns `space_halvings` times (between all levels if None). In the decoder
    the level that is as coarse doubles them; where it is `late`, the next finer one does.

    `frames` is the length of a clip, or of a piece of one. `content_widths`, `content_stem` and `content_blocks` are
    those of the image encoder; with `content_channels` it ends with as many, which are fused with the latents.
    `fuse` names for each level, the finest first, the stage of the image encoder that is fused there (the one behind
    its levels is the middle), `fuse_by` how (once for all levels, or for each); `fuse_middle` is the fusion in the
    middle, or with the latents.
    `positions`: of the clip in attention to the content; by frame, or by pixel of a clip of `side` x `side`. `window`:
    content attention is in windows of that size where both sides are larger.

    Of no release are: linear and added fusion, `content_norm` by groups, a `gate` behind the attention (the number that
    it starts with), `fusion_shortcut` (a convolution), resampling without convolutions (`resample_conv`,
    `content_resample_conv`), `unshuffle` (channels become frames and pixels), `causal` convolutions (those of the
    encoder and of the decoder's middle, and those that upsample), `tanh_out`.
    """

    name: str | None = None
    channels: PositiveInt = 3
    widths: tuple[PositiveInt, ...] = Field((128, 256, 256, 512, 512, 512), min_length=1)
    decoder_widths: tuple[PositiveInt, ...] | None = None
    stem: PositiveInt | None = None
    blocks: PositiveInt = 2
    groups: PositiveInt = 32
    heads: PositiveInt = 8
    latent_channels: PositiveInt = 16
    inner_channels: PositiveInt | None = None
    time_halvings: NonNegativeInt = 2
    space_halvings: NonNegativeInt | None = None
    late: bool = False
    frames: PositiveInt = 16
    content_widths: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    content_stem: PositiveInt | None = None
    content_blocks: PositiveInt = 2
    content_channels: PositiveInt | None = None
    fuse: tuple[NonNegativeInt | None, ...] = (None, None, 2, 3, None, None)
    fuse_by: Fusion | tuple[Fusion | None, ...] = "attention"
    fuse_middle: Fusion | None = "attention"
    positions: Literal["frame", "pixel"] | None = "frame"
    side: PositiveInt = 256
    window: PositiveInt | tuple[PositiveInt, PositiveInt] | None = 128
    content_norm: Literal["channel", "group"] = "channel"
    gate: float | None = None
    fusion_shortcut: bool = False
    resample_conv: bool = True
    content_resample_conv: bool = True
    unshuffle: bool = False
    causal: bool = False
    tanh_out: bool = False

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels = len(self.widths)
        given = {"decoder_widths": self.decoder_widths, "fuse": self.fuse, "fuse_by": self.fuse_by}
        for name, value in given.items():
            if isinstance(value, tuple) and len(value) != levels:
                raise SpecError(f"{name} has {len(value)} entries for {levels} levels; give one for each")
        if max(self.time_halvings, self.in_space) >= levels:
            most = max(self.time_halvings, self.in_space)
            raise SpecError(f"{most} halvings need {most + 1} levels, but there are {levels}; give more widths")
        if any(stage is not None and stage >= len(self.stages) for stage in self.fuse):
            raise SpecError(f"fuse names a stage that is not there; give stages from 0 to {len(self.stages) - 1}")
        return self

    @property
    def inner(self) -> int:
        return self.inner_channels or self.latent_channels

    @property
    def in_space(self) -> int:
        return len(self.widths) - 1 if self.space_halvings is None else self.space_halvings

    @property
    def stages(self) -> tuple[str, ...]:
        """What the stages of the image encoder are called."""
        last = "middle" if self.content_channels is None else "latents"
        return (*(f"level{i}" for i in range(len(self.content_widths))), last)

    @property
    def halved(self) -> tuple[tuple[int, int], ...]:
        """At the end of each level of the encoder: how many times fewer frames; rows and columns."""
        last, counts = len(self.widths) - 1, (self.time_halvings, self.in_space)
        time, space = ([2 if last - count <= i < last else 1 for i in range(last + 1)] for count in counts)
        return tuple(zip(time, space, strict=True))

    @property
    def doubled(self) -> tuple[tuple[int, int], ...]:
        """At the end of each level of the decoder, the finest first: how many times more frames; rows and columns."""
        return self.halved if self.late else ((1, 1), *self.halved[:-1])

    def at_level(self, level: int) -> tuple[int, int]:
        """Frames and side of a piece at a level of the decoder."""
        frames, side = self.frames, self.side
        for time, space in self.doubled[: level + 1]:
            frames, side = frames // time, side // space
        return frames, side


def reducio(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of a Reducio-VAE: a released variant (`reducio.variants`), or any other by its fields.

    The fields are those of `ReducioVAEFields`; they override the variant's.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = ReducioVAEFields(**with_variant(variant, VARIANTS, fields))
    decoder = ChainSpec(layers=_decoder(given))
    # without a table of positions nothing binds the length of a clip
    piece = None if given.positions is None else given.frames
    return VideoAutoencoderSpec(
        name=given.name or f"reducio_{variant or f'z{given.latent_channels}_dim{given.widths[0]}'}",
        encoder=ChainSpec(layers=_encoder(given)),
        decoder=decoder,
        content=ContentSpec(stages=_content(given)) if decoder.reads() else None,
        framing=Framing(channels=given.channels, group=2**given.time_halvings, piece=piece, published_pieces=False),
        posterior=PosteriorSpec(limits=LIMITS),
        latent=ClipNorm(),
    )


reducio.variants = VARIANTS  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Parts:
    """What the blocks of a network are made of."""

    conv: Callable[[int], LayerSpec]
    norm: LayerSpec
    attend: LayerSpec


def clip_parts(given: ReducioVAEFields) -> Parts:
    """Blocks of 3D convolutions; norms and attention are over the clip."""
    conv = _causal_conv if given.causal else _conv
    return Parts(conv, ClipGroupNormSpec(groups=given.groups), ClipAttentionSpec(heads=given.heads))


def image_parts(given: ReducioVAEFields) -> Parts:
    """Blocks of 2D convolutions; norms and attention are over a frame."""
    return Parts(_image_conv, FrameGroupNormSpec(groups=given.groups), FrameAttentionSpec(heads=given.heads))


def _conv(width: int) -> LayerSpec:
    return Conv3dSpec(channels=width)


def _causal_conv(width: int) -> LayerSpec:
    return CausalConv3dSpec(channels=width, before="zero")


def _image_conv(width: int) -> LayerSpec:
    return FrameConv2dSpec(channels=width)


def _point(width: int) -> LayerSpec:
    return FrameConv2dSpec(channels=width, kernel=1)


def block(width_in: int, width: int, parts: Parts) -> ResidualSpec:
    """A residual block. Source: `ResnetBlock`."""
    shortcut = None if width_in == width else _point(width)
    return residual_block(parts.conv(width), norm=parts.norm, shortcut=shortcut)


def blocks(name: str, count: int, width_in: int, width: int, parts: Parts) -> dict[str, LayerSpec]:
    """Residual blocks, the first of which changes the width."""
    return {f"{name}{j}": block(width_in if j == 0 else width, width, parts) for j in range(count)}


def attend(parts: Parts) -> ResidualSpec:
    """A norm and attention, plus the input. Source: `MemoryEfficientAttnBlock`."""
    return attention_block(norm=parts.norm, attend=parts.attend)


def shrink(width: int, time: int, space: int, *, conv: bool = True, causal: bool = False) -> LayerSpec:
    """The end of a level of the encoder. Source: `Downsample`."""
    if not conv:
        return Average3dSpec(time=time, space=space)
    if time == 1:
        return SpatialDownsampleSpec(channels=width)
    kind = EarlyDownsample3dSpec if causal else Downsample3dSpec
    return kind(channels=width, time=time, space=space)


def grow(
    width: int, time: int, space: int, *, conv: bool = True, causal: bool = False, unshuffle: bool = False
) -> LayerSpec:
    """The end of a level of the decoder. Source: `Upsample`, `UpsampleUnshuffle`."""
    if unshuffle:
        wide = Conv3dSpec(channels=width * time * space**2)
        return chain(conv=wide, space=DepthToSpaceSpec(factor=space), time=ChannelToTimeSpec(factor=time))
    if conv and not causal:
        return Upsample3dSpec(channels=width, time=time, space=space)
    repeats = {"time": TemporalRepeatSpec(factor=time), "space": SpatialRepeatSpec(factor=space)}
    return ChainSpec(layers={**repeats, **({"conv": _causal_conv(width)} if conv else {})})


# --------------------------------------------------------------------------- networks


def _encoder(given: ReducioVAEFields) -> dict[str, LayerSpec]:
    parts, width_in = clip_parts(given), given.stem or given.widths[0]
    layers: dict[str, LayerSpec] = {"conv_in": parts.conv(width_in)}
    for i, (width, (time, space)) in enumerate(zip(given.widths, given.halved, strict=True)):
        level = blocks("block", given.blocks, width_in, width, parts)
        if time * space > 1:
            level["down"] = shrink(width, time, space, conv=given.resample_conv, causal=given.causal)
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    layers["middle"] = chain(
        block0=block(width_in, width_in, parts), attend=attend(parts), block1=block(width_in, width_in, parts)
    )
    return {**layers, **_end(parts, 2 * given.inner), "moments": _point(2 * given.latent_channels)}


def _end(parts: Parts, channels: int) -> dict[str, LayerSpec]:
    return {"norm_out": parts.norm, "act_out": SILU, "conv_out": parts.conv(channels)}


def _content(given: ReducioVAEFields) -> dict[str, LayerSpec]:
    """The stages of the image encoder. What its code computes behind the last of them is thrown away there."""
    parts, widths = image_parts(given), given.content_widths
    width_in = given.content_stem or widths[0]
    stages: dict[str, LayerSpec] = {}
    for i, width in enumerate(widths):
        start = _image_conv(width_in) if i == 0 else _shrink_image(width_in, given.content_resample_conv)
        level = {
            "conv_in" if i == 0 else "down": start,
            **blocks("block", given.content_blocks, width_in, width, parts),
        }
        stages[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    last: dict[str, LayerSpec] = {"block0": block(width_in, width_in, parts), "attend": attend(parts)}
    if given.content_channels is not None:
        last = {**last, "block1": block(width_in, width_in, parts), **_end(parts, given.content_channels)}
    return {**stages, given.stages[-1]: ChainSpec(layers=last)}


def _shrink_image(width: int, conv: bool) -> LayerSpec:
    return SpatialDownsampleSpec(channels=width) if conv else SpatialAverageSpec()


def _decoder(given: ReducioVAEFields) -> dict[str, LayerSpec]:
    """Its levels are counted as they run, the coarsest first."""
    # the causal option leaves the blocks of the levels as they are
    parts, start = clip_parts(given.replace(causal=False)), clip_parts(given)
    widths, coarsest = given.decoder_widths or given.widths, len(given.widths) - 1
    fused, early = _middle_fusion(given, widths[-1]), given.content_channels is not None
    layers: dict[str, LayerSpec] = {"latent": _point(given.inner), **(fused if early else {})}
    layers["conv_in"] = start.conv(given.widths[-1])
    middle: dict[str, LayerSpec] = {"block0": block(given.widths[-1], widths[-1], start), **({} if early else fused)}
    middle.update(attend=attend(start), block1=block(widths[-1], widths[-1], start))
    layers["middle"] = ChainSpec(layers=middle)
    width_in = widths[-1]
    for i in reversed(range(coarsest + 1)):
        layers[f"level{coarsest - i}"] = ChainSpec(layers=_decoder_level(given, i, width_in, widths[i], parts))
        width_in = widths[i]
    cut = {"cut": SkipFramesSpec(count=count)} if (count := -given.frames % 2**given.time_halvings) else {}
    return {**layers, **_end(parts, given.channels), **({"tanh": TanhSpec()} if given.tanh_out else {}), **cut}


def _decoder_level(given: ReducioVAEFields, i: int, width_in: int, width: int, parts: Parts) -> dict[str, LayerSpec]:
    layers = blocks("before", given.blocks, width_in, width, parts)
    how = given.fuse_by[i] if isinstance(given.fuse_by, tuple) else given.fuse_by
    stage, (time, space) = given.fuse[i], given.doubled[i]
    if stage is not None and how is not None:
        layers["fuse"] = fusion(given, how, given.stages[stage], width, *given.at_level(i))
    layers.update(blocks("after", given.blocks, width, width, parts))
    if time * space > 1:
        layers["up"] = grow(
            width, time, space, conv=given.resample_conv, causal=given.causal, unshuffle=given.unshuffle
        )
    return layers


def _middle_fusion(given: ReducioVAEFields, width: int) -> dict[str, LayerSpec]:
    """What is fused in the middle, or with the latents."""
    if given.fuse_middle is None:
        return {}
    frames, side = given.at_level(len(given.widths) - 1)
    width, head = (width, HEAD) if given.content_channels is None else (given.inner, given.content_channels)
    return {"fuse": fusion(given, given.fuse_middle, given.stages[-1], width, frames, side, head)}


def fusion(
    given: ReducioVAEFields, how: Fusion, content: str, width: int, frames: int, side: int, head: int = HEAD
) -> WithContentSpec:
    """How a clip of that width, of so many frames of that side, reads a content feature; it is skipped without one."""
    norm = ClipGroupNormSpec(groups=given.groups)
    layers: dict[str, LayerSpec] = {}
    if how == "linear":
        mix = {"mix": ContentMixSpec(content=content, length=frames), "norm": norm, "act": SILU}
        layers["linear"] = ResidualSpec(layers=mix)
    if "add" in how:
        add = {"sum": ContentSumSpec(content=content, length=frames), "conv": _conv(width), "norm": norm, "act": SILU}
        layers["add"] = ResidualSpec(layers=add)
    if "attention" in how:
        layers.update(content_attention(given, content, width, frames, side, head))
    return WithContentSpec(layers=layers)


def content_attention(
    given: ReducioVAEFields, content: str, width: int, frames: int, side: int, head: int = HEAD
) -> dict[str, LayerSpec]:
    """Positions, then a norm and attention to the content, plus the input. Source: `BasicTransformerBlock`."""
    heads = {"content": content, "heads": max(1, width // head), "head_width": head}
    look = (
        ContentAttentionSpec(**heads)
        if given.window is None
        else WindowedContentAttentionSpec(**heads, window=given.window)
    )
    gate = {} if given.gate is None else {"gate": ChannelGateSpec(start=given.gate)}
    body = {"norm": _content_norm(given, width), "attend": look, **gate}
    shortcut = _conv(width) if given.fusion_shortcut else None
    positions: dict[str, LayerSpec] = {}
    if given.positions == "frame":
        positions["positions"] = TimePositionsSpec(length=frames)
    if given.positions == "pixel":
        positions["positions"] = ClipPositionsSpec(length=frames, side=side)
    return {**positions, "attend": ResidualSpec(layers=body, shortcut=shortcut)}


def _content_norm(given: ReducioVAEFields, width: int) -> LayerSpec:
    if given.content_norm == "channel":
        return ChannelLayerNormSpec()
    return ClipGroupNormSpec(groups=given.groups) if width > given.groups else StoredNormSpec()


# --------------------------------------------------------------------------- big frames


def tiling_rule(sample: int = 256, latent: int = 8, overlap: float = 0.25) -> TilingRule:
    """A tile every `sample` pixels and `latent` cells, larger than that by the share `overlap`; content image alike.

    `overlap` times either must be whole; the constructor's own value, 0.2, joins unlike rows.
    Source: `ReducioVAE`.
    """
    encode, decode = extended(sample, latent, overlap)
    content = ContentTiles(window=encode.window, stride=sample, overlap=overlap)
    return TilingRule(encode=Tiles(space=encode), decode=Tiles(space=decode), content=content)


TILING: Mapping[str, TilingRule] = MappingProxyType({"release": tiling_rule()})
"""As the releases' configurations have it, and the script that extracts latents runs it, for frames of any size. The
model's own `forward` cuts only frames that are higher than one tile, and never looks at the width.
"""

reducio.tiling = TILING  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what training minimises


def patch_3d_halved(width: int = 64, layers: int = 3, last: Literal["leaky", "tanh"] = "leaky") -> PatchConvsSpec:
    """Each of the `layers` halves frames, rows and columns; two convolutions of single frames end it.

    Source: `NLayerDiscriminator3D`.
    """
    wide: list[Three] = [(4, 4, 4)] * max(layers - 1, 1)
    kernels = [*wide, *[(3, 4, 4)] * (layers - len(wide)), (1, 4, 4), (1, 4, 4)]
    strides: list[Three] = [(2, 2, 2)] * layers + [(1, 1, 1)] * 2
    return PatchConvsSpec(convs=patch_gan(width, kernels, strides), last=last)


OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "release": latent_diffusion(
            patch_3d_halved(),
            nll=NLLSpec(perceptual=0.1, over="all"),
            outliers=OutlierSpec(of="pixel"),
            start=10001,
            weight=0.05,
        )
    }
)
"""Means where others sum, and a penalty on bright outliers. The start counts the steps of both optimizers."""

reducio.objectives = OBJECTIVES  # type: ignore[attr-defined]
