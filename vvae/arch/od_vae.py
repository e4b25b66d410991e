"""OD-VAE: "OD-VAE: An Omni-dimensional Video Compressor for Improving Latent Video Diffusion Model", arXiv 2409.01199.

The image VAE of Stable Diffusion with causal 3D convolutions for 2D ones: a lead frame, then groups of four, 4x8x8
compression. Code: `CausalVAEModel` of github.com/PKU-YuanGroup/Open-Sora-Plan, whose releases v1.0 and v1.1 are its
forerunners; the report of v1.3 calls that of v1.2 OD-VAE.

Norms of 3D parts are over the whole clip, so that every latent depends on every frame that no stride drops, and every
frame on every latent. `od_vae_streaming` is another model of the same parts, with norms per frame: its encoder is
causal, its decoder looks one latent ahead (it interpolates in time), and both stream.

The paper compares four variants and prefers the fourth. Which of `LAYOUTS` is which has not been confirmed: v1.2 has 2D
convolutions in the outer levels of the encoder only, so that `outer_2d_encoder` is the natural reading of the fourth;
nothing was released of `all_3d` (with v1.2's changes of size) and `outer_2d_both`, and a level that mixes 2D and 3D
convolutions has no published class.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import SiLUSpec
from vvae.layers.attention import FrameAttentionSpec, TemporalAttentionSpec
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.causal_resample import CausalAverageSpec, CausalDownsample3dSpec, SpatialLinearUpsampleSpec
from vvae.layers.compose import AfterLeadSpec, ChainSpec, ResidualSpec, chain
from vvae.layers.conv import CausalConv3dSpec, FrameConv2dSpec
from vvae.layers.misfolded import MisfoldedAttentionSpec
from vvae.layers.mix import LearnedMixSpec
from vvae.layers.norm import ClipGroupNormSpec, FrameGroupNormSpec
from vvae.layers.space import SpatialDownsampleSpec, SpatialUpsampleSpec
from vvae.layers.time import LinearTemporalUpsampleSpec
from vvae.losses.latent_diffusion import latent_diffusion
from vvae.losses.objective import ObjectiveSpec
from vvae.losses.patch import Patch2dSpec, Patch3dSpec
from vvae.published.legacy.od_vae import PaddedTemporalDownsampleSpec
from vvae.scaling import Affine
from vvae.spec import LayerSpec, Spec, one_of, with_variant
from vvae.tiling.rules import Tiles, TilingRule, TimeTiles, overlapping

Convolution: TypeAlias = Literal["2d", "3d"]
Time: TypeAlias = Literal["linear", "mixed", "attended", "joint"]
Attention: TypeAlias = Literal["2d", "3d", "misfolded", "time"]
Layout: TypeAlias = Literal["all_3d", "outer_2d_encoder", "outer_2d_both"]

LIMITS = (-30.0, 20.0)
SILU = SiLUSpec()
CONVOLUTIONS: Mapping[Convolution, type[FrameConv2dSpec | CausalConv3dSpec]] = MappingProxyType(
    {"2d": FrameConv2dSpec, "3d": CausalConv3dSpec}
)
ATTENTIONS: Mapping[Attention, LayerSpec] = MappingProxyType(
    {
        "2d": FrameAttentionSpec(),
        "3d": FrameAttentionSpec(),
        "misfolded": MisfoldedAttentionSpec(),
        "time": TemporalAttentionSpec(),
    }
)
LAYOUTS: Mapping[str, tuple[Convolution, Convolution]] = MappingProxyType(
    {"all_3d": ("3d", "3d"), "outer_2d_encoder": ("2d", "3d"), "outer_2d_both": ("2d", "2d")}
)
"""The convolutions of all levels but the two coarsest, and of the one at the pixels: in the encoder, in the decoder."""


class Half(Spec):
    """The convolutions of the encoder or the decoder. Levels are counted from the finest, 0.

    `convs` are those in the residual blocks of each level, `conv_in`, `middle` and `conv_out` the others: "2d" for each
    frame, or "3d" over the frames before it. `space`: that which changes the size at the end of a level (None: it stays
    as it is). `attention` names levels with an attention after every block, beside that in the middle.
    """

    convs: tuple[Convolution, ...] = Field(min_length=1)
    space: tuple[Convolution | None, ...]
    conv_in: Convolution = "3d"
    middle: Convolution = "3d"
    conv_out: Convolution = "3d"
    attention: tuple[NonNegativeInt, ...] = ()


_THE_3D, _THE_2D = ("3d",) * 4, ("2d", "2d", "3d", "3d")
_SMALLER, _LARGER = ("2d", "2d", "2d", None), (None, "2d", "2d", "2d")

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v1_0": {
            "encoder": Half(convs=_THE_3D, space=_SMALLER),
            "decoder": Half(convs=_THE_3D, space=_LARGER),
            "encoder_time": ("linear", "linear", None, None),
            "decoder_time": (None, None, "linear", "linear"),
            "encoder_attend": "misfolded",
            "decoder_attend": "misfolded",
        },
        "v1_1": {
            "encoder": Half(convs=_THE_2D, space=_SMALLER, conv_in="2d"),
            "decoder": Half(convs=_THE_3D, space=_LARGER),
            "encoder_time": (None, "mixed", "mixed", None),
            "decoder_time": (None, None, "mixed", "mixed"),
            "encoder_attend": "3d",
            "decoder_attend": "3d",
        },
        "v1_2": {
            "encoder": Half(convs=_THE_2D, space=("2d", "3d", "3d", None), conv_in="2d"),
            "decoder": Half(convs=_THE_3D, space=(None, "2d", "3d", "3d")),
            "encoder_time": (None, "joint", "joint", None),
            "decoder_time": (None, None, "joint", "joint"),
            "encoder_attend": "3d",
            "decoder_attend": "3d",
        },
    }
)
"""The three releases. Attention in v1.0 folds frames and channels into each other (`MisfoldedAttention`)."""


class ODVAEFields(Spec):
    """What an OD-VAE is made of: the convolutions of both halves, what else they do, and their sizes.

    `encoder_time` and `decoder_time` say how the frame rate changes at the end of each level, counted from the finest
    (None: it does not): with the size, by the same convolution ("joint"), or after it, by means of frames and linear
    interpolation ("linear"), by these mixed with a learned convolution ("mixed"), or with one behind attention over
    time ("attended"; no release). `encoder_attend` and `decoder_attend` are what attention is: over each frame behind a
    norm over the clip ("3d") or over the frame ("2d"), over "time" at each pixel, or "misfolded", the defect of v1.0.

    `multipliers` times `width` are the channels of the levels, the finest first. The encoder has `blocks` residual
    blocks at each level, the decoder one more. `groups` are those of every norm; `norms` of 3D parts are over the
    "clip" or per "frame". `moments_conv` and `latent_conv` are pointwise convolutions around the latents
    (`use_quant_layer` of the code), which may change the number of channels: the halves work on `inner_channels` (as
    many as the latents have if None).
    """

    name: str | None = None
    channels: PositiveInt = 3
    width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 4, 4)
    blocks: PositiveInt = 2
    groups: PositiveInt = 32
    latent_channels: PositiveInt = 4
    inner_channels: PositiveInt | None = None
    scale: float = 0.18215
    moments_conv: bool = True
    latent_conv: bool = True
    encoder: Half = VARIANTS["v1_2"]["encoder"]
    decoder: Half = VARIANTS["v1_2"]["decoder"]
    encoder_time: tuple[Time | None, ...] = VARIANTS["v1_2"]["encoder_time"]
    decoder_time: tuple[Time | None, ...] = VARIANTS["v1_2"]["decoder_time"]
    encoder_attend: Attention = "3d"
    decoder_attend: Attention = "3d"
    norms: Literal["clip", "frame"] = "clip"

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels, inner = len(self.multipliers), self.inner
        for side, half, time in (
            ("encoder", self.encoder, self.encoder_time),
            ("decoder", self.decoder, self.decoder_time),
        ):
            for what, values in (("convs", half.convs), ("space", half.space), ("time", time)):
                if len(values) != levels:
                    raise SpecError(f"{levels} multipliers need {levels} {what}, found {len(values)}", (side,))
            if any(time[i] == "joint" and half.space[i] != "3d" for i in range(levels)):
                raise SpecError("'joint' in time takes '3d' in space at that level", (side,))
            if any(level >= levels for level in half.attention):
                raise SpecError(f"attention at a level that is not there; give levels from 0 to {levels - 1}", (side,))
        if inner != self.latent_channels and not (self.moments_conv and self.latent_conv):
            raise SpecError(
                f"{inner} inner_channels beside {self.latent_channels} latent_channels need moments_conv, latent_conv"
            )
        return self

    @property
    def inner(self) -> int:
        return self.inner_channels or self.latent_channels

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * m for m in self.multipliers)

    @property
    def group(self) -> int:
        """Frames for each latent position behind the first."""
        return int(2 ** sum(time is not None for time in self.encoder_time))

    def norm(self, of: Convolution = "3d") -> LayerSpec:
        """The norm before a convolution of that sort."""
        per_frame = of == "2d" or self.norms == "frame"
        return FrameGroupNormSpec(groups=self.groups) if per_frame else ClipGroupNormSpec(groups=self.groups)


def od_vae(variant: str | None = None, *, layout: Layout | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of an OD-VAE: a released variant (`od_vae.variants`; v1_2 if None), or another by its fields.

    The fields are those of `ODVAEFields`; they override the variant's. `layout` overrides its convolutions by one of
    `LAYOUTS`.

    Raises:
        SpecError: an unknown variant, layout or field, values that do not fit each other.
    """
    return _spec(_given(variant, layout, fields), "od_vae", variant or layout)


