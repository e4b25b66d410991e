"""The image VAE of Stable Diffusion: "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752.

Every frame is an image by itself: no lead, groups of one. Residual blocks with group norms, one attention over the
frame in the middle of encoder and decoder. 8x8 compression in the releases, none in time. SDXL: arXiv 2307.01952; SD3:
arXiv 2403.03206. Code: `AutoencoderKL` of github.com/CompVis/latent-diffusion and of github.com/huggingface/diffusers,
which name the same tensors differently (`renames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import ReLUSpec, SiLUSpec, TanhSpec
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.compose import ChainSpec, ResidualSpec, chain
from vvae.layers.conv import FrameConv2dSpec
from vvae.layers.norm import FrameGroupNormSpec
from vvae.layers.space import SpatialAverageSpec, SpatialDownsampleSpec, SpatialRepeatSpec, SpatialUpsampleSpec
from vvae.losses.latent_diffusion import latent_diffusion
from vvae.losses.objective import ObjectiveSpec
from vvae.losses.patch import Patch2dSpec
from vvae.losses.term_specs import KLSpec, L2Spec, LPIPSSpec, NLLSpec
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.spec import AnyLayer, LayerSpec, Spec, one_of, with_variant
from vvae.tiling.rules import Tiles, TilingRule, overlapping

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sd": {"latent_channels": 4, "scale": 0.18215},
        "sdxl": {"latent_channels": 4, "scale": 0.13025},
        "sd3": {
            "latent_channels": 16,
            "scale": 1.5305,
            "shift": 0.0609,
            "moments_conv": False,
            "latent_conv": False,
        },
    }
)
"""The shapes of Stable Diffusion 1 and 2, of SDXL, and of SD3 and SD3.5; no tensor tells the first two apart."""

LIMITS = (-30.0, 20.0)
SILU = SiLUSpec()


def block(width_in: int, width: int, norm: LayerSpec, act: LayerSpec = SILU) -> ResidualSpec:
    """A residual block of 3x3 convolutions. Source: `ResnetBlock`, `ResnetBlock2D`."""
    shortcut = None if width_in == width else FrameConv2dSpec(channels=width, kernel=1)
    return residual_block(FrameConv2dSpec(channels=width), norm=norm, act=act, shortcut=shortcut)


def blocks(
    count: int, width_in: int, width: int, norm: LayerSpec, act: LayerSpec = SILU, attend: bool = False
) -> dict[str, LayerSpec]:
    """The residual blocks of a level, the first of which changes the width; `attend`: an attention after each."""
    layers: dict[str, LayerSpec] = {}
    for j in range(count):
        layers[f"block{j}"] = block(width_in if j == 0 else width, width, norm, act)
        if attend:
            layers[f"attend{j}"] = attention_block(norm=norm)
    return layers


def middle(width: int, norm: LayerSpec, act: LayerSpec = SILU, *, heads: int | None = 1) -> ChainSpec:
    """Two residual blocks, and between them an attention of so many heads, if any."""
    attend = {} if heads is None else {"attend": attention_block(norm=norm, heads=heads)}
    return ChainSpec(
        layers={"block0": block(width, width, norm, act), **attend, "block1": block(width, width, norm, act)}
    )


class ImageVAEFields(Spec):
    """What an image VAE is made of.

    `widths` are the channels of the levels, the finest first; between levels the size halves. `stem` is the width that
    the encoder starts with (that of the finest level if None). The encoder has `blocks` residual blocks at each level,
    the decoder one more. `groups` are those of every norm; `act` is the activation inside the blocks.
    `encoder_attention` and `decoder_attention` name levels (0 is the finest) with an attention after every block;
    `middle_attention` is the one at the coarsest level. `moments_conv` and `latent_conv` are pointwise convolutions
    around the latents (`quant_conv` and `post_quant_conv` of the code), which may change the number of channels: the
    networks work on `inner_channels` (as many as the latents have if None). Without `resample_conv` means of 2x2 cells
    and repeated cells change the size. `tanh_out` keeps what comes back within (-1, 1).
    """

    name: str | None = None
    channels: PositiveInt = 3
    widths: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    stem: PositiveInt | None = None
    blocks: PositiveInt = 2
    groups: PositiveInt = 32
    act: AnyLayer = SILU
    latent_channels: PositiveInt = 4
    inner_channels: PositiveInt | None = None
    scale: float = 1.0
    shift: float = 0.0
    moments_conv: bool = True
    latent_conv: bool = True
    middle_attention: bool = True
    encoder_attention: tuple[NonNegativeInt, ...] = ()
    decoder_attention: tuple[NonNegativeInt, ...] = ()
    resample_conv: bool = True
    tanh_out: bool = False

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels, inner = len(self.widths), self.inner
        if any(level >= levels for level in (*self.encoder_attention, *self.decoder_attention)):
            raise SpecError(f"attention at a level that is not there; give levels from 0 to {levels - 1}")
        if inner != self.latent_channels and not (self.moments_conv and self.latent_conv):
            raise SpecError(
                f"{inner} inner_channels beside {self.latent_channels} latent_channels need moments_conv, latent_conv"
            )
        return self

    @property
    def inner(self) -> int:
        return self.inner_channels or self.latent_channels

    @property
    def norm(self) -> FrameGroupNormSpec:
        return FrameGroupNormSpec(groups=self.groups)


def image_vae(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of an image VAE: a released variant (`image_vae.variants`), or any other by its fields.

    The fields are those of `ImageVAEFields`; they override the variant's.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = ImageVAEFields(**with_variant(variant, VARIANTS, fields))
    return VideoAutoencoderSpec(
        name=given.name or f"image_vae_{variant or f'z{given.latent_channels}_dim{given.widths[0]}'}",
        encoder=ChainSpec(layers=_encoder(given)),
        decoder=ChainSpec(layers=_decoder(given)),
        framing=Framing(channels=given.channels, lead=0, group=1),
        posterior=PosteriorSpec(limits=LIMITS),
        latent=Affine(shift=given.shift, scale=given.scale),
    )


image_vae.variants = VARIANTS  # type: ignore[attr-defined]


def _encoder(given: ImageVAEFields) -> dict[str, LayerSpec]:
    width_in = given.stem or given.widths[0]
    layers: dict[str, LayerSpec] = {"conv_in": FrameConv2dSpec(channels=width_in)}
    for i, width in enumerate(given.widths):
        level = blocks(given.blocks, width_in, width, given.norm, given.act, i in given.encoder_attention)
        if i < len(given.widths) - 1:
            level["down"] = SpatialDownsampleSpec(channels=width) if given.resample_conv else SpatialAverageSpec()
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    layers["middle"] = middle(width_in, given.norm, given.act, heads=1 if given.middle_attention else None)
    layers.update(_end(given, 2 * given.inner))
    if given.moments_conv:
        layers["moments"] = FrameConv2dSpec(channels=2 * given.latent_channels, kernel=1)
    return layers


def _decoder(given: ImageVAEFields) -> dict[str, LayerSpec]:
    """Its levels are counted as they run, the coarsest first."""
    width_in, finest = given.widths[-1], len(given.widths) - 1
    layers: dict[str, LayerSpec] = {}
    if given.latent_conv:
        layers["latent"] = FrameConv2dSpec(channels=given.inner, kernel=1)
    layers["conv_in"] = FrameConv2dSpec(channels=width_in)
    layers["middle"] = middle(width_in, given.norm, given.act, heads=1 if given.middle_attention else None)
    for i, width in enumerate(reversed(given.widths)):
        level = blocks(given.blocks + 1, width_in, width, given.norm, given.act, finest - i in given.decoder_attention)
        if i < finest:
            level["up"] = SpatialUpsampleSpec(channels=width) if given.resample_conv else SpatialRepeatSpec()
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    return {**layers, **_end(given, given.channels), **({"tanh": TanhSpec()} if given.tanh_out else {})}


def _end(given: ImageVAEFields, channels: int) -> dict[str, LayerSpec]:
    # SiLU here, whatever the activation inside the blocks
    return dict(chain(norm_out=given.norm, act_out=SILU, conv_out=FrameConv2dSpec(channels=channels)).layers)


# --------------------------------------------------------------------------- published options

ACTIVATIONS: Mapping[str, LayerSpec] = MappingProxyType({"silu": SILU, "swish": SILU, "relu": ReLUSpec()})
ATTENTIONS: Mapping[str, bool] = MappingProxyType({"vanilla": True, "none": False})


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for a published configuration: the arguments of diffusers' class, or CompVis' `ddconfig`, `embed_dim`.

    Raises:
        SpecError: an activation or attention that the releases do not have.
    """
    return _compvis_fields(config["ddconfig"], config["embed_dim"]) if "ddconfig" in config else _diffusers(config)


