"""A clip through a model in steps of a chosen length: the same steps wherever a clip is encoded or decoded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice, repeat

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.context import StreamState
from vvae.errors import VideoError
from vvae.gaussian import DiagonalGaussian
from vvae.signal import Signal
from vvae.tiling import PublishedTiling
from vvae.video.selection import Shown


@dataclass(frozen=True)
class Step:
    """Frames that go in together, `1 3 t h w`, when they are shown, and whether they are the last."""

    frames: Tensor
    times: tuple[Fraction, ...] | None
    last: bool


@dataclass(frozen=True)
class Encoded:
    """What came of a step, and the state for the next one."""

    step: Step
    posterior: DiagonalGaussian
    state: StreamState


Runs = VideoAutoencoder | PublishedTiling
"""What clips go through: a model, its twin in exact tiles, or a model under the rule of a release."""


def device_of(model: Runs) -> torch.device:
    model = model.model if isinstance(model, PublishedTiling) else model
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def in_steps(shown: Iterable[Shown], signal: Signal, groups: int | None, done: int = 0) -> Iterator[Step]:
    """The lead and `groups` groups, then `groups` groups again and again, then what is left; None: all in one step.

    `done`: frames before.
    """
    first, later = (sys.maxsize, sys.maxsize) if groups is None else (signal.frames(groups), groups * signal.group)
    sizes = repeat(later) if done else chain([first], repeat(later))
    source = iter(shown)
    ahead = list(islice(source, 1))
    while ahead:
        held = [*ahead, *islice(source, next(sizes) - 1)]
        ahead = list(islice(source, 1))
        times = tuple(time for _, time in held if time is not None)
        yield Step(torch.cat([frame for frame, _ in held], dim=2), times or None, not ahead)


def encoded(model: Runs, steps: Iterable[Step], state: StreamState | None = None) -> Iterator[Encoded]:
    """The posterior of each step, from a state on. Errors: VideoError where it holds values that are not finite."""
    device = device_of(model)
    for step in steps:
        frames = step.frames.to(device)
        if isinstance(model, PublishedTiling) or (state is None and step.last and model.spec.stream_limit("encode")):
            posterior, state = _at_once(model, frames)
        else:
            posterior, state = model.encode_chunk(frames, state, last=step.last)
        _refuse_not_finite(model, posterior.mean, "latents")
        yield Encoded(step, posterior, state)


def _at_once(model: Runs, frames: Tensor) -> tuple[DiagonalGaussian, StreamState]:
    """A clip that is one step of a model that cannot stream: its posterior, and a stream that has ended."""
    posterior = model.encode(frames)
    given, frame = posterior.mean.shape[2], (frames.shape[0], *frames.shape[3:])
    return posterior, StreamState(model.spec.digest, "encode", frames.shape[2], given, frame, ended=True)


def decoded(model: Runs, posteriors: Iterable[DiagonalGaussian], groups: int | None) -> Iterator[Tensor]:
    """Frames `1 3 1 h w` in [-1, 1] on the CPU, decoded from the posteriors' modes in steps of `groups` groups.

    None: all at once. Errors: VideoError where the result is not finite.
    """
    steps = regrouped(posteriors, model.spec, groups)
    if isinstance(model, PublishedTiling) or not groups:
        videos = map(model.decode, steps)
    else:
        videos = model.decode_stream(steps)  # type: ignore[assignment]
    for video in videos:
        _refuse_not_finite(model, video, "result")
        yield from torch.split(video.float().cpu().clamp(-1, 1), 1, dim=2)


def regrouped(
    posteriors: Iterable[DiagonalGaussian], spec: VideoAutoencoderSpec, groups: int | None
) -> Iterator[DiagonalGaussian]:
    """The same latents, cut into the lead and `groups` groups, then `groups` groups each; None: all in one."""
    held: DiagonalGaussian | None = None
    seen, signal = 0, spec.chunks("decode")
    groups = sys.maxsize if groups is None else groups
    for posterior in posteriors:
        held = posterior if held is None else _joined(held, posterior)
        while held.mean.shape[2] >= (count := signal.frames(groups) if not seen else groups * signal.group):
            frames = spec.decoded_frames(seen + count) - spec.decoded_frames(seen)
            first, held = _cut(held, count, frames, spec.images(count))
            seen += count
            yield first
    if held is not None and held.mean.shape[2]:
        yield held


def _joined(a: DiagonalGaussian, b: DiagonalGaussian) -> DiagonalGaussian:
    fit = replace(a.fit, frames=a.fit.frames + b.fit.frames)
    content = None if a.content is None or b.content is None else torch.cat([a.content, b.content], 2)
    mean, logvar = torch.cat([a.mean, b.mean], 2), torch.cat([a.logvar, b.logvar], 2)
    return replace(a, mean=mean, logvar=logvar, fit=fit, content=content)


def _cut(whole: DiagonalGaussian, count: int, frames: int, pieces: int) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """The first `count` positions, `pieces` pieces, which stand for `frames` frames or what is left, and the rest."""
    frames = min(frames, whole.fit.frames)
    return (
        _part(whole, slice(count), slice(pieces), frames),
        _part(whole, slice(count, None), slice(pieces, None), whole.fit.frames - frames),
    )


def _part(whole: DiagonalGaussian, positions: slice, pieces: slice, frames: int) -> DiagonalGaussian:
    return replace(
        whole,
        mean=whole.mean[:, :, positions],
        logvar=whole.logvar[:, :, positions],
        fit=replace(whole.fit, frames=frames),
        content=None if whole.content is None else whole.content[:, :, pieces],
    )


def _refuse_not_finite(model: Runs, x: Tensor, what: str) -> None:
    if not torch.isfinite(x).all():
        raise VideoError(f"{model.spec.name}: the {what} holds values that are not finite, check weights and dtype")
