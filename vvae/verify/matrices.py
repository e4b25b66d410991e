"""Who depends on whom in time in one part: declared beside measured, as matrices and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vvae.colours import BAND, BLUE, GREY, INK, PAPER, RED
from vvae.reach import Reach, group_numbers
from vvae.signal import Signal
from vvae.verify.measure import measured
from vvae.verify.rows import Bits, Matrices
from vvae.verify.subject import Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS, MOST_FRAMES = 3, 40
"""How long a clip is shown: so many groups, or fewer where they are long."""


def matrices(part: Part) -> Matrices:
    """Both matrices for a clip of a few groups; what went wrong in words, where something did."""
    try:
        lengths = part.lengths(MOST_GROUPS)
        groups = max((n for n in lengths if part.given.frames(n) <= MOST_FRAMES), default=lengths[0])
        x = part.clip(groups)
        declared = None if part.reach is None else part.reach(x.shape[2])
        found = measured(part.run, x)
    except Exception as error:  # whatever somebody else's model raises
        told = str(error).strip().splitlines()
        why = f"not measured: {type(error).__name__}: {told[0] if told else ''}"[:300]
        return Matrices(part.name, told=why, ended="crashed")
    if declared is not None and declared.shape != found.shape:
        told_shapes = f"declared {declared.shape}, measured {found.shape} (frames out, frames in)"
        return Matrices(part.name, _bits(found), given=_time(part.given), out=_time(part.out), told=told_shapes)
    said = None if declared is None else _bits(declared)
    return Matrices(part.name, _bits(found), said, part.exact, _time(part.given), _time(part.out))


def _time(signal: Signal) -> tuple[int, int]:
    return signal.lead, signal.group


def _bits(matrix: Reach) -> Bits:
    return ["".join(str(int(value)) for value in row) for row in matrix]


def _matrix(bits: Bits) -> Reach:
    return np.array([[value == "1" for value in row] for row in bits], dtype=np.bool_)


def draw(file: Path, found: Matrices, title: str) -> None:
    """A PNG: declared and measured beside each other (measured alone where nothing is declared).

    Rows are frames that come out, columns frames that went in; lines part lead and groups. Red in the measured one is
    what is not as declared: filled where it depends and must not, framed where it does not depend and must.

    Raises:
        ImportError: matplotlib is not there.
    """
    import matplotlib
    from matplotlib.figure import Figure

    panels = [("measured", _matrix(found.measured))]
    if found.declared is not None:
        panels.insert(0, ("declared", _matrix(found.declared)))
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 12, "axes.edgecolor": GREY}):
        figure = Figure(figsize=_inches(found, len(panels)), dpi=140, layout="constrained", facecolor=PAPER)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for place, (name, matrix) in zip(axes, panels, strict=True):
            _panel(place, matrix, found)
            place.set_title(name, loc="left", fontsize=12, color=INK)
            place.set_xlabel("frame in", color=INK)
        if found.declared is not None:
            _mark(axes[-1], _matrix(found.declared), panels[-1][1], found.exact)
        axes[0].set_ylabel("frame out", color=INK)
        figure.suptitle(_title(found, title), x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
        _legend(figure, found)
        figure.savefig(file, format="png")


def _title(found: Matrices, title: str) -> str:
    if found.declared is None:
        return f"{title}: nothing is declared"
    return f"{title}: {found.wrong} places are not as declared" if found.wrong else f"{title}: as declared"


def _inches(found: Matrices, panels: int) -> tuple[float, float]:
    """Squares of one size, unless there are few or many of them."""
    rows, columns = len(found.measured), len(found.measured[0]) if found.measured else 1
    side = min(0.32, 12 / (panels * columns), 9 / max(1, rows))
    return max(6.0, panels * (side * columns + 0.9)), side * rows + (2.2 if found.wrong else 1.9)


def _panel(axes: Axes, matrix: Reach, found: Matrices) -> None:
    from matplotlib.colors import ListedColormap

    rows, columns = matrix.shape
    axes.imshow(matrix, ListedColormap([BAND, BLUE]), vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    sides = ((columns, found.given, axes.axvline), (rows, found.out, axes.axhline))
    for count, (lead, group), line in sides:
        for edge in _edges(count, lead, group):
            line(edge - 0.5, color=PAPER, linewidth=2.5, zorder=2)
            line(edge - 0.5, color=GREY, linewidth=0.8, zorder=3)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks(_ticks(columns, *found.given))
    axes.set_yticks(_ticks(rows, *found.out))
    axes.tick_params(colors=INK, length=3)


def _mark(axes: Axes, declared: Reach, seen: Reach, exact: bool) -> None:
    """Red, where what is seen is not as declared."""
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(seen & ~declared):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=RED, zorder=4))
    for row, column in np.argwhere(declared & ~seen) if exact else ():
        place = (column - 0.36, row - 0.36)
        axes.add_patch(Rectangle(place, 0.72, 0.72, facecolor="none", edgecolor=RED, linewidth=2, zorder=4))


def _legend(figure: Figure, found: Matrices) -> None:
    from matplotlib.patches import Patch

    squares = [Patch(facecolor=BLUE, label="depends"), Patch(facecolor=BAND, edgecolor=GREY, label="does not")]
    if found.declared is not None and found.wrong:
        squares.append(Patch(facecolor=RED, label="depends, must not"))
        if found.exact:
            squares.append(Patch(facecolor=BAND, edgecolor=RED, linewidth=2, label="does not, must"))
    figure.legend(handles=squares, loc="outside lower left", ncols=2, frameon=False, labelcolor=INK)


def _edges(count: int, lead: int, group: int) -> list[int]:
    """Where one group ends and the next begins."""
    return [int(place) for place in np.nonzero(np.diff(group_numbers(count, lead, group)))[0] + 1]


def _ticks(count: int, lead: int, group: int) -> list[int]:
    """The first frames of groups, at most eight."""
    starts = [0, *_edges(count, lead, group)]
    return starts[:: max(1, -(-len(starts) // 8))]
