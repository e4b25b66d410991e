from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.encoded import BARS, LUMA, as_clip, bars, colours_of, encode, filled, read_all, yuv
from vvae.errors import VideoError
from vvae.video import ClipWriter, probe

LEVEL = 1.001  # of 255: what an exact reader may be off for rounding


def error(path: Path, expected: np.ndarray = BARS) -> float:
    return float(np.abs(colours_of(read_all(path)) - expected).max())


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv422p", "yuv420p", "yuv444p10le", "yuv422p10le", "yuv420p10le"])
def test_colours_are_read_by_the_matrix_and_range_of_the_file(
    tmp_path: Path, pixels: str, matrix: str, full: bool
) -> None:
    path = encode(tmp_path / "bars.mkv", [yuv(bars(), pixels, matrix, full)], "ffv1")
    assert error(path) <= LEVEL


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_tags_of_h264_are_followed(tmp_path: Path, suffix: str, full: bool) -> None:
    frame = yuv(bars(), "yuv444p", "BT.2020", full)
    assert error(encode(tmp_path / f"bars{suffix}", [frame], "libx264", {"qp": "0"})) <= LEVEL


@pytest.mark.parametrize(("height", "matrix"), [(16, "BT.601"), (719, "BT.601"), (720, "BT.709"), (1080, "BT.709")])
def test_untagged_clips_go_by_their_height(tmp_path: Path, height: int, matrix: str) -> None:
    picture = np.resize(bars(BARS[:8]), (height, 128, 3))
    path = encode(tmp_path / "bars.mkv", [yuv(picture, "yuv444p", matrix, False, tagged=False)], "ffv1")
    assert error(path, BARS[:8]) <= LEVEL


@pytest.mark.parametrize("suffix", [".mkv", ".gif", ""])
def test_lossless_formats_keep_every_colour(tmp_path: Path, suffix: str) -> None:
    path, clip = tmp_path / f"bars{suffix}", as_clip(bars())
    with ClipWriter(path, 25, bars().shape[:2]) as writer:
        writer.write(clip)
    assert (read_all(path) - clip).abs().max() < 1e-6


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".avi"])
def test_other_formats_keep_colours_nearly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bars{suffix}"
    with ClipWriter(path, 25, bars().shape[:2]) as writer:
        writer.write(as_clip(bars()))
    assert error(path) < 6


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("tag", [0, 1, 2], ids=["untagged", "limited", "full"])
def test_gray_is_full_unless_it_says_otherwise(tmp_path: Path, pixels: str, tag: int) -> None:
    bits = {"gray": 8, "gray10le": 10, "gray16le": 16}[pixels]
    level = bars(BARS[8:-1])[..., 0] / 255
    code = (16 + 219 * level) * 2 ** (bits - 8) if tag == 1 else level * (2**bits - 1)
    frame = filled(pixels, [code.round()])
    frame.color_range = tag
    assert error(encode(tmp_path / "gray.mkv", [frame], "ffv1"), BARS[8:-1]) <= LEVEL


def transparent() -> tuple[np.ndarray, np.ndarray]:
    """Bars whose every other colour is nearly invisible, `16 16n 4`, and what is left of them over black, `n 3`."""
    opacity = np.where(np.arange(8) % 2, 255, 51)
    picture = np.dstack([bars(BARS[:8]), np.repeat(np.repeat(opacity[None], 16, 0), 16, 1).astype(np.uint8)])
    return picture, BARS[:8] * opacity[:, None] / 255


def test_transparent_parts_of_webm_are_over_black(tmp_path: Path) -> None:
    picture, expected = transparent()
    frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(
        format="yuva420p", dst_colorspace=1, dst_color_range=1
    )
    options = {"crf": "4", "b": "0", "auto-alt-ref": "0"}
    path = encode(tmp_path / "bars.webm", [frame], "libvpx-vp9", options)
    assert error(path, expected) < 6


def test_transparent_parts_of_png_and_mov_are_over_black(tmp_path: Path) -> None:
    picture, expected = transparent()
    Image.fromarray(picture).save(tmp_path / "bars.png")
    frame = av.VideoFrame.from_ndarray(picture, format="rgba")
    for path in (tmp_path / "bars.png", encode(tmp_path / "bars.mov", [frame], "png")):
        assert error(path, expected) <= LEVEL


def test_transparent_parts_of_gif_are_over_black(tmp_path: Path) -> None:
    image = Image.fromarray(bars(BARS[:8])[..., 0] // 255)
    image.putpalette([255, 255, 0, 0, 200, 0])
    image.save(tmp_path / "bars.gif", transparency=0)
    expected = np.where(BARS[:8, :1] == 0, (0, 0, 0), (0, 200, 0))
    assert error(tmp_path / "bars.gif", expected) <= LEVEL


def test_an_unknown_matrix_is_refused(tmp_path: Path) -> None:
    frame = yuv(bars(), "yuv444p", "BT.709", False)
    frame.colorspace = 8  # YCgCo
    path = encode(tmp_path / "bars.mkv", [frame], "ffv1")
    with pytest.raises(VideoError, match=r"matrix 8 of ITU-T H\.273, legal are"):
        read_all(path)


@pytest.mark.parametrize(("transfer", "hdr"), [(1, False), (16, True), (18, True)], ids=["BT.709", "PQ", "HLG"])
def test_hdr_is_named_and_its_values_stay(tmp_path: Path, transfer: int, hdr: bool) -> None:
    frame = yuv(bars(), "yuv420p10le", "BT.2020", False)
    frame.color_trc = transfer
    path = encode(tmp_path / "bars.mkv", [frame], "ffv1", color_trc=transfer, color_primaries=9)
    assert probe(path).hdr is hdr
    assert error(path) <= LEVEL
