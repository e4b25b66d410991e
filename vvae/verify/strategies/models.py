"""Whole video autoencoders, drawn at random: every field of the spec, in networks that build in milliseconds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal, TypeAlias, get_args

from hypothesis import strategies as st

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.content import ContentSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers import (
    CausalConv3dSpec,
    ChainSpec,
    ContentAttentionSpec,
    DropFrontSpec,
    FillFrontSpec,
    FrameConv2dSpec,
    ResidualSpec,
)
from vvae.scaling import Affine, ClipNorm, LatentScaling
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies.clips import CONTENT
from vvae.verify.strategies.in_space import IN_SPACE
from vvae.verify.strategies.layers import BOUND, FRONT, HELD_BACK, LEAVES, READS, WHOLE_CLIP, draw_leaf
from vvae.verify.strategies.trees import Choice, draw_row
from vvae.verify.strategies.wiring import GROUPS, mend

IMAGES = tuple(kind for kind in IN_SPACE if kind not in READS)
"""Kinds that stages of a content are made of."""
Passes: TypeAlias = Literal["whole", "pieces", "front"]
"""How a clip passes: as it is, in pieces, or completed in front."""
_SHORTER = (
    "temporal_downsample",
    "causal_conv3d",
    "temporal_subsample",
    "causal_average",
    "average3d",
    "look_ahead_conv",
)
_NUMBERS = st.sampled_from([0.0, 0.5, -2.0])


@st.composite
def model_specs(draw: st.DrawFn, *, stream: bool = False, content: bool = True, depth: int = 1) -> VideoAutoencoderSpec:
    """Video autoencoders of any framing; `stream`: only such that encode and decode streams. With `content` some have
    one.

    A clip passes whole, in pieces, or completed in front. Every clip comes back at its own size.

    >>> model_specs().example().build()  # doctest: +SKIP
    """
    passes: Passes = draw(st.sampled_from(get_args(Passes)))
    lead = 0 if passes == "front" else draw(st.integers(0, 1))
    pixels = Signal(draw(st.integers(1, 3)), lead, draw(st.sampled_from([1, 2, 4, 2, 4])))
    choice = _choice(passes, depth, stream)
    encoder, moments = _encoder(draw, pixels, choice, front=passes == "front")
    latents = moments.with_channels(moments.channels // 2)
    image = draw(st.none() | _contents(pixels)) if content else None
    read = replace(latents, content={} if image is None else image.trace(pixels))
    spec = VideoAutoencoderSpec(
        name="drawn",
        encoder=encoder,
        decoder=_decoder(draw, read, pixels, choice, front=passes == "front"),
        framing=Framing(
            channels=pixels.channels,
            lead=pixels.lead,
            group=pixels.group,
            piece=pixels.frames(GROUPS) if passes == "pieces" else None,
            surplus="front" if passes == "front" else "end",
        ),
        posterior=draw(_POSTERIORS),
        latent=draw(_scalings(latents.channels, affine=choice.stream)),
        content=image,
    )
    return _renewed(spec) if draw(st.booleans()) else spec


def _choice(passes: Passes, depth: int, stream: bool) -> Choice:
    """What layers may be drawn for clips that pass so."""
    without, more = FRONT | BOUND, tuple[str, ...]()
    if passes == "pieces":  # each passes whole, so that any layer streams
        stream, more = False, (*BOUND, *BOUND)
    elif passes == "front":
        # a frame of zeros is the same everywhere, so that attention among such frames sees less than it declares; and
        # a stream that is completed in front holds nothing back
        without |= {"misfolded_attention"} | (HELD_BACK if stream else frozenset())
    if stream:
        without |= WHOLE_CLIP
    return Choice((*(kind for kind in LEAVES if kind not in without), *more), depth, stream, keep_lead=True)


_POSTERIORS = st.builds(
    PosteriorSpec,
    limits=st.sampled_from([None, (-30.0, 20.0), (-1.0, 1.0)]),
    limits_of=st.sampled_from(["moments", "sample"]),
)


def _encoder(draw: st.DrawFn, pixels: Signal, choice: Choice, *, front: bool) -> tuple[LayerSpec, Signal]:
    """Layers whose cells are whole pixels, the last of which mixes all channels; and the moments."""
    layers, out = draw_row(draw, pixels, choice, most=3)
    if pixels.group > 1 and draw(st.booleans()):
        shorter = draw_leaf(draw, out, st.sampled_from([kind for kind in _SHORTER if kind in choice.kinds]))
        if (after := choice.after(shorter, out)) is not None:
            layers["shorter"], out = shorter, after
    if out.stride.denominator > 1 and (smaller := mend(out, out.with_stride(Fraction(1)))):
        layers["smaller"] = smaller
        out = out.with_stride(Fraction(1))
    fill: dict[str, LayerSpec] = {"fill": FillFrontSpec()} if front else {}
    moments = CausalConv3dSpec(channels=2 * draw(st.integers(1, 4)), kernel=draw(st.sampled_from([1, (2, 1, 3)])))
    return ChainSpec(layers={**fill, **layers, "moments": moments}), out.with_channels(moments.channels)


def _decoder(draw: st.DrawFn, read: Signal, pixels: Signal, choice: Choice, *, front: bool) -> LayerSpec:
    """Layers that give the pixels; where there is content they read it."""
    layers, out = draw_row(draw, read, choice)
    if read.content and not ChainSpec(layers=layers).reads():
        at = ContentAttentionSpec(content=CONTENT, heads=1, head_width=2)
        layers = {"look": ResidualSpec(layers={"at": at}), **layers}
    end = mend(out, pixels)
    last: dict[str, LayerSpec] = {} if end is None else {"pixels": end}
    return ChainSpec(layers={**layers, **last, **({"drop": DropFrontSpec()} if front else {})})


@st.composite
def _contents(draw: st.DrawFn, pixels: Signal) -> ContentSpec:
    """One or two stages, of which the last is read."""
    image = Signal(pixels.channels, stride=pixels.stride)
    layers, _ = draw_row(draw, image, Choice(IMAGES, depth=0, keep_lead=True), most=2)
    stages = {f"stage{number}": layer for number, layer in enumerate(layers.values())}
    return ContentSpec(
        stages={**stages, CONTENT: FrameConv2dSpec(channels=draw(st.integers(1, 3)), kernel=1)},
        frame=draw(st.sampled_from(["middle", "first", "last"])),
    )


def _scalings(channels: int, *, affine: bool) -> st.SearchStrategy[LatentScaling]:
    """Numbers for all channels or for each; a norm over the clip only of several channels."""
    factors = st.sampled_from([1.0, 0.5, -3.0])
    each = {"shift": st.tuples(*[_NUMBERS] * channels), "scale": st.tuples(*[factors] * channels)}
    numbers = st.builds(Affine, shift=_NUMBERS, scale=factors) | st.builds(Affine, **each)
    if affine or channels < 3:
        return numbers
    return numbers | st.builds(ClipNorm, eps=st.sampled_from([1e-5, 1e-3]))


def _renewed(spec: VideoAutoencoderSpec) -> VideoAutoencoderSpec:
    """The same with content renewed every few frames, where that can be."""
    if spec.content is None or spec.framing.surplus == "front":
        return spec
    try:
        return spec.replace(content=spec.content.replace(every=GROUPS * spec.framing.group))
    except SpecError:
        return spec