def _diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "channels": config.get("in_channels", 3),
        "widths": tuple(config.get("block_out_channels", (64,))),
        "blocks": config.get("layers_per_block", 1),
        "groups": config.get("norm_num_groups", 32),
        "act": one_of("activation", config.get("act_fn", "silu"), ACTIVATIONS),
        "latent_channels": config.get("latent_channels", 4),
        "scale": config.get("scaling_factor", 0.18215),
        "shift": config.get("shift_factor") or 0.0,
        "moments_conv": config.get("use_quant_conv", True),
        "latent_conv": config.get("use_post_quant_conv", True),
        "middle_attention": config.get("mid_block_add_attention", True),
    }


def _compvis_fields(config: Mapping[str, Any], embed_dim: int) -> dict[str, Any]:
    """Attention stands where the nominal side of a level, halved from `resolution` on, is one of those listed."""
    for option, usual in (("give_pre_end", False), ("double_z", True)):
        if config.get(option, usual) != usual:
            raise SpecError(f"{option} {config[option]} is in no release; it must be {usual}")
    levels, sides = len(config["ch_mult"]), config["attn_resolutions"]
    attends = one_of("attn_type", config.get("attn_type", "vanilla"), ATTENTIONS)
    coarsest = config["resolution"] >> (levels - 1)
    return {
        "channels": config["in_channels"],
        "widths": tuple(config["ch"] * m for m in config["ch_mult"]),
        "stem": config["ch"],
        "blocks": config["num_res_blocks"],
        "latent_channels": embed_dim,
        "inner_channels": config["z_channels"],
        "middle_attention": attends,
        "encoder_attention": tuple(i for i in range(levels) if attends and config["resolution"] >> i in sides),
        # the decoder doubles what the halving has rounded down
        "decoder_attention": tuple(i for i in range(levels) if attends and coarsest << (levels - 1 - i) in sides),
        "resample_conv": config.get("resamp_with_conv", True),
        "tanh_out": config.get("tanh_out", False),
    }