def od_vae_streaming(
    variant: str | None = None, *, layout: Layout | None = None, **fields: Any
) -> VideoAutoencoderSpec:
    """An OD-VAE that streams: all norms per frame, attention per frame; otherwise as `od_vae`, tensors included.

    Not what any release computes. The encoder is causal. The decoder looks one latent ahead; a stream holds back what
    is not known yet.

    Raises:
        SpecError: as `od_vae`, or attention over time, which cannot stream.
    """
    given = _given(variant, layout, fields)
    attends = {"encoder_attend": given.encoder_attend, "decoder_attend": given.decoder_attend}
    if "time" in attends.values() or "attended" in given.encoder_time + given.decoder_time:
        raise SpecError("attention over time sees the whole clip; take '3d' for it, and 'mixed' in time")
    mended = {name: "3d" if attend == "misfolded" else attend for name, attend in attends.items()}
    return _spec(given.replace(**mended, norms="frame"), "od_vae_streaming", variant or layout)


od_vae.variants = VARIANTS  # type: ignore[attr-defined]
od_vae.layouts = LAYOUTS  # type: ignore[attr-defined]
od_vae_streaming.variants = VARIANTS  # type: ignore[attr-defined]


def _given(variant: str | None, layout: Layout | None, fields: Mapping[str, Any]) -> ODVAEFields:
    given = ODVAEFields(**with_variant(variant, VARIANTS, fields))
    if layout is None:
        return given
    first, last = one_of("layout", layout, LAYOUTS)
    levels = len(given.multipliers)
    shallow, deep = ((outer,) * (levels - 2) + ("3d",) * min(levels, 2) for outer in (first, last))
    return given.replace(
        encoder=given.encoder.replace(convs=shallow, conv_in=first),
        decoder=given.decoder.replace(convs=deep, conv_out=last),
    )


