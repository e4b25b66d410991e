"""The video VAE of Wan 2.1: "Wan: Open and Advanced Large-Scale Video Generative Models", arXiv 2503.20314.

A lead frame, then groups of four; 4x8x8 compression, causal throughout. Norms are over the channels of a pixel and
attention is within each frame, so that no frame sees a later one. In front of a clip stand zeros. Where the frame rate
halves, the lead passes as it is, and the first frame behind it sees it; where it doubles, the lead passes as it is,
and nothing behind it sees it there. Code: `WanVAE_` of github.com/Wan-Video/Wan2.1, wan/modules/vae.py, and
`AutoencoderKLWan` of github.com/huggingface/diffusers, which name the same tensors differently (`renames`).

Both codes take clips of 1 + 4k frames in chunks of one frame, then four, and drop what is left over without a word. Run
without their lists of kept frames, they change no frame rate. Not here: Wan 2.2's VAE, which has other shortcuts and
reads pixels in patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from vvae.arch.image_vae import tiling_rule
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import ClampSpec, SiLUSpec
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.compose import AfterLeadSpec, ChainSpec, ResidualSpec, chain
from vvae.layers.conv import CausalConv3dSpec, FrameConv2dSpec
from vvae.layers.lead import LeadPassesBySpec
from vvae.layers.norm import ChannelRMSNormSpec
from vvae.layers.space import ChannelInterleaveSpec, SpatialDownsampleSpec, SpatialUpsampleSpec
from vvae.layers.time import ChannelToTimeSpec
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.spec import LayerSpec, Spec, one_of, with_variant
from vvae.tiling.rules import TilingRule

MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
DEVIATION = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
"""Of each latent channel, over the authors' clips."""


def scaling(mean: tuple[float, ...], deviation: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """The fields `shift` and `scale` for the published mean and deviation of each channel.

    Raises:
        SpecError: a deviation of 0.
    """
    if 0 in deviation:
        raise SpecError(f"latents_std {deviation} holds a 0, by which nothing is divided; give deviations above it")
    return {"shift": mean, "scale": tuple(1 / value for value in deviation)}


VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"2.1": {"latent_channels": 16, **scaling(MEAN, DEVIATION)}}
)

LIMITS = (-30.0, 20.0)
SILU, NORM = SiLUSpec(), ChannelRMSNormSpec()


class WanFields(Spec):
    """What a VAE of Wan is made of.

    `multipliers` times `width` are the channels of the levels, the finest first (times `decoder_width` in the decoder;
    `width` if None). Between levels the size halves, and the frame rate with it where `temporal` says so. The encoder
    has `blocks` residual blocks at each level, the decoder one more. `shift` and `scale` are those of the latents for a
    diffusion model, one number or one for each channel. `clamp` keeps what comes back within [-1, 1]; past that no
    gradient passes.
    """

    name: str | None = None
    channels: PositiveInt = 3
    width: PositiveInt = 96
    decoder_width: PositiveInt | None = None
    multipliers: tuple[PositiveInt, ...] = Field((1, 2, 4, 4), min_length=1)
    temporal: tuple[bool, ...] = (False, True, True)
    blocks: PositiveInt = 2
    latent_channels: PositiveInt = 16
    shift: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0
    clamp: bool = True

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        steps = len(self.multipliers) - 1
        if len(self.temporal) != steps:
            raise SpecError(f"{steps + 1} multipliers need {steps} temporal, found {len(self.temporal)}")
        return self

    @property
    def group(self) -> int:
        """Frames for each latent position behind the first."""
        return int(2 ** sum(self.temporal))


