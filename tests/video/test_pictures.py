from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from vvae.video.pictures import (
    GAIN,
    Samples,
    amplified_error,
    bar_height,
    contact_sheet,
    plot_per_frame,
    side_by_side,
)


def clip(frames: int = 1, height: int = 12, width: int = 16) -> torch.Tensor:
    return torch.linspace(-0.8, 0.8, 3 * frames * height * width).view(1, 3, frames, height, width)


def collected(frames: int, height: int = 12, width: int = 16) -> Samples:
    samples, frame = Samples(), clip(1, height, width)
    for index in range(frames):
        samples.add(frame, frame, float(index))
    return samples


def test_error_is_black_where_both_agree() -> None:
    assert torch.equal(amplified_error(clip(2), clip(2)), torch.full((1, 3, 2, 12, 16), -1.0))


def test_error_grows_brighter_up_to_its_gain() -> None:
    steps = torch.linspace(0, 2 / GAIN, 30)
    shown = [amplified_error(torch.zeros(1, 3, 1, 1, 1), torch.full((1, 3, 1, 1, 1), s)) for s in steps.tolist()]
    brightness = torch.stack([x.mean() for x in shown])
    assert (brightness.diff() > 0).all()
    beyond = amplified_error(torch.zeros(1, 3, 1, 1, 1), torch.ones(1, 3, 1, 1, 1))
    assert torch.equal(beyond, shown[-1])


@pytest.mark.parametrize("size", [(12, 16), (47, 91), (64, 3)])
def test_side_by_side_shows_source_result_and_error(size: tuple[int, int]) -> None:
    height, width = size
    source = clip(2, height, width)
    shown = side_by_side(source, -source)
    bar = bar_height(width)
    assert shown.shape == (1, 3, 2, bar + height, 3 * width)
    assert torch.equal(shown[..., bar:, :width], source)
    assert torch.equal(shown[..., bar:, width : 2 * width], -source)
    assert torch.equal(shown[..., bar:, 2 * width :], amplified_error(source, -source))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 9, 33, 65, 200, 1000])
def test_samples_are_spread_evenly_and_hold_the_first_frame(frames: int) -> None:
    chosen = [sample.frame for sample in collected(frames).chosen()]
    assert chosen[0] == 0
    assert len(chosen) == min(4, frames)
    assert chosen[-1] > frames - 1 - max(1, frames / 16)
    gaps = [b - a for a, b in pairwise(chosen)]
    assert all(gap > 0 for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) <= max(1, frames / 8)


def test_samples_know_their_own_figures() -> None:
    assert all(sample.psnr == sample.frame for sample in collected(100).chosen())


@pytest.mark.parametrize("frames", [1, 3, 40])
@pytest.mark.parametrize("size", [(12, 16), (90, 30), (5, 900)])
def test_contact_sheet_holds_every_picture(tmp_path: Path, frames: int, size: tuple[int, int]) -> None:
    samples = collected(frames, *size).chosen()
    contact_sheet(tmp_path / "sheet.png", samples, "model", lead=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = samples[0].pictures[0].size
        assert sheet.width == 1600
        assert sheet.height > 3 * height
        assert len(samples) * width < sheet.width


@pytest.mark.parametrize(
    ("frames", "lead", "group"), [(1, 1, 4), (2, 1, 4), (30, 1, 4), (700, 1, 4), (1, 0, 2), (30, 0, 2), (30, 1, 1)]
)
def test_plot_takes_clips_of_any_length(tmp_path: Path, frames: int, lead: int, group: int) -> None:
    plot_per_frame(tmp_path / "plot.png", [30.0 + i % 4 for i in range(frames)], [0.9] * frames, "model", lead, group)
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size == (1280, 1120)
        assert len(plot.convert("RGB").getcolors(1 << 20)) > 2