def _spec(given: ODVAEFields, architecture: str, which: str | None) -> VideoAutoencoderSpec:
    return VideoAutoencoderSpec(
        name=given.name or f"{architecture}_{which or f'z{given.latent_channels}_dim{given.width}'}",
        encoder=encoder(given),
        decoder=decoder(given),
        framing=Framing(channels=given.channels, lead=1, group=given.group),
        posterior=PosteriorSpec(limits=LIMITS),
        latent=Affine(scale=given.scale),
    )


# --------------------------------------------------------------------------- the network


def encoder(given: ODVAEFields) -> ChainSpec:
    """The encoder, which gives moments."""
    half, width_in = given.encoder, given.width
    layers: dict[str, LayerSpec] = {"conv_in": CONVOLUTIONS[half.conv_in](channels=width_in)}
    for i, width in enumerate(given.widths):
        level, time = _blocks(given, half, i, given.blocks, width_in, given.encoder_attend), given.encoder_time[i]
        if space := half.space[i]:
            level["down"] = smaller(space, width, joint=time == "joint")
        if time and time != "joint":
            level["time"] = fewer_frames(time, width, given.norm())
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    layers["middle"] = _middle(given, half, width_in, given.encoder_attend)
    layers.update(_end(given, half, 2 * given.inner))
    if given.moments_conv:
        layers["moments"] = FrameConv2dSpec(channels=2 * given.latent_channels, kernel=1)
    return ChainSpec(layers=layers)


