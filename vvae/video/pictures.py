"""Pictures of a reconstruction: the amplified error, a contact sheet and a plot per frame."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from vvae.colours import BAND, BLUE, GREY, INK, PAPER, RED

GAIN = 8  # the error is small: shown as it is, it would be black
ROWS = ("source", "result", f"error × {GAIN}")  # noqa: RUF001

_SHEET_WIDTH, _MARGIN, _GAP, _COLUMNS = 1600, 28, 14, 4


def amplified_error(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """The mean error over channels, times `GAIN`, as a heat picture: `b 3 t h w` in [-1, 1] twice -> the same shape.

    Black where both agree, over violet and orange to pale yellow where they differ by 1 / `GAIN` of the range or more.
    """
    error = (source.clamp(-1, 1) - result.clamp(-1, 1)).abs().mean(dim=1) / 2
    index = error.mul(GAIN * 255).clamp(max=255).round().long()
    return _heat_colours().to(source.device)[index].movedim(-1, 1)


def side_by_side(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Source, result and amplified error beside each other under a title bar: `1 3 t h w` twice -> `1 3 t H 3w`."""
    panels = torch.cat([source, result, amplified_error(source, result)], dim=4)
    bar = _title_bar(source.shape[4], bar_height(source.shape[4]))
    return torch.cat([bar.expand(-1, -1, panels.shape[2], -1, -1), panels], dim=3)


def bar_height(width: int) -> int:
    """The height in pixels of the title bar over panels of `width` pixels; even."""
    return 2 * max(6, round(width / 18))


@dataclass(frozen=True)
class Sample:
    """One frame for the contact sheet: its index, PSNR in dB, and the pictures of `ROWS`, already small."""

    frame: int
    psnr: float
    pictures: tuple[Image.Image, ...]


class Samples:
    """Keeps evenly spaced frames of a clip of unknown length, frame 0 among them, in constant memory."""

    def __init__(self, columns: int = _COLUMNS) -> None:
        self.columns = columns
        self._kept: list[Sample] = []
        self._step = 1
        self._seen = 0

    def add(self, source: torch.Tensor, result: torch.Tensor, psnr: float) -> None:
        """Looks at the next frame, `1 3 1 h w` in [-1, 1] twice, and keeps it if its turn has come."""
        if self._seen % self._step == 0:
            pictures = tuple(_small(x) for x in (source, result, amplified_error(source, result)))
            self._kept.append(Sample(self._seen, psnr, pictures))
        self._seen += 1
        if len(self._kept) > 8 * self.columns:
            self._kept, self._step = self._kept[::2], 2 * self._step

    def chosen(self) -> list[Sample]:
        """At most `columns` samples, evenly spaced from the first to the last kept."""
        count = min(self.columns, len(self._kept))
        places = np.linspace(0, len(self._kept) - 1, count).round().astype(int)
        return [self._kept[place] for place in places]


def contact_sheet(path: Path, samples: Sequence[Sample], title: str, lead: int) -> None:
    """A PNG, 1600 pixels wide: a column per sample under its frame number and PSNR, a row per picture of `ROWS`."""
    title_font, label_font, value_font = _font(44, bold=True), _font(36, bold=True), _font(36)
    width, height = samples[0].pictures[0].size
    top, row_bar = 190, 58
    sheet_height = top + len(ROWS) * (row_bar + height) + _MARGIN
    sheet = Image.new("RGB", (_SHEET_WIDTH, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 40), title, INK, title_font, anchor="lm")
    left = _MARGIN
    for column, sample in enumerate(samples):
        x = left + column * (width + _GAP)
        name = f"frame {sample.frame}" + (" · lead" if sample.frame < lead else "")
        draw.text((x, 104), name, RED if sample.frame < lead else INK, label_font, anchor="lm")
        draw.text((x, 150), f"{sample.psnr:.1f} dB", GREY, value_font, anchor="lm")
        for row, picture in enumerate(sample.pictures):
            sheet.paste(picture, (x, top + row * (row_bar + height) + row_bar))
    for row, name in enumerate(ROWS):
        draw.text((left, top + row * (row_bar + height) + row_bar // 2), name, GREY, value_font, anchor="lm")
    sheet.save(path)


def plot_per_frame(path: Path, psnr: Sequence[float], ssim: Sequence[float], title: str, lead: int, group: int) -> None:
    """A PNG with PSNR (dB) and SSIM over the frame number; every other group is a light band, the lead stands apart."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 15, "axes.edgecolor": GREY}):
        figure = Figure(figsize=(8, 7), dpi=160, layout="constrained", facecolor=PAPER)
        upper, lower = figure.subplots(2, 1, sharex=True)
        _draw_curve(upper, psnr, "PSNR (dB)", lead, group)
        _draw_curve(lower, ssim, "SSIM", lead, group)
        upper.set_title(title, loc="left", fontsize=16, fontweight="bold", color=INK, pad=14)
        lower.set_xlabel("frame", color=INK)
        lower.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        figure.align_ylabels()
        handles, labels = lower.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=3, frameon=False, labelcolor=INK
        )
        figure.savefig(path)


def _draw_curve(axes: Axes, values: Sequence[float], name: str, lead: int, group: int) -> None:
    count = len(values)
    if count <= 120 * group:  # narrower bands could not be seen
        for start in range(lead, count, 2 * group):
            end = min(start + group, count)
            axes.axvspan(start - 0.5, end - 0.5, color=BAND, linewidth=0, label=f"groups of {group}")
    marker, line = ("o", 2.0) if count <= 100 else ("", 1.0)
    axes.plot(range(lead, count), values[lead:], color=BLUE, linewidth=line, marker=marker, markersize=4)
    mean = sum(values) / count
    axes.axhline(mean, color=GREY, linewidth=1.5, linestyle=(0, (4, 4)), zorder=1, label="mean")
    if lead:
        points = axes.plot(range(lead), values[:lead], "D", color=RED, markersize=9, label="lead", zorder=5)
        points[0].set_clip_on(False)  # the marker stands half over the axis
    axes.set_ylabel(name, color=INK)
    axes.set_xlim(-1, count)
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _small(frame: torch.Tensor) -> Image.Image:
    """A frame `1 3 1 h w` in [-1, 1] as a picture of a column's width; large pixels where the clip is small."""
    picture = frame[0, :, 0].clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    width = (_SHEET_WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    method = Image.Resampling.LANCZOS if picture.shape[1] > width else Image.Resampling.BICUBIC
    return Image.fromarray(picture).resize((width, height), method)


@functools.cache
def _heat_colours() -> torch.Tensor:
    """256 colours `256 3` in [-1, 1], from black over violet and orange to pale yellow."""
    colours = np.array(matplotlib.colormaps["inferno"](np.arange(256)))[:, :3]
    colours[0] = 0
    return torch.from_numpy(colours.astype(np.float32)) * 2 - 1


@functools.lru_cache(maxsize=4)
def _title_bar(width: int, height: int) -> torch.Tensor:
    """`1 3 1 height 3*width` in [-1, 1]: the names of the three panels."""
    bar = Image.new("RGB", (len(ROWS) * width, height), INK)
    draw = ImageDraw.Draw(bar)
    for panel, name in enumerate(ROWS):
        draw.text((panel * width + height // 3, height // 2), name, "#ffffff", _font(height * 0.62), anchor="lm")
    pixels = torch.from_numpy(np.array(bar)).permute(2, 0, 1)
    return (pixels.float() / 127.5 - 1)[None, :, None]


@functools.cache
def _font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The typeface that ships with matplotlib, so that pictures look alike on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
