"""Clips through models by one protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vvae.bench.machine import look
from vvae.errors import VideoError, VvaeError
from vvae.evaluation import results
from vvae.evaluation.frechet import Features, checked, frechet_distance
from vvae.evaluation.meter import MEASURES, Measure, Meter
from vvae.evaluation.moments import Moments
from vvae.evaluation.protocol import Clip, Protocol, promised
from vvae.evaluation.results import Evaluation, OfClip
from vvae.evaluation.subjects import Subject
from vvae.evaluation.told import Progress, Told
from vvae.losses import LPIPS

T = TypeVar("T")


@torch.inference_mode()
def evaluate(
    subjects: Sequence[Subject],
    clips: Sequence[str | Path],
    protocol: Protocol | None = None,
    *,
    lpips: Measure | None = None,
    features: Features | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Every clip through every subject: figures of each frame, grid and colour; LPIPS and Fréchet distance on demand.

    Memory does not grow with a clip that streams, unless `features` asks for it whole. lpips: a function of clips
    `1 3 t h w` in [-1, 1], source and result, to a distance of each frame; the result holds the digest of an `LPIPS`.
    features: a function of clips `b 3 t h w` in [-1, 1] to their features `b d`, for the Fréchet distance over all
    clips. progress: frames done, and how many there are.

    Errors: before anything runs, VideoError for a clip that cannot be read or is too short or too small, VvaeError for
    two subjects of one name, one that computes in another dtype than the protocol says, or
    `features` with one clip; later, VideoError for a damaged clip, or a result that is not finite.
    """
    protocol = protocol or Protocol()
    taken = [protocol.clip(clip) for clip in clips]
    _check(subjects, taken, protocol, features)
    machine = look()
    frames = promised(taken)
    tell = Told(progress, None if frames is None else frames * len(subjects))
    for subject in subjects:
        _warm_up(subject, taken[0])
    sources, found = _Gathered(features), [_OfSubject(subject, _Gathered(features)) for subject in subjects]
    measures = MEASURES if lpips is None else {**MEASURES, "lpips": lpips}
    for clip in taken:
        for one in found:
            one.add(clip, Meter(one.subject.cell, measures), sources if one is found[0] else None, tell)
    models = [one.figures(sources) for one in found]
    return Evaluation(
        protocol=protocol,
        lpips_sha256=lpips.digest if isinstance(lpips, LPIPS) else None,
        machine=machine,
        vvae=version("vvae"),
        clips=tuple(clip.to_dict() for clip in taken),
        models=tuple(models),
        differences=results.differences(models, protocol),
    )


def _check(subjects: Sequence[Subject], clips: Sequence[Clip], protocol: Protocol, features: Features | None) -> None:
    if not subjects or not clips:
        raise VvaeError(f"{len(subjects)} models and {len(clips)} clips; give at least one of each")
    names = [subject.name for subject in subjects]
    if twice := {name for name in names if names.count(name) > 1}:
        raise VvaeError(f"{', '.join(sorted(twice))}: stands for two models; give each a name of its own")
    for subject in subjects:
        if subject.dtype not in (None, protocol.dtype):
            raise VvaeError(f"{subject.name}: computes in {subject.dtype}, the protocol says {protocol.dtype}")
    for clip in clips:
        clip.check()
    if features is not None and len(clips) < 2:
        raise VvaeError("a Fréchet distance takes two clips or more; give more, or leave the features out")


def _warm_up(subject: Subject, clip: Clip) -> None:
    """The first lead and group, not measured: the first run of anything takes longer."""
    for _ in subject.passes(islice(clip.shown(), subject.lead + subject.group), clip):
        pass


class _Gathered:
    """The features of clips, each of which is held whole; nothing without a function."""

    def __init__(self, features: Features | None) -> None:
        self.features = features
        self.moments: Moments | None = None
        self._frames: list[Tensor] = []

    def add(self, frame: Tensor) -> None:
        if self.features is not None:
            self._frames.append(frame)

    def close(self) -> None:
        """After the last frame of a clip."""
        if self.features is not None:
            new = Moments.of(checked(self.features(torch.cat(self._frames, 2)), 1))
            self.moments = new if self.moments is None else self.moments.merged(new)
            self._frames = []


class Clock:
    """Seconds that an iterator took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        source = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item


@dataclass
class _OfSubject:
    """What is known of a subject so far."""

    subject: Subject
    gathered: _Gathered
    clips: list[OfClip] = field(default_factory=list)

    def add(self, clip: Clip, meter: Meter, sources: _Gathered | None, tell: Told) -> None:
        """The next clip; `sources` takes its frames, too, where no other subject gives them."""
        subject, reading, both = self.subject, Clock(), Clock()
        for source, result in both.timed(subject.passes(reading.timed(clip.shown()), clip)):
            meter.add(source, result)
            self.gathered.add(result)
            if sources is not None:
                sources.add(source)
            tell()
        self.gathered.close()
        if sources is not None:
            sources.close()
        if not meter.frames:
            raise VideoError(f"{subject.name}: gave no frame of {clip.path}")
        seconds = both.seconds - reading.seconds
        rate = None if subject.rate is None else subject.rate(meter.frames, *clip.pixels)
        figures = (meter.per_frame, meter.systematic)
        self.clips.append(results.of_clip(clip.path.name, *figures, subject.lead, subject.group, seconds, rate))

    def figures(self, sources: _Gathered) -> results.OfModel:
        moments, own, subject = sources.moments, self.gathered.moments, self.subject
        frechet = None if moments is None or own is None else frechet_distance(moments, own)
        return results.of_model(subject.name, subject.about, subject.lead, subject.group, self.clips, frechet)
