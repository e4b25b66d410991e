"""What is evaluated: models, and any function from clips to clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import VideoError
from vvae.evaluation.protocol import Clip
from vvae.state import weights_digest
from vvae.tiling import Plan, usual_plan
from vvae.video.reconstruct import paired
from vvae.video.selection import Shown

Pair = tuple[Tensor, Tensor]
Plans = Callable[[int | None, tuple[int, int]], Plan]
"""From frames (None: not known) and (height, width) to the way of a clip through a model; all exact ways are equal."""


@dataclass(frozen=True)
class Subject:
    """What clips go through and come back from.

    passes: source and result of each frame, `1 3 1 h w` in [-1, 1], from the frames of a clip. lead, group: how frames
    fall into groups. rate: numbers of the latents per number of a clip, by frames, height and width. cell: side of a
    latent cell in pixels, None without latents. dtype: what it computes in, None where that is no matter. about: what
    else stands in the result.
    """

    name: str
    passes: Callable[[Iterable[Shown], Clip], Iterator[Pair]]
    lead: int = 0
    group: int = 1
    rate: Callable[[int, int, int], float] | None = None
    cell: int | None = None
    dtype: str | None = None
    about: dict[str, Any] = field(default_factory=dict)


def of_model(
    model: VideoAutoencoder, name: str | None = None, *, weights: str | None = None, plans: Plans | None = None
) -> Subject:
    """A model, through which clips stream. weights: its `weights_digest`, if it is known."""
    spec = model.spec
    whole = spec.chunks("encode")  # groups, or pieces where there are pieces
    parameter = next(model.parameters())

    def passes(shown: Iterable[Shown], clip: Clip) -> Iterator[Pair]:
        plan = usual_plan(spec) if plans is None else plans(clip.promised, clip.pixels)
        with plan.guard():
            for source, result, _ in paired(model, shown, plan):
                yield source, result

    about = {
        "spec": spec.name,
        "spec_sha256": spec.digest,
        "weights_sha256": weights or weights_digest(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(parameter.device),
        "latent_channels": spec.latents.channels,
    }
    dtype = str(parameter.dtype).removeprefix("torch.")
    rate, cell = rate_of(spec), int(spec.latents.stride)
    return Subject(name or spec.name, passes, whole.lead, whole.group, rate, cell, dtype, about)


def of_function(name: str, run: Callable[[Tensor], Tensor], lead: int = 0, group: int = 1) -> Subject:
    """Any function from whole clips `1 3 t h w` in [-1, 1] to clips of the same shape, as a codec or a peer's model."""

    def passes(shown: Iterable[Shown], clip: Clip) -> Iterator[Pair]:
        source = torch.cat([frame for frame, _ in shown], dim=2)
        result = run(source).float().cpu()
        if result.shape != source.shape:
            found, wanted = (tuple(x.shape) for x in (result, source))
            raise VideoError(f"{name}: gives {found} for a clip {wanted}; it must give the same shape")
        if not torch.isfinite(result).all():
            raise VideoError(f"{name}: the result holds values that are not finite, check it")
        yield from zip(source.split(1, dim=2), result.clamp(-1, 1).split(1, dim=2), strict=True)

    return Subject(name, passes, lead, group)


def rate_of(spec: VideoAutoencoderSpec) -> Callable[[int, int, int], float]:
    """Numbers of the latents per number of a clip of that many frames, rows and columns."""

    def rate(frames: int, height: int, width: int) -> float:
        return math.prod(spec.latent_shape(frames, height, width)) / (spec.pixels.channels * frames * height * width)

    return rate
