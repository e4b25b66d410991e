"""How tiles that are not exact differ from the whole clip, on frames whose difference is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.models.tiny import Identity
from vvae.arch.od_vae import tiling_rule
from vvae.tiling import Compression, Frames, Pixels, TilingRule, blended, published
from vvae.video.compare import Comparison
from vvae.video.metrics import PSNR_OF_EQUALS

SIZE = (12, 20)
RULE = blended(Compression(), Pixels(8), Pixels(2), chunk=Frames(9), shared=Frames(1), join="drop")
"""Tiles that begin at 6 and 12 and fade in over 2 pixels; chunks that begin at frames 9 and 17."""


def comparison(rule: TilingRule = RULE) -> Comparison:
    """Of a model without time and space, so that its cells are pixels."""
    return Comparison(published(Identity(lead=1, group=4), rule, as_published=True), SIZE)


def frame(value: float = 0.0) -> torch.Tensor:
    return torch.full((1, 3, 1, *SIZE), value)


def test_equal_frames_differ_nowhere() -> None:
    both = comparison()
    for _ in range(17):
        both.add(frame(0.5), frame(0.5))
    found = both.figures
    assert [found[name] for name in ("psnr", "psnr_at_seams", "psnr_inside")] == [PSNR_OF_EQUALS] * 3
    assert found["greatest_difference"] == 0
    assert all(border["greatest_difference"] == 0 for border in found["chunk_borders"])


def test_a_difference_at_a_seam_is_told_there_alone() -> None:
    both, tiled = comparison(), frame()
    tiled[..., 6, 1] = 0.5
    both.add(frame(), tiled)
    found = both.figures
    assert 6 in found["seams"]["rows"]
    assert found["psnr_inside"] == PSNR_OF_EQUALS
    assert found["psnr_at_seams"] < found["psnr"] < PSNR_OF_EQUALS
    assert found["greatest_difference"] == 0.5


def test_a_difference_inside_is_told_there_alone() -> None:
    both, tiled = comparison(), frame()
    tiled[..., 2, 2] = 0.25
    both.add(frame(), tiled)
    found = both.figures
    assert (found["psnr_at_seams"], found["greatest_difference"]) == (PSNR_OF_EQUALS, 0.25)
    assert found["psnr_inside"] < PSNR_OF_EQUALS


@pytest.mark.parametrize("at", [8, 9, 17])
def test_the_greatest_difference_at_a_chunk_border_is_told(at: int) -> None:
    both = comparison()
    for number in range(25):
        both.add(frame(), frame(0.125 if number == at else 0.0))
    borders = {border["frame"]: border["greatest_difference"] for border in both.figures["chunk_borders"]}
    assert set(borders) >= {9, 17}
    assert {at_border for at_border, greatest in borders.items() if greatest} == {
        b for b in borders if b - 1 <= at <= b
    }


def test_a_clip_within_the_limits_has_no_seam() -> None:
    both = comparison(tiling_rule(64, 64, 0.25))
    both.add(frame(), frame(0.5))
    found = both.figures
    assert (found["psnr_at_seams"], found["seams"], found["chunk_borders"]) == (None, {"rows": [], "columns": []}, [])
    assert found["psnr_inside"] == found["psnr"] == pytest.approx(12.0412, abs=1e-3)


def test_the_picture_shows_the_frame_that_differs_most(tmp_path: Path) -> None:
    both = comparison()
    for value in (0.0, 1.0, 0.25):
        both.add(frame(-1.0), frame(-1.0 + value))
    both.draw(tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as picture:
        assert picture.size == (3 * SIZE[1], SIZE[0])
        assert picture.getpixel((SIZE[1] + 1, 1)) == (128, 128, 128)
