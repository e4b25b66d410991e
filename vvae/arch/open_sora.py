"""The video VAE of Open-Sora 1.2: an image VAE for every frame, and a temporal VAE for its latents. No paper.

The temporal VAE (after MAGVIT-v2, arXiv 2310.05737, without its codebook) completes a clip with zero latents in front,
so that groups of four end with it; its convolutions are causal, its group norms go over the clip. 4x8x8 compression.
The release cuts clips into pieces of 17 frames ("micro-frames") that pass by themselves. Code and report:
github.com/hpcaitech/Open-Sora, tag v1.2.0, opensora/models/vae and docs/report_03.md. The image VAE is SDXL's, its
latents times 0.18215, which are not SDXL's 0.13025: an oversight of the release that its weights have learned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias, cast

from pydantic import PositiveInt, field_validator, model_validator

from vvae.arch.image_vae import ACTIVATIONS, LIMITS, ImageVAEFields, image_vae
from vvae.arch.image_vae import published_fields as image_fields
from vvae.arch.image_vae import renames as image_renames
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers.activation import SiLUSpec
from vvae.layers.blocks import residual_block
from vvae.layers.compose import ChainSpec, ResidualSpec, chain
from vvae.layers.conv import CausalConv3dSpec, FrameConv2dSpec
from vvae.layers.front import DropFrontSpec, FillFrontSpec
from vvae.layers.latent import PosteriorDrawSpec, ShiftScaleSpec
from vvae.layers.lone import LoneFramesSpec
from vvae.layers.norm import ClipGroupNormSpec, FrameGroupNormSpec
from vvae.layers.time import ChannelToTimeSpec
from vvae.losses.objective import ObjectiveSpec
from vvae.losses.term_specs import KLSpec, NLLSpec
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.spec import AnyLayer, LayerSpec, Spec, one_of, with_variant
from vvae.tiling.rules import Tiles, TilingRule

Component: TypeAlias = Literal["pipeline", "spatial", "temporal"]
Numbers: TypeAlias = float | tuple[float, ...]

IMAGE_SCALE = 0.18215
EPS = 1e-5
AT_ONCE = 2  # the release has 4, which takes twice the memory, is no faster and gives the same
SILU = SiLUSpec()


def float32(value: float) -> float:
    """The number as a checkpoint of float32 keeps it."""
    kept: float = struct.unpack("f", struct.pack("f", value))[0]
    return kept


VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v1_2": {
            "piece": 17,
            "at_once": AT_ONCE,
            "shift": tuple(map(float32, (-0.10, 0.34, 0.27, 0.98))),
            "scale": tuple(1 / float32(published) for published in (3.85, 2.32, 2.33, 3.06)),
        },
        "v1_2_temporal": {"component": "temporal"},
        "v1_2_spatial": {"component": "spatial", "at_once": AT_ONCE},
    }
)
"""The release (`OpenSoraVAE_V1_2`), and its parts as published alone (`VAE_Temporal_SD`, `VideoAutoencoderKL`).

