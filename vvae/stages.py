"""A model stage by stage, from its spec: what each does to channels, time and space, sees in time, and costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from torch import nn

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers.compose import ChainSpec, ResidualSpec
from vvae.reach import groups_around, is_same_frame
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.summary import dry_run

_FEW = 4  # stages: then those that are chains themselves are opened


@dataclass(frozen=True)
class Stage:
    """One stage: its path, the channels it gives, how many of its frames and cells stand for how many at the pixels.

    time: frames at the pixels per frame that it gives; space: the side of a cell in pixels. sees: groups of its own
    input in time.
    """

    path: str
    channels: int
    time: Fraction
    space: Fraction
    sees: str
    parameters: int
    flops: int

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "time": float(self.time), "space": float(self.space)}


def stages(spec: VideoAutoencoderSpec, size: tuple[int, int, int]) -> list[Stage]:
    """The stages of encoder and decoder; FLOPs for a clip of `size` (frames, height, width)."""
    dry, found = dry_run(spec, tuple(size)), []
    for direction, part, read in (("encode", "encoder", spec.pixels), ("decode", "decoder", spec.latents)):
        layer, root = getattr(spec, part), type(getattr(dry.model, part)).__name__
        for path, stage, signal in _opened(layer, read):
            count = dry.flops[direction].get(f"{root}.{path}" if path else root, 0)  # type: ignore[index]
            found.append(_stage(spec, dry.model, f"{part}.{path}".rstrip("."), stage, signal, count))
    return found


def _opened(layer: LayerSpec, signal: Signal) -> list[tuple[str, LayerSpec, Signal]]:
    """The stages of a part; where they are few, those that are chains are opened once."""
    if not isinstance(layer, ChainSpec):
        return [("", layer, signal)]
    found = list(layer.inputs(signal))
    return list(_children(found)) if len(found) < _FEW else found


def _children(found: list[tuple[str, LayerSpec, Signal]]) -> Iterator[tuple[str, LayerSpec, Signal]]:
    for name, layer, signal in found:
        if isinstance(layer, ChainSpec | ResidualSpec):
            yield from ((f"{name}.{inner}", child, read) for inner, child, read in layer.inputs(signal))
        else:
            yield name, layer, signal


def _stage(
    spec: VideoAutoencoderSpec, model: VideoAutoencoder, path: str, layer: LayerSpec, read: Signal, cost: int
) -> Stage:
    given = layer.trace(read)
    module: nn.Module = model.get_submodule(path)
    return Stage(
        path=path,
        channels=given.channels,
        time=Fraction(spec.pixels.group, given.group),
        space=given.stride,
        sees=sees(layer, read),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        flops=cost,
    )


def sees(layer: LayerSpec, read: Signal) -> str:
    """What a frame that comes out depends on, in groups of the layer's input: "frame", "group", "group, 1 back"."""
    (back, ahead, same), (more_back, more_ahead, _) = (_sight(layer, read, groups) for groups in (6, 12))
    if same:
        return "frame"
    if more_back > back and more_ahead > ahead:
        return "whole clip"
    past = "all before" if more_back > back else f"{back} back" if back else ""
    future = "all after" if more_ahead > ahead else f"{ahead} ahead" if ahead else ""
    return ", ".join(filter(None, ("group", past, future)))


def _sight(layer: LayerSpec, read: Signal, groups: int) -> tuple[int, int, bool]:
    """The most groups seen before and after one's own, and whether each frame sees itself alone."""
    given = layer.trace(read)
    matrix = layer.reach(read, read.frames(groups))
    return *groups_around(matrix, given, read), is_same_frame(matrix)


def _fitting(spec: VideoAutoencoderSpec, most: int) -> Iterator[int]:
    frames = spec.filled_frames(1)
    while frames <= most:
        yield frames
        frames = spec.filled_frames(frames + 1)


def fitting_frames(spec: VideoAutoencoderSpec) -> str:
    """The numbers of frames that pass as they are: "any", or "1, 5, 9, ... (1 + 4k)"."""
    most = spec.framing.lead + 4 * (spec.framing.piece or spec.framing.group)
    fits = list(_fitting(spec, most))
    if len(fits) == most:
        return "any"
    steps = {b - a for a, b in pairwise(fits)}
    shown = ", ".join(map(str, fits[:4]))
    return f"{shown}, ... ({fits[0]} + {steps.pop()}k)" if len(steps) == 1 else f"{shown}, ..."
