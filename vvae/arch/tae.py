"""TAE: the temporal autoencoder of "Movie Gen: A Cast of Media Foundation Models", arXiv 2410.13720, section 3.1.1.

The image VAE of Stable Diffusion 3 over clips: every convolution is one in space and one in time, norms and attention
see the whole clip. 8x8x8 compression, any number of frames: each halving rounds up, and what is too much is trimmed.
Meta published no code; this is that of github.com/mindspore-lab/mindone (`mg/models/tae`), with the one release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import SiLUSpec, TanhSpec
from vvae.layers.attention import TemporalAttentionSpec
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.compose import ChainSpec, ResidualSpec, chain
from vvae.layers.conv25 import TemporalConvSpec, conv25d
from vvae.layers.norm import ClipGroupNormSpec
from vvae.layers.pad import PadMode
from vvae.layers.ragged_time import TemporalConvUpsampleSpec
from vvae.layers.space import SpatialDownsampleSpec, SpatialUpsampleSpec
from vvae.losses.objective import ObjectiveSpec
from vvae.losses.term_specs import KLSpec, NLLSpec, OutlierSpec
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.spec import LayerSpec, Spec, one_of, with_variant
from vvae.tiling.rules import Tiles, TilingRule, TimeTiles

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "zero": {"down_sees": "both", "up_outside": "zero"},
        "replicate": {"down_sees": "both", "up_outside": "replicate"},
        "tail": {"down_sees": "ahead", "up_outside": "zero"},
    }
)
"""One network, three paddings of its changes of the frame rate; no tensor tells which one a checkpoint is for.