Its code divides by the numbers whose reciprocals are here.
"""


class OpenSoraFields(Spec):
    """What an Open-Sora VAE is made of.

    `component` is the whole, or one of its parts alone: `spatial` reads frames, `temporal` the latents of frames.
    `spatial` are the fields of the image VAE, whose shift and scale stand between the parts; `at_once` frames of it run
    at one time, all of them if None: fewer take less memory and give the same. Of the temporal VAE `multipliers` times
    `width` are the channels of the levels, the finest first; between levels the frame rate halves where `temporal` says
    so. It has `blocks` residual blocks at each level and as many at the end; `groups` are those of its norms, `act` its
    activation. It works on `inner_channels` around the latents (as many as the latents have if None). `piece` is how
    many frames pass by themselves (`micro_frame_size` of the code; None: all); `shift` and `scale` are what a diffusion
    model sees.
    """

    name: str | None = None
    component: Component = "pipeline"
    spatial: ImageVAEFields = ImageVAEFields(scale=IMAGE_SCALE)
    at_once: PositiveInt | None = None
    width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    blocks: PositiveInt = 4
    temporal: tuple[bool, ...] = (False, True, True)
    groups: PositiveInt = 32
    act: AnyLayer = SILU
    latent_channels: PositiveInt = 4
    inner_channels: PositiveInt | None = None
    piece: PositiveInt | None = None
    shift: Numbers = 0.0
    scale: Numbers = 1.0

    @field_validator("spatial", mode="before")
    @classmethod
    def _published_scale(cls, given: Any) -> Any:
        return {"scale": IMAGE_SCALE, **given} if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        levels = len(self.multipliers)
        if not levels or len(self.temporal) != levels - 1:
            raise SpecError(f"{levels} multipliers need {max(levels - 1, 0)} temporal, found {len(self.temporal)}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * m for m in self.multipliers)

    @property
    def inner(self) -> int:
        return self.inner_channels or self.latent_channels


def open_sora(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The spec of Open-Sora 1.2's VAE or of a part of it: a variant (`open_sora.variants`), or any other by its fields.

    The fields are those of `OpenSoraFields`; they override the variant's. Group norms go over the clip, or over the
    piece, so that a stream goes piece by piece.

    Raises:
        SpecError: an unknown variant or field, values that do not fit each other.
    """
    given = _given(variant, fields)
    return _spec(given, ClipGroupNormSpec(groups=given.groups, eps=EPS), f"open_sora_{variant or f'dim{given.width}'}")


open_sora.variants = VARIANTS  # type: ignore[attr-defined]


def open_sora_causal(variant: str | None = None, **fields: Any) -> VideoAutoencoderSpec:
    """The same with norms per frame and without pieces, unless `piece` is given: no frame sees a later group.

    A stream's first chunk carries (frames - 1) % 4 + 1 frames and then whole groups of 4, every other one whole groups.
    It is no release; weights of `open_sora` fit it, but were not trained for it.

    Raises:
        SpecError: as `open_sora`.
    """
    given = _given(variant, {"piece": None, **fields})
    norm = FrameGroupNormSpec(groups=given.groups, eps=EPS)
    return _spec(given, norm, f"open_sora_causal_{variant or f'dim{given.width}'}")


open_sora_causal.variants = VARIANTS  # type: ignore[attr-defined]


def _given(variant: str | None, fields: Mapping[str, Any]) -> OpenSoraFields:
    return OpenSoraFields(**with_variant(variant, VARIANTS, fields))


def _spec(given: OpenSoraFields, norm: LayerSpec, name: str) -> VideoAutoencoderSpec:
    make = {"pipeline": _pipeline, "spatial": _spatial, "temporal": _temporal}[given.component]
    suffix = "" if given.component == "pipeline" or name.endswith(given.component) else f"_{given.component}"
    spec = make(given, norm)
    return spec.replace(name=given.name or f"{name}{suffix}")


def _pipeline(given: OpenSoraFields, norm: LayerSpec) -> VideoAutoencoderSpec:
    """The latents of the image VAE are drawn, scaled and read by the temporal VAE; back the same way."""
    spatial, temporal = _spatial(given, norm), _temporal(given, norm)
    shift, scale = given.spatial.shift, given.spatial.scale
    encode = {"image": spatial.encoder, "draw": PosteriorDrawSpec(limits=LIMITS)}
    decode = {"scale": ShiftScaleSpec(shift=-shift * scale, scale=1 / scale), "image": spatial.decoder}
    return temporal.replace(
        encoder=chain(
            spatial=ChainSpec(layers={**encode, "scale": ShiftScaleSpec(shift=shift, scale=scale)}),
            temporal=temporal.encoder,
        ),
        decoder=chain(temporal=temporal.decoder, spatial=ChainSpec(layers=decode)),
        framing=temporal.framing.replace(channels=given.spatial.channels),
    )