def decoder(given: ODVAEFields) -> ChainSpec:
    """The decoder; its own levels are counted as they run, the coarsest first."""
    half, width_in = given.decoder, given.widths[-1]
    layers: dict[str, LayerSpec] = {}
    if given.latent_conv:
        layers["latent"] = FrameConv2dSpec(channels=given.inner, kernel=1)
    layers["conv_in"] = CONVOLUTIONS[half.conv_in](channels=width_in)
    layers["middle"] = _middle(given, half, width_in, given.decoder_attend)
    for number, i in enumerate(reversed(range(len(given.widths)))):
        level, time = _blocks(given, half, i, given.blocks + 1, width_in, given.decoder_attend), given.decoder_time[i]
        width_in = given.widths[i]
        if space := half.space[i]:
            level["up"] = larger(space, width_in, joint=time == "joint")
        if time and time != "joint":
            level["time"] = more_frames(time, width_in, given.norm())
        layers[f"level{number}"] = ChainSpec(layers=level)
    return ChainSpec(layers={**layers, **_end(given, half, given.channels)})


def block(conv: Convolution, width_in: int, width: int, norm: LayerSpec) -> ResidualSpec:
    """A residual block. Source: `ResnetBlock2D`, `ResnetBlock3D`."""
    shortcut = None if width_in == width else FrameConv2dSpec(channels=width, kernel=1)
    return residual_block(CONVOLUTIONS[conv](channels=width), norm=norm, shortcut=shortcut)


def _blocks(
    given: ODVAEFields, half: Half, level: int, count: int, width_in: int, attend: Attention
) -> dict[str, LayerSpec]:
    layers: dict[str, LayerSpec] = {}
    conv, width = half.convs[level], given.widths[level]
    for j in range(count):
        layers[f"block{j}"] = block(conv, width_in if j == 0 else width, width, given.norm(conv))
        if level in half.attention:
            layers[f"attend{j}"] = _attention(given, attend)
    return layers


def _attention(given: ODVAEFields, attend: Attention) -> ResidualSpec:
    return attention_block(norm=given.norm("2d" if attend == "2d" else "3d"), attend=ATTENTIONS[attend])


def _middle(given: ODVAEFields, half: Half, width: int, attend: Attention) -> ChainSpec:
    own = block(half.middle, width, width, given.norm(half.middle))
    return chain(block0=own, attend=_attention(given, attend), block1=own)


def _end(given: ODVAEFields, half: Half, channels: int) -> dict[str, LayerSpec]:
    return {"norm_out": given.norm(), "act_out": SILU, "conv_out": CONVOLUTIONS[half.conv_out](channels=channels)}


def smaller(space: Convolution, width: int, *, joint: bool = False) -> LayerSpec:
    """Half the size, and by the same 3D convolution half the frames behind the lead where `joint`."""
    if space == "2d":
        return SpatialDownsampleSpec(channels=width)
    return CausalDownsample3dSpec(channels=width, stride=2 if joint else 1)


def larger(space: Convolution, width: int, *, joint: bool = False) -> LayerSpec:
    """Twice the size, and where `joint` twice the frames behind the lead. 3D convolutions read what is interpolated."""
    if space == "2d":
        return SpatialUpsampleSpec(channels=width)
    time = {"time": twice_the_frames()} if joint else {}
    return ChainSpec(layers={**time, "size": SpatialLinearUpsampleSpec(), "conv": CausalConv3dSpec(channels=width)})


def twice_the_frames() -> AfterLeadSpec:
    """Twice the frames behind the lead, linear in time. Source: `TimeUpsample2x`."""
    return AfterLeadSpec(layers={"linear": LinearTemporalUpsampleSpec()})


