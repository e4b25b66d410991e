"""Pictures of an evaluation: figures over the frames of a clip, and quality over rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vvae.colours import BAND, GREY, INK, PAPER, SERIES
from vvae.evaluation.meter import METRICS
from vvae.evaluation.results import Evaluation, OfModel, mean

_MOST_BANDS = 120
_WIDTH, _DPI = 9.0, 160


def plot_per_frame(path: Path, found: Evaluation) -> None:
    """A PNG: every metric over the frame number, the mean over clips, a line per model; bands: the longest groups."""
    shown = [name for name in METRICS if any(name in model.mean for model in found.models)]
    with _drawn(path, 2.6 * len(shown) + 0.9 + 0.3 * len(found.models)) as figure:
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for one, name in zip(axes, shown, strict=True):
            _draw_bands(one, max(found.models, key=lambda model: model.group))
            for colour, model in zip(_colours(found.models), found.models, strict=True):
                frames, values = _points([clip.per_frame.get(name, ()) for clip in model.clips])
                marker = "o" if len(frames) <= 100 else ""
                one.plot(frames, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=model.name)
            _dress(one, name)
        axes[-1].set_xlabel("frame", color=INK)
        axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
        _title(axes[0], f"mean over {_clips(len(found.clips))}, frame by frame")
        figure.align_ylabels()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=1, frameon=False, labelcolor=INK)


def plot_rate(path: Path, found: Evaluation) -> None:
    """A PNG: PSNR over the numbers of the latents per number of the clip, a point per model, a faint one per clip."""
    models = [model for model in found.models if model.rate is not None]
    with _drawn(path, 6.2) as figure:
        axes: Axes = figure.subplots()
        for colour, model in zip(_colours(found.models), found.models, strict=True):
            if model.rate is None:
                continue
            each = [(clip.rate or 0, clip.mean["psnr"]) for clip in model.clips]
            axes.plot(*zip(*each, strict=True), "o", color=colour, markersize=5, alpha=0.35, markeredgewidth=0)
            axes.plot(model.rate, model.mean["psnr"], "D", color=colour, markersize=11, label=model.name)
        axes.set_xscale("log")
        _rate_ticks(axes, [model.rate for model in models if model.rate is not None])
        axes.set_xlabel("numbers of the clip per number of its latents (fewer: larger latents)", color=INK)
        _dress(axes, "psnr")
        _title(axes, f"quality over rate, {_clips(len(found.clips))}" + " (small points)" * (len(found.clips) > 1))
        figure.legend(loc="outside lower left", frameon=False, labelcolor=INK)


def _rate_ticks(axes: Axes, rates: Sequence[float]) -> None:
    """One tick per rate that is not too near another, written as what the latents save."""
    ticks: list[float] = []
    for rate in sorted(set(rates)):
        if not ticks or rate > 1.08 * ticks[-1]:
            ticks.append(rate)
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1 / value:.3g}"))
    axes.set_xlim(min(rates) / 1.6, max(rates) * 1.6)


def _points(clips: Sequence[Sequence[float | None]]) -> tuple[list[int], list[float]]:
    """The mean over clips of each frame that has a figure."""
    length = max(map(len, clips), default=0)
    found: Mapping[int, float | None] = {
        frame: mean(clip[frame] if frame < len(clip) else None for clip in clips) for frame in range(length)
    }
    kept = {frame: value for frame, value in found.items() if value is not None}
    return list(kept), list(kept.values())


def _draw_bands(axes: Axes, model: OfModel) -> None:
    count, lead, group = max(clip.frames for clip in model.clips), model.lead_frames, model.group
    axes.set_xlim(-1, count)
    if group > 1 and count <= _MOST_BANDS * group:
        for start in range(lead, count, 2 * group):
            axes.axvspan(start - 0.5, min(start + group, count) - 0.5, color=BAND, linewidth=0)


def _dress(axes: Axes, name: str) -> None:
    metric = METRICS[name]
    axes.set_ylabel(f"{metric.title} ({metric.unit})" if metric.unit else metric.title, color=INK)
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=15, fontweight="bold", color=INK, pad=12)


def _colours(models: Sequence[OfModel]) -> list[str]:
    return [SERIES[place % len(SERIES)] for place in range(len(models))]


def _clips(count: int) -> str:
    return f"{count} clip{'s' * (count != 1)}"


@contextmanager
def _drawn(path: Path, height: float) -> Iterator[Figure]:
    """A figure to draw in; it is saved when the block ends."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 13, "axes.edgecolor": GREY}):
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor=PAPER)
        yield figure
        figure.savefig(path)