def _spatial(given: OpenSoraFields, norm: LayerSpec) -> VideoAutoencoderSpec:
    """The image VAE, its frames each by itself."""
    made = image_vae(**dict(given.spatial))
    parts = {part: cast(ChainSpec, getattr(made, part)).layers for part in ("encoder", "decoder")}
    return made.replace(**{part: LoneFramesSpec(layers=own, at_once=given.at_once) for part, own in parts.items()})


def _temporal(given: OpenSoraFields, norm: LayerSpec) -> VideoAutoencoderSpec:
    return VideoAutoencoderSpec(
        name="temporal",
        encoder=ChainSpec(layers=_encoder(given, norm)),
        decoder=ChainSpec(layers=_decoder(given, norm)),
        framing=Framing(
            channels=given.spatial.latent_channels,
            lead=0,
            group=2 ** sum(given.temporal),
            piece=given.piece,
            surplus="front",
        ),
        posterior=PosteriorSpec(limits=LIMITS),
        latent=Affine(shift=given.shift, scale=given.scale),
    )


def _encoder(given: OpenSoraFields, norm: LayerSpec) -> dict[str, LayerSpec]:
    width_in = given.width
    layers: dict[str, LayerSpec] = {"fill": FillFrontSpec(), "conv_in": _conv(width_in, bias=False)}
    for i, width in enumerate(given.widths):
        level = _blocks(given, width_in, width, norm)
        if i < len(given.temporal) and given.temporal[i]:
            level["down"] = _conv(width, stride=2)
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    return {
        **layers,
        "middle": ChainSpec(layers=_blocks(given, width_in, width_in, norm)),
        "norm_out": norm,
        "act_out": given.act,
        "conv_out": FrameConv2dSpec(channels=2 * given.inner, kernel=1),
        "moments": FrameConv2dSpec(channels=2 * given.latent_channels, kernel=1),
    }


def _decoder(given: OpenSoraFields, norm: LayerSpec) -> dict[str, LayerSpec]:
    """Its levels are counted as they run, the coarsest first."""
    width_in = given.widths[-1]
    layers: dict[str, LayerSpec] = {
        "latent": FrameConv2dSpec(channels=given.inner, kernel=1),
        "conv_in": _conv(width_in),
        "middle": ChainSpec(layers=_blocks(given, width_in, width_in, norm)),
    }
    for i, (width, faster) in enumerate(zip(given.widths[::-1], (*given.temporal[::-1], False), strict=True)):
        level = _blocks(given, width_in, width, norm)
        if faster:
            level["up"] = chain(conv=_conv(2 * width), time=ChannelToTimeSpec())
        layers[f"level{i}"] = ChainSpec(layers=level)
        width_in = width
    return {
        **layers,
        "norm_out": norm,
        "act_out": given.act,
        "conv_out": _conv(given.spatial.latent_channels),
        "drop": DropFrontSpec(),
    }


def _blocks(given: OpenSoraFields, width_in: int, width: int, norm: LayerSpec) -> dict[str, LayerSpec]:
    widths = (width_in, *[width] * (given.blocks - 1))
    return {f"block{j}": block(before, width, norm, given.act) for j, before in enumerate(widths)}


def block(width_in: int, width: int, norm: LayerSpec, act: LayerSpec = SILU) -> ResidualSpec:
    """A residual block of causal convolutions. Source: `ResBlock`."""
    shortcut = None if width_in == width else FrameConv2dSpec(channels=width, kernel=1, bias=False)
    return residual_block(_conv(width, bias=False), norm=norm, act=act, shortcut=shortcut)


def _conv(width: int, *, stride: int = 1, bias: bool = True) -> CausalConv3dSpec:
    return CausalConv3dSpec(channels=width, stride=stride, before="zero", bias=bias)


# --------------------------------------------------------------------------- published options