# --------------------------------------------------------------------------- published names


@dataclass(frozen=True)
class Naming:
    """What a published code calls the parts; `{i}` counts levels as they run (`finest_first`: from the finest), `{j}`
    blocks. `linear`: attention has weights of shape (c, c), not (c, c, 1, 1). `scale`: the two tensors of a norm.
    """

    down: str
    up: str
    block: str
    shrink: str
    grow: str
    shortcut: str
    middle: tuple[str, str]
    middle_attention: str
    norm_out: str
    attention: tuple[str, str, str, str, str]
    level_attention: str | None = None
    finest_first: bool = False
    linear: bool = True
    scale: tuple[str, str] = ("weight", "bias")


_DIFFUSERS: Mapping[str, Any] = {
    "down": "down_blocks",
    "up": "up_blocks",
    "block": "resnets.{j}",
    "shrink": "downsamplers.0.conv",
    "grow": "upsamplers.0.conv",
    "shortcut": "conv_shortcut",
    "middle": ("mid_block.resnets.0", "mid_block.resnets.1"),
    "middle_attention": "mid_block.attentions.0",
    "norm_out": "conv_norm_out",
}

_COMPVIS: Mapping[str, Any] = {
    "down": "down",
    "up": "up",
    "block": "block.{j}",
    "shrink": "downsample.conv",
    "grow": "upsample.conv",
    "shortcut": "nin_shortcut",
    "middle": ("mid.block_1", "mid.block_2"),
    "middle_attention": "mid.attn_1",
    "norm_out": "norm_out",
    "attention": ("norm", "q", "k", "v", "proj_out"),
    "level_attention": "attn.{j}",
    "finest_first": True,
    "linear": False,
}

NAMINGS: Mapping[str, Naming] = MappingProxyType(
    {
        "diffusers": Naming(**_DIFFUSERS, attention=("group_norm", "to_q", "to_k", "to_v", "to_out.0")),
        "diffusers_old": Naming(**_DIFFUSERS, attention=("group_norm", "query", "key", "value", "proj_attn")),
        "compvis": Naming(**_COMPVIS),
        "mindspore": Naming(**_COMPVIS, scale=("gamma", "beta")),
    }
)
"""diffusers; diffusers before its attention classes were merged; CompVis; ports of CompVis' code to MindSpore."""


def renames(spec: VideoAutoencoderSpec, naming: str = "diffusers") -> tuple[Rename, ...]:
    """The published name of every tensor of an `image_vae` spec, by one of `NAMINGS`.

    diffusers has no names for attention between the blocks of a level.

    Raises:
        SpecError: an unknown naming.
    """
    names = one_of("naming", naming, NAMINGS)
    levels = sum(name.startswith("level") for name in spec.encoder.children())
    return (
        *_part_names("encoder", names.down, range(levels), names),
        *_part_names("decoder", names.up, range(levels)[:: -1 if names.finest_first else 1], names),
        Rename("quant_conv.", "encoder.moments."),
        Rename("post_quant_conv.", "decoder.latent."),
    )


