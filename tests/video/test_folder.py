from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.video.encoded import BARS, as_clip, bars, read_all
from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip
from vvae.video.folder import natural


def folder(path: Path, names: Sequence[str], size: tuple[int, int] = (6, 8)) -> Path:
    """Pictures whose brightness is their place among the names."""
    path.mkdir()
    for index, name in enumerate(names):
        picture = np.full((*size, 3), index * 20, dtype=np.uint8)
        Image.fromarray(picture).save(path / name, **({"quality": 100} if name.lower().endswith("jpg") else {}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".webp", ".tif", ".tiff", ".bmp"])
def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path, suffix: str) -> None:
    path = folder(tmp_path / "frames", [f"{name}{suffix}" for name in ("a2", "a10", "a011", "b1", "b1c2", "b1c10")])
    levels = (read_all(path, chunk=4).mean(dim=(0, 1, 3, 4)) + 1) * 127.5
    assert levels.round().tolist() == pytest.approx([0, 20, 40, 60, 80, 100], abs=2)
    info = probe(path)
    assert (info.stream, info.fitted(), info.fps, info.frames, info.audio) == (0, (6, 8), 25, 6, False)


@given(st.lists(st.integers(0, 10**6), unique=True), st.text("ab._-", max_size=3))
def test_natural_order_is_the_order_of_numbers(numbers: list[int], prefix: str) -> None:
    names = [f"{prefix}{number}.png" for number in numbers]
    assert sorted(names, key=natural) == [f"{prefix}{number}.png" for number in sorted(numbers)]


@given(st.lists(st.text("aA019. ", max_size=6)))
def test_natural_order_takes_any_names(names: list[str]) -> None:
    backwards = list(reversed(names))
    assert sorted(backwards, key=natural) == sorted(names, key=natural)


def test_one_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(bars()).save(tmp_path / "bars.png")
    assert torch.equal(read_all(tmp_path / "bars.png"), as_clip(bars()))
    assert probe(tmp_path / "bars.png").frames == 1


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames", ["1.png", "2.png"])
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
        (path / name).write_text("left by a system")
    assert read_all(path).shape[2] == 2


def _nothing(path: Path) -> None:
    """An empty folder."""


def _text(path: Path) -> None:
    (path / "1.png").write_text("no picture")


def _notes_beside(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.png")
    (path / "notes.txt").write_text("notes")
    (path / "more.txt").write_text("notes")


def _folder_beside(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.png")
    (path / "more.png").mkdir()


def _pipe_beside(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.png")
    os.mkfifo(path / "2.png")


def _two_kinds(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.png")
    Image.new("RGB", (8, 6)).save(path / "2.jpg")


def _two_sizes(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.png")
    Image.new("RGB", (6, 8)).save(path / "2.png")


def _two_pages(path: Path) -> None:
    Image.new("RGB", (8, 6)).save(path / "1.tif", save_all=True, append_images=[Image.new("RGB", (8, 6))])


def _floats(path: Path) -> None:
    Image.new("F", (8, 6)).save(path / "1.tif")


def _cut(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path / "1.png")
    (path / "1.png").write_bytes((path / "1.png").read_bytes()[:-900])


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_nothing, "holds no pictures, legal are png, jpg"),
        (_text, r"1\.png: is not a picture that can be decoded"),
        (_notes_beside, r"holds 'more\.txt' and 1 more, which is no picture"),
        (_folder_beside, r"holds 'more\.png', which is no picture"),
        (_pipe_beside, r"holds '2\.png', which is no picture"),
        (_two_kinds, "holds JPEG and PNG pictures, give a folder of one kind"),
        (_two_sizes, r"2\.png has 8x6 pixels, those before 6x8"),
        (_two_pages, "holds 2 pictures, legal is one per file"),
        (_floats, "mode F, legal are pictures of 8 or 16 bits"),
        (_cut, r"1\.png: is not a picture that can be decoded"),
    ],
)
def test_a_folder_that_is_no_clip_is_refused_in_one_line(
    tmp_path: Path, fill: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    fill(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VideoError, match=message) as caught:
        list(read_clip(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


def test_pictures_before_a_damaged_one_are_given_on_request(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames", [f"{n}.png" for n in range(6)])
    (path / "4.png").write_text("no picture")
    assert read_all(path, allow_partial=True, chunk=3).shape[2] == 4
    with pytest.raises(VideoError, match=r"4\.png: is not a picture"):
        read_all(path)
    assert read_all(path, frames=4).shape[2] == 4
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        read_all(path, start=4, allow_partial=True)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_upright_as_exif_says(tmp_path: Path, turn: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    undone = [stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]]
    undone += [p.transpose(1, 0, 2) for p in (stored, stored[::-1], stored[::-1, ::-1], stored[:, ::-1])]
    assert torch.equal(read_all(tmp_path / "turned.png"), as_clip(np.ascontiguousarray(undone[turn - 1])))
    assert probe(tmp_path / "turned.png").fitted() == undone[turn - 1].shape[:2]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_rgb(tmp_path: Path, mode: str) -> None:
    picture = bars(BARS[[0, 7]])
    if mode == "I;16":
        image = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(picture).convert(mode)
    image.save(tmp_path / "a.tif")
    assert torch.equal(read_all(tmp_path / "a.tif"), as_clip(picture))


def test_16_bit_gray_is_rounded(tmp_path: Path) -> None:
    gray = np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    expected = np.repeat((gray[..., None] / 257).round(), 3, 2).astype(np.uint8)
    assert torch.equal(read_all(tmp_path / "gray.png"), as_clip(expected))


def test_pictures_have_one_stream(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames", ["1.png"])
    assert torch.equal(read_all(path, stream=0), read_all(path))
    with pytest.raises(VideoError, match="pictures have no stream 1"):
        read_all(path, stream=1)


@pytest.mark.parametrize("name", ["frames", "frames/", "frames.v2/"])
def test_a_path_without_suffix_becomes_a_folder_of_png(tmp_path: Path, name: str) -> None:
    clip = torch.rand(1, 3, 12, 5, 7) * 2 - 1
    with ClipWriter(f"{tmp_path}/{name}", 25, (5, 7)) as writer:
        writer.write(clip)
    names = sorted(path.name for path in (tmp_path / name).iterdir())
    assert names == [f"{n:06d}.png" for n in range(12)]
    assert (read_all(tmp_path / name) - clip).abs().max() <= 0.501 / 127.5


def test_a_folder_that_holds_something_is_not_written(tmp_path: Path) -> None:
    path = folder(tmp_path / "frames", ["1.png"])
    with (
        pytest.raises(VideoError, match=r"exists already and is not an empty folder, choose another folder$"),
        ClipWriter(path, 25, (6, 8)) as writer,
    ):
        writer.write(torch.zeros(1, 3, 1, 6, 8))
    assert [entry.name for entry in path.iterdir()] == ["1.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with ClipWriter(tmp_path / "frames", 25, (6, 8)) as writer:
            writer.write(torch.zeros(1, 3, 3, 6, 8))
            raise error

    with pytest.raises(error):
        interrupted()
    assert not any(tmp_path.iterdir())