def published_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields for the published arguments of `VideoAutoencoderPipeline`, `VideoAutoencoderKL` or `VAE_Temporal`.

    Raises:
        SpecError: an activation that the code does not have.
    """
    if "vae_temporal" in config:
        image = config["vae_2d"].get("autoencoder_kl", config["vae_2d"])
        at_once = config.get("micro_batch_size", config["vae_2d"].get("micro_batch_size"))
        own = {"component": "pipeline", "spatial": _image_fields(image), "at_once": at_once}
        return {**_temporal_fields(config["vae_temporal"]), **own, **published_constants(config)}
    if "autoencoder_kl" in config:
        return {
            "component": "spatial",
            "spatial": _image_fields(config["autoencoder_kl"]),
            "at_once": config.get("micro_batch_size"),
        }
    return _temporal_fields(config)


def published_constants(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that stand in no tensor's shape, as far as the pipeline's configuration gives them."""
    found: dict[str, Any] = {"piece": config["micro_frame_size"]} if "micro_frame_size" in config else {}
    for name, invert in (("shift", False), ("scale", True)):
        if name in config:
            found[name] = _constant(config[name], invert)
    return found


def _constant(published: float | Sequence[float], invert: bool) -> Numbers:
    """Numbers as a checkpoint keeps them; the code divides by its scale."""
    if isinstance(published, Sequence):
        return tuple(cast(float, _constant(number, invert)) for number in published)
    return 1 / float32(published) if invert else float32(published)


def _image_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    # the code reads no other scale than its own
    return {**image_fields(config), "scale": IMAGE_SCALE, "shift": 0.0}


def _temporal_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    act = one_of("activation", config["activation_fn"], ACTIVATIONS)
    return {
        "component": "temporal",
        "spatial": {"latent_channels": config["in_out_channels"]},
        "width": config["filters"],
        "multipliers": tuple(config["channel_multipliers"]),
        "blocks": config["num_res_blocks"],
        "temporal": tuple(config["temporal_downsample"]),
        "groups": config["num_groups"],
        "act": act,
        "latent_channels": config["embed_dim"],
        "inner_channels": config["latent_embed_dim"],
    }


# --------------------------------------------------------------------------- published names

NAMINGS: tuple[Component, ...] = ("pipeline", "temporal", "spatial")
"""Names as each class of the code gives them to its own tensors; in the whole those of a part stand behind a prefix."""


def renames(spec: VideoAutoencoderSpec, naming: str | None = None) -> tuple[Rename, ...]:
    """The published name of every tensor of an `open_sora` spec; `naming` is that of its component.

    The tensors `shift` and `scale` of the whole are numbers of its spec; they are kept beside the model.

    Raises:
        SpecError: a naming of another component.
    """
    component = _component(spec)
    if naming not in (None, component):
        raise SpecError(f"{spec.name} is the {component} component; it has no names of {naming!r}; give {component!r}")
    if component == "spatial":
        return tuple(_image_names(spec, "module.", "", spec.encoder, spec.decoder))
    if component == "temporal":
        return tuple(_temporal_names("", "", spec.encoder))
    encoder, decoder = (cast(ChainSpec, part).layers for part in (spec.encoder, spec.decoder))
    image = (cast(ChainSpec, part["spatial"]).layers["image"] for part in (encoder, decoder))
    return (
        *_image_names(spec, "spatial_vae.module.", ".spatial.image", *image),
        *_temporal_names("temporal_vae.", ".temporal", encoder["temporal"]),
        Rename("scale", None),
        Rename("shift", None),
    )


def _component(spec: VideoAutoencoderSpec) -> Component:
    if "spatial" in spec.encoder.children():
        return "pipeline"
    return "temporal" if "fill" in spec.encoder.children() else "spatial"


def _image_names(
    spec: VideoAutoencoderSpec, published: str, inside: str, encoder: LayerSpec, decoder: LayerSpec
) -> Iterator[Rename]:
    """The names of the image VAE of diffusers behind a prefix; its own stand inside encoder and decoder."""
    alone = VideoAutoencoderSpec(
        name="spatial", encoder=encoder, decoder=decoder, framing=Framing(channels=spec.pixels.channels)
    )
    for row in image_renames(alone):
        names = tuple(f"{published}{name}" for name in row.sources)
        part, _, rest = str(row.own).partition(".")
        yield replace(row, published=names if len(names) > 1 else names[0], own=f"{part}{inside}.{rest}")