zero: as the code has it since December 2024, zeros around the doubled frames. replicate: as the report says, end frames
there too. tail: as the code had it before, a halving sees two frames ahead and none behind.
"""

LIMITS = (-30.0, 20.0)
SILU = SiLUSpec()


class TAEFields(Spec):
    """What a TAE is made of.

    `widths` are the channels of the levels, the finest first; between levels the size halves. `stem` is the width that
    the encoder starts with (that of the finest level if None). The encoder has `blocks` residual blocks at each level,
    the decoder one more. `temporal_down` names the levels (0 is the finest) of the encoder that end with half the
    frames, `temporal_up` those of the decoder that end with twice the frames. `encoder_attention` and
    `decoder_attention` name levels with an attention after every block, beside the one at the coarsest level;
    `temporal_attention`: each over a frame is followed by one over time. `moments_conv` and `latent_conv` are pointwise
    convolutions around the latents.

    `down_sees`: a halving sees the frames on "both" sides of every second frame, or the two "ahead" of it.
    `up_outside`: what stands past both ends of the doubled frames.
    """

    name: str | None = None
    channels: PositiveInt = 3
    widths: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    stem: PositiveInt | None = None
    blocks: NonNegativeInt = 2
    groups: PositiveInt = 32
    latent_channels: PositiveInt = 16
    scale: float = 1.5305
    shift: float = 0.0609
    temporal_down: tuple[NonNegativeInt, ...] = (0, 1, 2)
    temporal_up: tuple[NonNegativeInt, ...] = (1, 2, 3)
    down_sees: Literal["both", "ahead"] = "both"
    up_outside: PadMode = "zero"
    temporal_attention: bool = True
    encoder_attention: tuple[NonNegativeInt, ...] = ()
    decoder_attention: tuple[NonNegativeInt, ...] = ()
    moments_conv: bool = False
    latent_conv: bool = False
    tanh_out: bool = False

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels = len(self.widths)
        named = (*self.encoder_attention, *self.decoder_attention, *self.temporal_down, *self.temporal_up)
        if any(level >= levels for level in named):
            raise SpecError(f"attention or change of time at a level that is not there; give levels 0 to {levels - 1}")
        if len(set(self.temporal_down)) != len(set(self.temporal_up)):
            raise SpecError(
                f"temporal_down {self.temporal_down} and temporal_up {self.temporal_up} must be equally many, so that "
                f"as many frames come back"
            )
        if not self.blocks and {*self.widths, self.stem or self.widths[0]} != {self.widths[0]}:
            raise SpecError(f"without blocks nothing changes the width: widths {self.widths} must be equal")
        return self

    @property
    def norm(self) -> ClipGroupNormSpec:
        return ClipGroupNormSpec(groups=self.groups)

    @property
    def attention(self) -> ChainSpec:
        """Over each frame, then over time at each position; each with its own norm and shortcut."""
        space = attention_block(norm=self.norm)
        if not self.temporal_attention:
            return chain(space=space)
        return chain(space=space, time=attention_block(norm=self.norm, attend=TemporalAttentionSpec()))

    def block(self, width_in: int, width: int) -> ResidualSpec:
        shortcut = None if width_in == width else conv25d(width, kernel=1)
        return residual_block(conv25d(width), norm=self.norm, act=SILU, shortcut=shortcut)

    def level(self, count: int, width_in: int, width: int, attend: bool) -> dict[str, LayerSpec]:
        """Residual blocks, the first of which changes the width; `attend`: an attention after each."""
        layers: dict[str, LayerSpec] = {}
        for j in range(count):
            layers[f"block{j}"] = self.block(width if j else width_in, width)
            if attend:
                layers[f"attend{j}"] = self.attention
        return layers

    def middle(self, width: int) -> ChainSpec:
        return chain(block0=self.block(width, width), attend=self.attention, block1=self.block(width, width))

    def down_time(self, width: int) -> TemporalConvSpec:
        ahead = 2 if self.down_sees == "ahead" else None
        return TemporalConvSpec(channels=width, stride=2, ahead=ahead)

    def up_time(self, width: int) -> TemporalConvUpsampleSpec:
        return TemporalConvUpsampleSpec(channels=width, outside=self.up_outside)

    def end(self, channels: int) -> dict[str, LayerSpec]:
        return {"norm_out": self.norm, "act_out": SILU, "conv_out": conv25d(channels)}


def tae(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of a TAE: a padding of the release (`tae.variants`), or any other by its fields, which override it.

    The fields are those of `TAEFields`.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = TAEFields(**with_variant(variant, VARIANTS, fields))
    return VideoAutoencoderSpec(
        name=given.name or f"tae_{variant or f'z{given.latent_channels}_dim{given.widths[0]}'}",
        encoder=ChainSpec(layers=_encoder(given)),
        decoder=ChainSpec(layers=_decoder(given)),
        framing=Framing(channels=given.channels, lead=0, group=2 ** len(set(given.temporal_down))),
        posterior=PosteriorSpec(limits=LIMITS, limits_of="sample"),
        latent=Affine(shift=given.shift, scale=given.scale),
    )


tae.variants = VARIANTS  # type: ignore[attr-defined]


def _encoder(given: TAEFields) -> dict[str, LayerSpec]:
    width_in, coarsest = given.stem or given.widths[0], len(given.widths) - 1
    layers: dict[str, LayerSpec] = {"conv_in": conv25d(width_in)}
    for i, width in enumerate(given.widths):
        level = given.level(given.blocks, width_in, width, i in given.encoder_attention)
        if i < coarsest:
            level["down"] = SpatialDownsampleSpec(channels=width)
        if i in given.temporal_down:
            level["down_time"] = given.down_time(width)
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    layers.update({"middle": given.middle(width_in), **given.end(2 * given.latent_channels)})
    if given.moments_conv:
        layers["moments"] = conv25d(2 * given.latent_channels, kernel=1)
    return layers


def _decoder(given: TAEFields) -> dict[str, LayerSpec]:
    """Its levels are counted as they run, the coarsest first."""
    width_in, finest = given.widths[-1], len(given.widths) - 1
    layers: dict[str, LayerSpec] = {}
    if given.latent_conv:
        layers["latent"] = conv25d(given.latent_channels, kernel=1)
    layers["conv_in"] = conv25d(width_in)
    layers["middle"] = given.middle(width_in)
    for i, width in enumerate(reversed(given.widths)):
        number = finest - i
        level = given.level(given.blocks + 1, width_in, width, number in given.decoder_attention)
        if number:
            level["up"] = SpatialUpsampleSpec(channels=width)
        if number in given.temporal_up:
            level["up_time"] = given.up_time(width)
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    return {**layers, **given.end(given.channels), **({"tanh": TanhSpec()} if given.tanh_out else {})}


# --------------------------------------------------------------------------- published names

ATTENTIONS: Mapping[str, bool] = MappingProxyType({"vanilla": True, "spat_only": False})


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for the published configuration (`TAE_CONFIG`); padding is not in it, and is that of "zero".

    Attention stands where the nominal side of a level, halved from `resolution` on, is one of those listed. Without
    `double_z` the encoder gives `z_channels` moments, and so half as many latent channels.

    Raises:
        SpecError: a kind of attention that the code does not have.
    """
    attends = one_of("attn_type", config.get("attn_type", "vanilla"), ATTENTIONS)
    levels, sides = len(config["ch_mult"]), config["attn_resolutions"]
    coarsest = config["resolution"] >> (levels - 1)
    return {
        "channels": config["in_channels"],
        "widths": tuple(config["ch"] * m for m in config["ch_mult"]),
        "stem": config["ch"],
        "blocks": config["num_res_blocks"],
        "latent_channels": config["z_channels"] if config["double_z"] else config["z_channels"] // 2,
        "scale": config["scaling_factor"],
        "shift": config["shift_factor"],
        "temporal_down": tuple(config["temporal_downsample_level"]),
        "temporal_up": tuple(config["temporal_upsample_level"]),
        "temporal_attention": attends,
        "encoder_attention": tuple(i for i in range(levels) if config["resolution"] >> i in sides),
        # the decoder doubles what the halving has rounded down
        "decoder_attention": tuple(i for i in range(levels) if coarsest << (levels - 1 - i) in sides),
        "moments_conv": config["use_quant_conv"],
        "latent_conv": config["use_post_quant_conv"],
        "tanh_out": config.get("tanh_out", False),
    }


