"""What an evaluation found: figures per frame, per clip and per model, and how models compare. Becomes JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

from vvae.bench.figures import Figure
from vvae.bench.machine import Machine
from vvae.evaluation.bootstrap import Difference, paired_interval
from vvae.evaluation.meter import METRICS, PerFrame, Systematic
from vvae.evaluation.protocol import Protocol


class OfClip(Figure):
    """One clip through one model. mean: over its frames; positions: over frames that stand alike in their group.

    seconds: to encode and decode, without reading and measuring. rate: latent numbers per number of the clip.
    """

    clip: str
    frames: int
    seconds: float
    rate: float | None
    mean: Mapping[str, float]
    lead: Mapping[str, float | None]
    positions: Mapping[str, tuple[float | None, ...]]
    systematic: Systematic
    per_frame: Mapping[str, tuple[float | None, ...]]

    @property
    def frames_per_second(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


class OfModel(Figure):
    """One model over all clips: means over clips of what stands in `clips`, the median speed, and the mean rate.

    spread: largest less smallest mean over the positions in a group. frechet: see `frechet_distance`.
    """

    name: str
    about: Mapping[str, Any]
    lead_frames: int
    group: int
    mean: Mapping[str, float]
    lead: Mapping[str, float | None]
    positions: Mapping[str, tuple[float | None, ...]]
    spread: Mapping[str, float]
    systematic: Systematic
    frames_per_second: float
    rate: float | None
    frechet: float | None
    clips: tuple[OfClip, ...]


class Evaluation(Figure):
    """All that `vvae eval` writes down. lpips_sha256: the digest of the weights by which LPIPS was measured."""

    protocol: Protocol
    lpips_sha256: str | None
    machine: Machine
    vvae: str
    clips: tuple[Mapping[str, Any], ...]
    models: tuple[OfModel, ...]
    differences: tuple[Difference, ...]


def of_clip(
    clip: str,
    per_frame: PerFrame,
    systematic: Systematic,
    lead: int,
    group: int,
    seconds: float,
    rate: float | None = None,
) -> OfClip:
    """The means of a clip. Every metric has a figure for each frame, or None where it has none."""
    grouped = {name: values[lead:] for name, values in per_frame.items()}
    return OfClip(
        clip=clip,
        frames=len(per_frame["psnr"]),
        seconds=seconds,
        rate=rate,
        mean={name: found for name, values in per_frame.items() if (found := mean(values)) is not None},
        lead={name: mean(values[:lead]) for name, values in per_frame.items()},
        positions={
            name: tuple(mean(values[position::group]) for position in range(group)) for name, values in grouped.items()
        },
        systematic=systematic,
        per_frame=per_frame,
    )


def of_model(
    name: str,
    about: Mapping[str, Any],
    lead: int,
    group: int,
    clips: Sequence[OfClip],
    frechet: float | None = None,
) -> OfModel:
    """The means of a model over at least one clip."""
    names = list(clips[0].per_frame)
    positions = {m: tuple(mean(clip.positions[m][p] for clip in clips) for p in range(group)) for m in names}
    known = {m: [value for value in values if value is not None] for m, values in positions.items()}
    return OfModel(
        name=name,
        about=about,
        lead_frames=lead,
        group=group,
        mean={m: found for m in names if (found := mean(clip.mean.get(m) for clip in clips)) is not None},
        lead={m: mean(clip.lead[m] for clip in clips) for m in names},
        positions=positions,
        spread={m: max(values) - min(values) for m, values in known.items() if values},
        systematic=_systematic([clip.systematic for clip in clips]),
        frames_per_second=median(clip.frames_per_second for clip in clips),
        rate=mean(clip.rate for clip in clips),
        frechet=frechet,
        clips=tuple(clips),
    )


def in_a_line(model: OfModel) -> str:
    """PSNR, by position too, grid and colour: "29.41 dB (lead 29.30, positions 29.2 29.5, ...), borders 1.07, ..."."""
    places = [f"{value:.2f}" for value in model.positions["psnr"] if value is not None]
    parts = [] if model.lead["psnr"] is None else [f"lead {model.lead['psnr']:.2f}"]
    parts += [f"positions {' '.join(places)}", f"spread {model.spread['psnr']:.2f}"] if places else []
    borders = [] if model.systematic.borders is None else [f"borders {model.systematic.borders:.3f}"]
    figures = [f"{model.mean['psnr']:.2f} dB ({', '.join(parts)})", *borders, f"colour {model.systematic.colour:.2f}"]
    return ", ".join(figures)


def _systematic(clips: Sequence[Systematic]) -> Systematic:
    """Means over clips: what they have in common, so that shifts to both sides are none."""
    return Systematic(
        shift=tuple(math.fsum(shifts) / len(clips) for shifts in zip(*(clip.shift for clip in clips), strict=True)),
        at_borders=mean(clip.at_borders for clip in clips),
        elsewhere=mean(clip.elsewhere for clip in clips),
    )


def differences(models: Sequence[OfModel], protocol: Protocol) -> tuple[Difference, ...]:
    """Every later model less every earlier one, per clip, in every metric that both have."""
    found = []
    for earlier, later in combinations(models, 2):
        for metric in METRICS:
            if metric in earlier.mean and metric in later.mean:
                pairs = zip(later.clips, earlier.clips, strict=True)
                gaps = [a.mean[metric] - b.mean[metric] for a, b in pairs if metric in a.mean and metric in b.mean]
                found.append(_difference(later.name, earlier.name, metric, gaps, protocol))
    return tuple(found)


def _difference(a: str, b: str, metric: str, gaps: Sequence[float], protocol: Protocol) -> Difference:
    interval = paired_interval(gaps, protocol.resamples, protocol.confidence, protocol.seed)
    low, high = interval or (None, None)
    return Difference(a=a, b=b, metric=metric, mean=math.fsum(gaps) / len(gaps), low=low, high=high, per_clip=gaps)


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is. The order does not matter to the last bit."""
    held = [value for value in values if value is not None]
    return math.fsum(held) / len(held) if held else None