def _temporal_names(published: str, inside: str, encoder: LayerSpec) -> Iterator[Rename]:
    """The published code counts the levels of both parts from the finest, ours as they run."""
    levels = sum(name.startswith("level") for name in encoder.children())
    for part, first in (("encoder", "conv_in"), ("decoder", "conv1")):
        yield Rename(f"{published}{part}.{first}.conv.", f"{part}{inside}.conv_in.")
        yield from block_names(f"{published}{part}.res_blocks.{{j}}.", f"{part}{inside}.middle.block{{j}}.")
        yield Rename(f"{published}{part}.norm1.", f"{part}{inside}.norm_out.")
    yield from _pointwise(f"{published}encoder.conv2.conv.", f"encoder{inside}.conv_out.")
    yield from _pointwise(f"{published}quant_conv.conv.", f"encoder{inside}.moments.")
    yield from _pointwise(f"{published}post_quant_conv.conv.", f"decoder{inside}.latent.")
    yield Rename(f"{published}decoder.conv_out.conv.", f"decoder{inside}.conv_out.")
    for level in range(levels):
        place, run = f"block_res_blocks.{level}.{{j}}.", levels - 1 - level
        yield from block_names(f"{published}encoder.{place}", f"encoder{inside}.level{level}.block{{j}}.")
        yield from block_names(f"{published}decoder.{place}", f"decoder{inside}.level{run}.block{{j}}.")
        if run:
            yield Rename(f"{published}encoder.conv_blocks.{level}.conv.", f"encoder{inside}.level{level}.down.")
            yield Rename(f"{published}decoder.conv_blocks.{level}.conv.", f"decoder{inside}.level{run - 1}.up.conv.")


def block_names(published: str, own: str) -> Iterator[Rename]:
    for number, letter in (("1", "a"), ("2", "b")):
        yield Rename(f"{published}norm{number}.", f"{own}norm_{letter}.")
        yield Rename(f"{published}conv{number}.conv.", f"{own}conv_{letter}.")
    yield from _pointwise(f"{published}conv3.conv.", f"{own}shortcut.")


def _pointwise(published: str, own: str) -> Iterator[Rename]:
    """A convolution of kernel 1: over clips in the published code, per frame here."""
    yield Rename(f"{published}weight", f"{own}weight", "view", shape=(0, 0, 1, 1, 1))
    yield Rename(f"{published}bias", f"{own}bias")


# --------------------------------------------------------------------------- clips that are too long for the release

_AS_IT_IS = Tiles(above=(None, None, None))

TILING: Mapping[str, TilingRule] = MappingProxyType({"v1_2": TilingRule(encode=_AS_IT_IS, decode=_AS_IT_IS)})
"""The release cuts clips into the pieces that the spec has already, and frames not at all: its rule adds nothing."""

open_sora.tiling = TILING  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what training minimises

_BETWEEN = NLLSpec(source="encoder.spatial", result="decoder.temporal")
_SAME = NLLSpec(source="encoder.spatial", result="latents", single_frames=True)

OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "stage1": ObjectiveSpec(
            terms={"latents": _BETWEEN, "identity": _SAME}, frozen=("encoder.spatial", "decoder.spatial")
        ),
        "stage2": ObjectiveSpec(terms={"latents": _BETWEEN}),
        "stage3": ObjectiveSpec(terms={"nll": NLLSpec(perceptual=0.1), "kl": KLSpec(weight=1e-6)}),
    }
)
"""Stages 1 and 2 compare the latents of the frames with what the temporal part makes of them, and have neither pixels
nor KL; stage 1 asks that single frames stay as they are. In stage 2 the target learns, too. No stage has a game."""

open_sora.objectives = OBJECTIVES  # type: ignore[attr-defined]
