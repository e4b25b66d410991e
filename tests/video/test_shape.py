from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.video.encoded import as_clip, encode, read_all
from vvae.errors import VideoError
from vvae.video import probe, read_clip, shape
from vvae.video.shape import square

MakeClip = Callable[..., Path]


def turned(source: Path, target: Path, *turn: object) -> Path:
    """The packets of a clip under a display matrix: degrees counterclockwise, then mirrored by columns and rows."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        copy.set_display_rotation(*turn)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_display_matrix_is_followed(
    make_clip: MakeClip, tmp_path: Path, suffix: str, quarters: int, columns: bool, rows: bool
) -> None:
    path = make_clip(2, 48, 64)
    expected = read_all(path)
    flips = [axis for axis, wanted in ((4, columns), (3, rows)) if wanted]
    found = read_all(turned(path, tmp_path / f"turned{suffix}", 90 * quarters, columns, rows))
    assert torch.equal(found, expected.rot90(quarters, (3, 4)).flip(flips))
    assert probe(tmp_path / f"turned{suffix}").fitted() == found.shape[-2:]


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 15), Fraction(1, 2), Fraction(1)])
def test_pixels_become_square_along_their_longer_side(tmp_path: Path, aspect: Fraction) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
    path = encode(tmp_path / "wide.mkv", [frame], "libx264rgb", {"qp": "0"}, sample_aspect_ratio=aspect)
    height, width = (30, round(44 * aspect)) if aspect > 1 else (round(30 / aspect), 44)
    expected = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    assert torch.allclose(read_all(path), as_clip(np.asarray(expected)), atol=1e-6)
    assert probe(path).fitted() == (height, width)
    assert read_all(path, size=15).shape[-2:] == probe(path).fitted(15)


def test_pixels_become_square_before_they_are_turned(make_clip: MakeClip, tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    lying = encode(tmp_path / "lying.mp4", [frame], "libx264", sample_aspect_ratio=Fraction(2))
    path = turned(lying, tmp_path / "upright.mp4", 90)
    assert read_all(path).shape[-2:] == probe(path).fitted() == (96, 32)


@given(st.integers(1, 500), st.integers(1, 500), st.fractions(Fraction(1, 10), 10))
def test_square_never_loses_a_pixel(height: int, width: int, aspect: Fraction) -> None:
    rows, columns = square(height, width, aspect)
    assert rows >= height
    assert columns >= width
    assert columns / rows == pytest.approx(float(aspect) * width / height, rel=0.51 / min(rows, columns))


@pytest.mark.parametrize("aspect", [None, Fraction(0), Fraction(11), Fraction(1, 11), Fraction(-1)])
def test_pixels_of_no_shape_are_square(aspect: Fraction | None) -> None:
    assert square(32, 48, aspect) == (32, 48)


@pytest.mark.parametrize("size", [(31, 47), (1, 1), (17, 2), (3, 64)])
@pytest.mark.parametrize("suffix", [".mkv", ".png", ".gif"])
def test_odd_sizes_stay_as_they_are(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 2, (*size, 3), dtype=np.uint8) * 255
    path = tmp_path / f"odd{suffix}"
    if suffix == ".mkv":
        encode(path, [av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")], "ffv1")
    else:
        Image.fromarray(picture).save(path)
    assert torch.equal(read_all(path), as_clip(picture))


def test_frames_beyond_the_limit_are_refused(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(2, 48, 64)
    monkeypatch.setattr(shape, "MOST_PIXELS", 48 * 64 - 1)
    for read in (probe, read_all):
        with pytest.raises(VideoError, match="frames of 48x64 pixels, legal are 1 to 3071 pixels"):
            read(path)
    monkeypatch.setattr(shape, "MOST_PIXELS", 48 * 64)
    assert read_all(path).shape[2] == 2


def test_a_header_that_claims_65535_pixels_a_side_is_refused(tmp_path: Path) -> None:
    Image.new("P", (32, 48)).save(tmp_path / "huge.gif")
    data = (tmp_path / "huge.gif").read_bytes()
    (tmp_path / "huge.gif").write_bytes(data[:6] + b"\xff" * 4 + data[10:])
    with pytest.raises(VideoError, match=r"huge\.gif: .* damaged"):
        read_all(tmp_path / "huge.gif")


def test_a_size_that_changes_on_the_way_is_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    parts = [make_clip(3, 48, 64, "a.mp4"), make_clip(3, 32, 64, "b.mp4")]
    joined = tmp_path / "joined.h264"
    with av.open(str(joined), "w", format="h264") as new:
        target = None
        for part in parts:
            with av.open(str(part)) as old:
                stream = old.streams.video[0]
                target = target or new.add_stream_from_template(stream)
                annexb = BitStreamFilterContext("h264_mp4toannexb", stream)
                for packet in old.demux(stream):
                    for changed in annexb.filter(packet if packet.dts is not None else None):
                        changed.stream = target
                        new.mux(changed)
    with pytest.raises(VideoError, match="frame 3 has 32x64 pixels, those before 48x64"):
        list(read_clip(joined, chunk=3))