def wan(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of a VAE of Wan: a released variant (`wan.variants`), or any other by its fields.

    The fields are those of `WanFields`; they override the variant's.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = WanFields(**with_variant(variant, VARIANTS, fields))
    return VideoAutoencoderSpec(
        name=given.name or f"wan_{variant or f'z{given.latent_channels}_dim{given.width}'}",
        encoder=encoder(given),
        decoder=decoder(given),
        framing=Framing(channels=given.channels, lead=1, group=given.group),
        posterior=PosteriorSpec(limits=LIMITS),
        latent=Affine(shift=given.shift, scale=given.scale),
    )


wan.variants = VARIANTS  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- the network


def encoder(given: WanFields) -> ChainSpec:
    """The encoder, which gives moments."""
    width_in = given.width
    layers: dict[str, LayerSpec] = {"conv_in": causal(width_in)}
    for i, multiplier in enumerate(given.multipliers):
        width = given.width * multiplier
        level = _blocks(given.blocks, width_in, width)
        if i < len(given.temporal):
            level["down"] = SpatialDownsampleSpec(channels=width)
            if given.temporal[i]:
                level["time"] = fewer_frames(width)
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    moments = FrameConv2dSpec(channels=2 * given.latent_channels, kernel=1)
    return ChainSpec(
        layers={**layers, "middle": _middle(width_in), **_end(2 * given.latent_channels), "moments": moments}
    )


def decoder(given: WanFields) -> ChainSpec:
    """The decoder; its own levels are counted as they run, the coarsest first. Each change of size halves the width."""
    widths = [(given.decoder_width or given.width) * multiplier for multiplier in reversed(given.multipliers)]
    width_in = widths[0]
    layers: dict[str, LayerSpec] = {
        "latent": FrameConv2dSpec(channels=given.latent_channels, kernel=1),
        "conv_in": causal(width_in),
        "middle": _middle(width_in),
    }
    for i, width in enumerate(widths):
        level = _blocks(given.blocks + 1, width_in, width)
        if i < len(given.temporal):
            if given.temporal[-1 - i]:
                level["time"] = more_frames(width)
            width_in = max(1, width // 2)
            level["up"] = SpatialUpsampleSpec(channels=width_in)
        layers[f"level{i}"] = ChainSpec(layers=level)
    clamp = {"clamp": ClampSpec()} if given.clamp else {}
    return ChainSpec(layers={**layers, **_end(given.channels), **clamp})


def causal(channels: int) -> CausalConv3dSpec:
    """3x3x3, zeros in front of the clip. Source: `CausalConv3d`, `WanCausalConv3d`."""
    return CausalConv3dSpec(channels=channels, before="zero")


def block(width_in: int, width: int) -> ResidualSpec:
    """A residual block. Source: `ResidualBlock`, `WanResidualBlock`."""
    shortcut = None if width_in == width else FrameConv2dSpec(channels=width, kernel=1)
    return residual_block(causal(width), norm=NORM, shortcut=shortcut)


def fewer_frames(width: int) -> LeadPassesBySpec:
    """Half the frames behind the lead, which each sees two before it. Source: `Resample`, "downsample3d"."""
    conv = CausalConv3dSpec(channels=width, kernel=(3, 1, 1), stride=2, before="zero")
    return LeadPassesBySpec(layers={"conv": conv})


def more_frames(width: int) -> AfterLeadSpec:
    """Twice the frames behind the lead. Source: `Resample`, "upsample3d", where zeros stand in the lead's place."""
    conv = CausalConv3dSpec(channels=2 * width, kernel=(3, 1, 1), before="zero")
    # the channels of the first frame come before those of the second
    order = ChannelInterleaveSpec(outer=2, inner=width)
    return AfterLeadSpec(layers={"conv": conv, "order": order, "frames": ChannelToTimeSpec()})


def _blocks(count: int, width_in: int, width: int) -> dict[str, LayerSpec]:
    return {f"block{j}": block(width_in if j == 0 else width, width) for j in range(count)}


def _middle(width: int) -> ChainSpec:
    return chain(block0=block(width, width), attend=attention_block(norm=NORM), block1=block(width, width))


def _end(channels: int) -> dict[str, LayerSpec]:
    return {"norm_out": NORM, "act_out": SILU, "conv_out": causal(channels)}


# --------------------------------------------------------------------------- published options

DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "base_dim": 96,
        "decoder_base_dim": None,
        "z_dim": 16,
        "dim_mult": (1, 2, 4, 4),
        "num_res_blocks": 2,
        "temperal_downsample": (False, True, True),
        "latents_mean": MEAN,
        "latents_std": DEVIATION,
        "in_channels": 3,
    }
)
"""The arguments of diffusers' constructor that say something here."""
OTHERS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"attn_scales": ((), []), "is_residual": (False,), "patch_size": (None, 1)}
)
"""Arguments that would make another network, and what they are in Wan 2.1."""


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for the arguments of diffusers' constructor; arguments that it does not know are ignored.

    Raises:
        SpecError: an argument that makes another network, such as that of Wan 2.2; a deviation of 0.
    """
    for name, usual in OTHERS.items():
        if name in config and config[name] not in usual:
            raise SpecError(f"{name} {config[name]} makes another network than Wan 2.1's; it must be {usual[0]}")
    given = {**DEFAULTS, **config}
    return {
        "channels": given["in_channels"],
        "width": given["base_dim"],
        "decoder_width": given["decoder_base_dim"] or given["base_dim"],
        "multipliers": tuple(given["dim_mult"]),
        "temporal": tuple(given["temperal_downsample"]),
        "blocks": given["num_res_blocks"],
        "latent_channels": given["z_dim"],
        **scaling(tuple(given["latents_mean"]), tuple(given["latents_std"])),
    }


# --------------------------------------------------------------------------- published names


@dataclass(frozen=True)
class Naming:
    """What a published code calls the parts of encoder and decoder.

    ends: `conv_in`, `norm_out`, `conv_out`. middle: block, attention, block. block: its norms and convolutions as they
    run, and the shortcut. encoder: a block or a change of size; decoder: the same apart. Of these `{i}` counts levels,
    `{j}` the blocks of a level, and `{n}` both blocks and changes of size. around: the convolutions at the latents.
    """

    ends: tuple[str, str, str]
    middle: tuple[str, str, str]
    block: tuple[str, str, str, str, str]
    encoder: tuple[str, str]
    decoder: tuple[str, str]
    around: tuple[str, str]


NAMINGS: Mapping[str, Naming] = MappingProxyType(
    {
        "diffusers": Naming(
            ends=("conv_in", "norm_out", "conv_out"),
            middle=("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
            block=("norm1", "conv1", "norm2", "conv2", "conv_shortcut"),
            encoder=("down_blocks.{n}", "down_blocks.{n}"),
            decoder=("up_blocks.{i}.resnets.{j}", "up_blocks.{i}.upsamplers.0"),
            around=("quant_conv", "post_quant_conv"),
        ),
        "authors": Naming(
            ends=("conv1", "head.0", "head.2"),
            middle=("middle.0", "middle.1", "middle.2"),
            block=("residual.0", "residual.2", "residual.3", "residual.6", "shortcut"),
            encoder=("downsamples.{n}", "downsamples.{n}"),
            decoder=("upsamples.{n}", "upsamples.{n}"),
            around=("conv1", "conv2"),
        ),
    }
)
"""diffusers; the code of Wan itself."""


def renames(spec: VideoAutoencoderSpec, naming: str = "diffusers") -> tuple[Rename, ...]:
    """The published name of every tensor of a `wan` spec, by one of `NAMINGS`.

    Raises:
        SpecError: an unknown naming.
    """
    names = one_of("naming", naming, NAMINGS)
    moments, latent = names.around
    return (
        *_part_names("encoder", spec.encoder, names.encoder, names),
        *_part_names("decoder", spec.decoder, names.decoder, names),
        *_pointwise_names(f"{moments}.", "encoder.moments."),
        *_pointwise_names(f"{latent}.", "decoder.latent."),
    )


def _part_names(part: str, layers: LayerSpec, places: tuple[str, str], names: Naming) -> Iterator[Rename]:
    """The encoder or the decoder; `places` are those of a block and of a change of size."""
    conv_in, norm_out, conv_out = names.ends
    yield Rename(f"{part}.{conv_in}.", f"{part}.conv_in.")
    yield _norm_name(f"{part}.{norm_out}", f"{part}.norm_out", axes=3)
    yield Rename(f"{part}.{conv_out}.", f"{part}.conv_out.")
    before, attend, behind = names.middle
    yield from _block_names(f"{part}.{before}.", f"{part}.middle.block0.", names)
    yield from _attention_names(f"{part}.{attend}.", f"{part}.middle.attend.")
    yield from _block_names(f"{part}.{behind}.", f"{part}.middle.block1.", names)
    levels = [level for name, level in layers.children().items() if name.startswith("level")]
    n = 0
    for i, level in enumerate(levels):
        blocks = sum(name.startswith("block") for name in level.children())
        for j in range(blocks):
            published = places[0].format(i=i, j=j, n=n + j)
            yield from _block_names(f"{part}.{published}.", f"{part}.level{i}.block{j}.", names)
        yield from _resample_names(f"{part}.{places[1].format(i=i, n=n + blocks)}.", f"{part}.level{i}.")
        n += blocks + 1


def _block_names(published: str, own: str, names: Naming) -> Iterator[Rename]:
    norm_a, conv_a, norm_b, conv_b, shortcut = names.block
    for letter, norm, conv in (("a", norm_a, conv_a), ("b", norm_b, conv_b)):
        yield _norm_name(f"{published}{norm}", f"{own}norm_{letter}", axes=3)
        yield Rename(f"{published}{conv}.", f"{own}conv_{letter}.")
    yield from _pointwise_names(f"{published}{shortcut}.", f"{own}shortcut.")


def _attention_names(published: str, own: str) -> Iterator[Rename]:
    yield _norm_name(f"{published}norm", f"{own}norm", axes=2)
    yield Rename(f"{published}to_qkv.", f"{own}attend.qkv.")
    yield Rename(f"{published}proj.", f"{own}attend.out.")


def _resample_names(published: str, own: str) -> Iterator[Rename]:
    for way in ("down", "up"):
        yield Rename(f"{published}resample.1.", f"{own}{way}.")
    yield Rename(f"{published}time_conv.", f"{own}time.conv.")


def _norm_name(published: str, own: str, *, axes: int) -> Rename:
    """A weight with so many axes of 1 behind the channels."""
    return Rename(f"{published}.gamma", f"{own}.weight", "view", shape=(0, *[1] * axes))


def _pointwise_names(published: str, own: str) -> Iterator[Rename]:
    """A convolution that sees one frame only, but has an axis of time there."""
    yield Rename(f"{published}weight", f"{own}weight", "view", shape=(0, 0, 1, 1, 1))
    yield Rename(f"{published}bias", f"{own}bias")


# --------------------------------------------------------------------------- big frames

TILING: Mapping[str, TilingRule] = MappingProxyType({"2.1": tiling_rule(256, 32)})
"""The tiles of diffusers' `enable_tiling`, where it is off by default. Theirs are blended before they are clamped."""

wan.tiling = TILING  # type: ignore[attr-defined]