def _part_names(part: str, stack: str, numbers: range, names: Naming) -> Iterator[Rename]:
    """The encoder or the decoder, whose own levels 0, 1, ... have the published `numbers`."""
    for end in ("conv_in", "conv_out"):
        yield Rename(f"{part}.{end}.", f"{part}.{end}.")
    yield from norm_names(f"{part}.{names.norm_out}.", f"{part}.norm_out.", names)
    for j, block_name in enumerate(names.middle):
        yield from block_names(f"{part}.{block_name}.", f"{part}.middle.block{j}.", names)
    yield from attention_names(f"{part}.{names.middle_attention}.", f"{part}.middle.attend.", names)
    for i, number in enumerate(numbers):
        yield from level_names(f"{part}.{stack}.{number}.", f"{part}.level{i}.", names)


def level_names(published: str, own: str, names: Naming) -> Iterator[Rename]:
    yield from block_names(f"{published}{names.block}.", f"{own}block{{j}}.", names)
    if names.level_attention:
        yield from attention_names(f"{published}{names.level_attention}.", f"{own}attend{{j}}.", names)
    yield Rename(f"{published}{names.shrink}.", f"{own}down.")
    yield Rename(f"{published}{names.grow}.", f"{own}up.")


def norm_names(published: str, own: str, names: Naming) -> Iterator[Rename]:
    for theirs, tensor in zip(names.scale, ("weight", "bias"), strict=True):
        yield Rename(f"{published}{theirs}", f"{own}{tensor}")


def block_names(published: str, own: str, names: Naming) -> Iterator[Rename]:
    for number, letter in (("1", "a"), ("2", "b")):
        yield from norm_names(f"{published}norm{number}.", f"{own}norm_{letter}.", names)
        yield Rename(f"{published}conv{number}.", f"{own}conv_{letter}.")
    yield Rename(f"{published}{names.shortcut}.", f"{own}shortcut.")


def attention_names(published: str, own: str, names: Naming) -> Iterator[Rename]:
    """Queries, keys and values are one convolution here, three tensors there."""
    norm, *read, out = names.attention
    shape = (0, 0) if names.linear else (0, 0, 1, 1)
    yield from norm_names(f"{published}{norm}.", f"{own}norm.", names)
    yield Rename(tuple(f"{published}{name}.weight" for name in read), f"{own}attend.qkv.weight", "cat", shape=shape)
    yield Rename(tuple(f"{published}{name}.bias" for name in read), f"{own}attend.qkv.bias", "cat")
    yield Rename(f"{published}{out}.weight", f"{own}attend.out.weight", "view", shape=shape)
    yield Rename(f"{published}{out}.bias", f"{own}attend.out.bias")


# --------------------------------------------------------------------------- big frames


def tiling_rule(sample: int, latent: int, overlap: float = 0.25) -> TilingRule:
    """Tiles of `sample` pixels and `latent` cells for frames of which a side is longer than one tile.

    Source: `enable_tiling` of diffusers' `AutoencoderKL`, where it is off by default.
    """
    encode, decode = overlapping(sample, latent, overlap)
    return TilingRule(
        encode=Tiles(space=encode, above=(None, sample, sample)),
        decode=Tiles(space=decode, above=(None, latent, latent)),
    )


TILING: Mapping[str, TilingRule] = MappingProxyType(
    {
        "sd": tiling_rule(512, 64),
        "sd_ft_mse": tiling_rule(256, 32),
        "sdxl": tiling_rule(1024, 128),
        "sd3": tiling_rule(1024, 128),
    }
)
"""The tiles of the releases: their `sample_size` in diffusers (512, but 256 for sd-vae-ft-mse), and an eighth of it."""

image_vae.tiling = TILING  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what training minimises

OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "kl_f8": latent_diffusion(Patch2dSpec(), kl=KLSpec(weight=1e-6, per="frame")),
        "ft_ema": ObjectiveSpec(terms={"nll": NLLSpec(perceptual=1.0)}, frozen=("encoder",)),
        "ft_mse": ObjectiveSpec(terms={"l2": L2Spec(), "lpips": LPIPSSpec(weight=0.1)}, frozen=("encoder",)),
    }
)
"""kl_f8: `autoencoder_kl_32x32x4.yaml` of latent-diffusion. ft_ema and ft_mse: the decoder alone, as the model cards of
Stability AI put it in words (L1 and LPIPS; MSE and 0.1 LPIPS); neither code nor reductions are published."""

image_vae.objectives = OBJECTIVES  # type: ignore[attr-defined]