def renames(spec: VideoAutoencoderSpec) -> tuple[Rename, ...]:
    """The published name of every tensor of a `tae` spec: the names that MindSpore gives."""
    levels = sum(name.startswith("level") for name in spec.encoder.children())
    return (
        *_part_names("encoder", "down", range(levels)),
        *_part_names("decoder", "up", range(levels)[::-1]),
        *conv_names("quant_conv.", "encoder.moments.", kernel=1),
        *conv_names("post_quant_conv.", "decoder.latent.", kernel=1),
    )


def _part_names(part: str, stack: str, numbers: range) -> Iterator[Rename]:
    """The encoder or the decoder, whose own levels 0, 1, ... have the published `numbers`."""
    yield from conv_names(f"{part}.conv_in.", f"{part}.conv_in.")
    yield from norm_names(f"{part}.norm_out.", f"{part}.norm_out.")
    yield from conv_names(f"{part}.conv_out.", f"{part}.conv_out.")
    for j in (0, 1):
        yield from block_names(f"{part}.mid.block_{j + 1}.", f"{part}.middle.block{j}.")
    yield from attention_names(f"{part}.mid.attn_1.", f"{part}.middle.attend.")
    for i, number in enumerate(numbers):
        theirs, ours = f"{part}.{stack}.{number}.", f"{part}.level{i}."
        yield from block_names(f"{theirs}block.{{j}}.", f"{ours}block{{j}}.")
        yield from attention_names(f"{theirs}attn.{{j}}.", f"{ours}attend{{j}}.")
        yield Rename(f"{theirs}{stack}sample_spat.conv.", f"{ours}{stack}.")
        yield from time_names(f"{theirs}{stack}sample_temp.conv.", f"{ours}{stack}_time.")


def block_names(published: str, own: str) -> Iterator[Rename]:
    for number, letter in (("1", "a"), ("2", "b")):
        yield from norm_names(f"{published}norm{number}.", f"{own}norm_{letter}.")
        yield from conv_names(f"{published}conv{number}.", f"{own}conv_{letter}.")
    yield from conv_names(f"{published}nin_shortcut.", f"{own}shortcut.", kernel=1)
    yield Rename(f"{published}temb_proj.", None)  # for a time step that nothing reads


