"""What drawn layers must be told of each other: whether one fits, what mends two ends, which clips pass."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.layers import (
    AfterLeadSpec,
    ChainSpec,
    CompositeSpec,
    FrameConv2dSpec,
    SpaceToDepthSpec,
    SpatialUpsampleSpec,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec

MOST_GROUP, MOST_CHANNELS, MOST_STRIDE, MOST_SIDE = 8, 12, 4, 8
GROUPS = 2
"""A layer that is bound to clips of one length is drawn for clips of so many groups."""


def after(layer: LayerSpec, signal: Signal) -> Signal | None:
    """What the layer gives, or None: it does not fit, or what it gives is too large to be quick."""
    try:
        out = layer.trace(signal)
    except SpecError:
        return None
    small = out.group <= MOST_GROUP and out.channels <= MOST_CHANNELS
    return out if small and Fraction(1, MOST_STRIDE) <= out.stride <= MOST_STRIDE else None


def side(spec: LayerSpec, signal: Signal) -> int:
    """The smallest height and width, in cells of the signal, that is a whole number of cells at every place inside."""
    return (spec.cell(signal) / signal.stride).numerator


def lengths(spec: LayerSpec, signal: Signal, most: int) -> list[int]:
    """How many frames, up to so many, a clip may have that passes the layer: one and the whole lead at least."""
    return [frames for frames in range(max(signal.lead, 1), most + 1) if _passes(spec, signal, frames)]


def _passes(spec: LayerSpec, signal: Signal, frames: int) -> bool:
    try:
        spec.frames(signal, frames)
    except SpecError:
        return False
    return True


def mend(given: Signal, wanted: Signal) -> LayerSpec | None:
    """A layer that makes one signal out of another; None where they differ in their lead."""
    if given.lead != wanted.lead:
        return None
    layers: dict[str, LayerSpec] = {}
    rate, scale = Fraction(wanted.group, given.group), wanted.stride / given.stride
    if rate.numerator > 1:
        layers["more"] = AfterLeadSpec(layers={"repeat": TemporalRepeatSpec(factor=rate.numerator)})
    if rate.denominator > 1:
        layers["fewer"] = AfterLeadSpec(layers={"keep": TemporalSubsampleSpec(factor=rate.denominator)})
    if scale.denominator > 1:
        layers["large"] = SpatialUpsampleSpec(channels=wanted.channels, kernel=1, factor=scale.denominator)
    if scale.numerator > 1:
        layers["small"] = SpaceToDepthSpec(factor=scale.numerator)
    return ChainSpec(layers={**layers, "mix": FrameConv2dSpec(channels=wanted.channels, kernel=1)})


def walk(spec: LayerSpec, signal: Signal, depth: int = 0) -> Iterator[tuple[LayerSpec, Signal, int]]:
    """The layer and all layers inside, each with the signal that it reads and how many composites are around it."""
    yield spec, signal, depth
    if isinstance(spec, CompositeSpec):
        for _, child, read in spec.inputs(signal):
            yield from walk(child, read, depth + 1)


def walk_model(spec: VideoAutoencoderSpec) -> Iterator[tuple[LayerSpec, Signal, int]]:
    """All layers of a model: of its encoder, its decoder, and what makes its content."""
    yield from walk(spec.encoder, spec.pixels)
    yield from walk(spec.decoder, spec.latents)
    if spec.content is not None:
        image = Signal(channels=spec.pixels.channels, stride=spec.pixels.stride)
        for stage in spec.content.stages.values():
            yield from walk(stage, image)
            image = stage.trace(image)