def fewer_frames(time: Time, width: int, norm: LayerSpec) -> LayerSpec:
    """Half the frames behind the lead. Source: `TimeDownsample2x`, `TimeDownsampleRes2x`, `TimeDownsampleResAdv2x`."""
    mean = CausalAverageSpec()
    if time == "linear":
        return mean
    if time == "mixed":
        return LearnedMixSpec(branches={"mean": mean, "learned": CausalConv3dSpec(channels=width, stride=2)})
    learned = PaddedTemporalDownsampleSpec(layers=_attended(width, norm))
    return LearnedMixSpec(branches={"mean": mean, "learned": learned}, initial=1.5)


def more_frames(time: Time, width: int, norm: LayerSpec) -> LayerSpec:
    """Twice the frames behind the lead. Source: `TimeUpsample2x`, `TimeUpsampleRes2x`, `TimeUpsampleResAdv2x`."""
    if time == "linear":
        return twice_the_frames()
    conv, as_it_is = CausalConv3dSpec(channels=width), ChainSpec(layers={})
    if time == "mixed":
        mix = LearnedMixSpec(branches={"linear": as_it_is, "learned": conv})
    else:
        learned = ChainSpec(layers={**_attended(width, norm), "conv": conv})
        mix = LearnedMixSpec(branches={"linear": as_it_is, "learned": learned}, initial=1.5)
    return chain(grow=twice_the_frames(), mix=mix)


def _attended(width: int, norm: LayerSpec) -> dict[str, LayerSpec]:
    attend = attention_block(norm=norm, attend=ATTENTIONS["time"])
    return {"block": block("3d", width, width, norm), "attend": attend}


# --------------------------------------------------------------------------- long clips and big frames

GROUP = 4


def tiling_rule(
    sample: int = 256,
    latent: int = 32,
    overlap: float = 0.25,
    *,
    frames: int | None = None,
    positions: int | None = None,
    shared: int = 1,
) -> TilingRule:
    """Tiles of `sample` pixels and `latent` cells, and chunks in time of `frames` frames and `positions` latents.

    Chunks share `shared` latent positions, the first of which stands for one frame; None: time stays whole. What a
    later chunk gives of them is dropped. Chunks are longer by what they share beyond one. Source: `CausalVAEModel`.
    """
    encode, decode = overlapping(sample, latent, overlap)
    more = shared - 1
    first = 1 + GROUP * more
    by_frames = frames and TimeTiles(window=frames + GROUP * more, overlap=first, shared=shared)
    by_positions = positions and TimeTiles(window=positions + more, overlap=shared, shared=first)
    return TilingRule(
        encode=Tiles(space=encode, time=by_frames, above=(frames, sample, sample)),
        decode=Tiles(space=decode, time=by_positions, above=(positions, latent, latent)),
    )


TILING: Mapping[str, TilingRule] = MappingProxyType(
    {
        "v1_0": tiling_rule(),
        "v1_1": tiling_rule(frames=65, positions=17),
        "v1_2": tiling_rule(overlap=0.125, frames=33, positions=16),
        "v1_2_scripts": tiling_rule(512, 64, 0.125, frames=29, positions=8),
        "v1_2_save_memory": tiling_rule(overlap=0.125, frames=29, positions=8),
    }
)
"""The sizes of the three classes, and those that the scripts of v1.2 set, by themselves and to save memory.

v1.2 decodes chunks of other lengths than it encodes (33 frames are 9 positions, not 16), which does no harm.
"""

od_vae.tiling = TILING  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what training minimises

OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "v1_0": latent_diffusion(Patch2dSpec(), start=2001),
        "v1_0_3d": latent_diffusion(Patch3dSpec(kernel=4, time_halvings=1), start=2001),
        "v1_1": latent_diffusion(Patch3dSpec(), start=2001),
        "v1_2": latent_diffusion(Patch3dSpec(), start=2000),
    }
)
"""The losses of the releases and their discriminators: v1.0 judges frames, or clips of 10 frames at least.

In v1.0 and v1.1 the start counts the steps of both optimizers, so that the game is on after 1001 batches.
"""

od_vae.objectives = OBJECTIVES  # type: ignore[attr-defined]