def attention_names(published: str, own: str) -> Iterator[Rename]:
    """Queries, keys and values are one convolution here, three convolutions (of a frame) or linear maps there."""
    yield from attend_names(f"{published}0.", f"{own}space.", ("q", "k", "v"), (0, 0, 1, 1))
    yield from attend_names(f"{published}1.", f"{own}time.", ("to_q", "to_k", "to_v"), (0, 0))


def attend_names(published: str, own: str, read: tuple[str, ...], shape: tuple[int, ...]) -> Iterator[Rename]:
    """One attention with its norm, whose published weights have that shape."""
    yield from norm_names(f"{published}norm.", f"{own}norm.")
    yield Rename(tuple(f"{published}{name}.weight" for name in read), f"{own}attend.qkv.weight", "cat", shape=shape)
    yield Rename(tuple(f"{published}{name}.bias" for name in read), f"{own}attend.qkv.bias", "cat")
    yield Rename(f"{published}proj_out.weight", f"{own}attend.out.weight", "view", shape=shape)
    yield Rename(f"{published}proj_out.bias", f"{own}attend.out.bias")


def conv_names(published: str, own: str, kernel: int = 3) -> Iterator[Rename]:
    """A convolution in space and one in time; of kernel 1 both are alike."""
    yield Rename(f"{published}conv_spat.", f"{own}space.")
    if kernel == 1:
        yield Rename(f"{published}conv_temp.", f"{own}time.")
    else:
        yield from time_names(f"{published}conv_temp.", f"{own}time.")


def time_names(published: str, own: str) -> Iterator[Rename]:
    """A convolution over time; MindSpore keeps its kernel with an axis of 1 in front."""
    yield Rename(f"{published}weight", f"{own}weight", "view", shape=(0, 0, 1, -1))
    yield Rename(f"{published}bias", f"{own}bias")


def norm_names(published: str, own: str) -> Iterator[Rename]:
    yield Rename(f"{published}gamma", f"{own}weight")
    yield Rename(f"{published}beta", f"{own}bias")


# --------------------------------------------------------------------------- long clips

GROUP = 8


def tiling_rule(
    encode: int = 32, decode: int = 32, overlap: int = 16, join: Literal["mean", "ramp"] = "mean"
) -> TilingRule:
    """Chunks of `encode` frames without overlap; decoding, such of `decode` frames that share `overlap`.

    Source: `encode`, `decode`, `blend_slices` of `TemporalAutoencoder`; what is no multiple of 8 is floored there too.
    """
    shared = overlap // GROUP
    chunks = TimeTiles(window=decode // GROUP, overlap=shared, shared=shared * GROUP, join=join)
    return TilingRule(encode=Tiles(time=TimeTiles(window=encode)), decode=Tiles(time=chunks))


TILING: Mapping[str, TilingRule] = MappingProxyType({"code": tiling_rule(), "paper": tiling_rule(join="ramp")})
"""What decoded chunks share is their mean in the code, and goes over linearly in the paper, whose weights at the single
frames are not known: here that of the later chunk grows from 0 in equal steps."""

tae.tiling = TILING  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what training minimises


def objective(perceptual: float = 1.0, outliers: float = 0.0) -> ObjectiveSpec:
    """NLL with LPIPS and KL per frame of the video; `outliers` is the weight of the penalty on outliers (0: none).

    Source: `GeneratorWithLoss`, whose penalty weighs 1e5 by default, and the recipes, which leave it out.
    """
    penalty = {"outliers": OutlierSpec(of="latent", weight=outliers)} if outliers else {}
    return ObjectiveSpec(
        terms={"nll": NLLSpec(perceptual=perceptual), "kl": KLSpec(weight=1e-6, per="frame"), **penalty}
    )


OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {"recipe": objective(), "default": objective(0.1), "outliers": objective(outliers=1e5)}
)
"""recipe: as the configurations train it. default: the parser's own weight of LPIPS. outliers: with the penalty, on
single channels of the sample; the paper's is `OutlierSpec(of="vector")`. There is no game in the code."""

tae.objectives = OBJECTIVES  # type: ignore[attr-defined]
