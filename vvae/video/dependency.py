"""A picture of who depends on whom in time: encoder, decoder and both, joined like the factors of a product."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.colours import BAND, BLUE, GREY, INK, PAPER, RED
from vvae.reach import Reach, group_numbers
from vvae.signal import Signal


def plot_dependency(path: str | Path, spec: VideoAutoencoderSpec, frames: int) -> None:
    """A PNG for a clip of so many frames: a square is filled where the row depends on the column.

    Top right: latents of source frames. Bottom left: frames that come back of latents. Bottom right, the product of
    both: frames that come back of source frames. Groups, or pieces, are told apart by lines, the lead by its colour.
    """
    encode, decode, both = (spec.dependency(frames, d) for d in ("encode", "decode", "reconstruct"))
    positions = encode.shape[0]
    narrow = max(positions, frames * 0.28)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 15, "axes.edgecolor": GREY}):
        figure = Figure(figsize=(8, 8.6), dpi=160, layout="constrained", facecolor=PAPER)
        ratios = [narrow, frames]
        grid = figure.subplots(2, 2, width_ratios=ratios, height_ratios=ratios)
        _legend(grid[0, 0])
        pixels, latents = spec.chunks("encode"), spec.chunks("decode")
        _draw(grid[0, 1], encode, latents, pixels, "encode")
        _draw(grid[1, 0], decode, pixels, latents, "decode")
        _draw(grid[1, 1], both, pixels, pixels, "encode and decode")
        grid[0, 1].set_ylabel("latent position", color=INK)
        grid[1, 0].set_ylabel("frame that comes back", color=INK)
        grid[1, 0].set_xlabel("latent position", color=INK)
        grid[1, 1].set_xlabel("source frame", color=INK)
        figure.suptitle(f"{spec.name}: who depends on whom in time", x=0.02, ha="left", fontweight="bold", color=INK)
        figure.savefig(path, format="png")


def _draw(axes: Axes, matrix: Reach, down: Signal, across: Signal, title: str) -> None:
    rows, columns = matrix.shape
    lead_row, lead_column = np.arange(rows) < down.lead, np.arange(columns) < across.lead
    of_lead = lead_row[:, None] | lead_column[None, :]
    kind = np.where(matrix, np.where(of_lead, 2, 1), 0)
    axes.imshow(kind, ListedColormap([BAND, BLUE, RED]), vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    for count, signal, line in ((columns, across, axes.axvline), (rows, down, axes.axhline)):
        for edge in _edges(count, signal):
            line(edge - 0.5, color=PAPER, linewidth=2.5, zorder=2)
            line(edge - 0.5, color=GREY, linewidth=0.8, zorder=3)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_title(title, loc="left", fontsize=15, color=INK)
    axes.set_xticks(_ticks(columns, across))
    axes.set_yticks(_ticks(rows, down))
    axes.tick_params(colors=INK, length=3)


def _edges(count: int, signal: Signal) -> list[int]:
    """Where one group ends and the next begins; none where a group is one frame and lines would cover all."""
    numbers = group_numbers(count, signal.lead, signal.group)
    return [int(place) for place in np.nonzero(np.diff(numbers))[0] + 1]


def _ticks(count: int, signal: Signal) -> list[int]:
    """The lead and the first frames of some groups, at most six."""
    starts = [0, *_edges(count, signal)]
    return starts[:: max(1, -(-len(starts) // 6))]


def _legend(axes: Axes) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for y, colour, text in ((0.74, BLUE, "depends"), (0.47, RED, "depends,\nlead"), (0.18, BAND, "does not")):
        axes.add_patch(Rectangle((0.0, y - 0.07), 0.16, 0.14, facecolor=colour, edgecolor=GREY, linewidth=0.8))
        axes.text(0.26, y, text, va="center", fontsize=14, color=INK)
