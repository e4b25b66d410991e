from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vvae.errors import VideoError
from vvae.video.clips import clips_in


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        if path.suffix == ".png":
            Image.new("RGB", (16, 16)).save(path)


def names(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_clips_come_in_natural_order_and_what_is_none_is_told(tmp_path: Path) -> None:
    make(tmp_path, "b10.mp4", "b9.MKV", "README.md", "inner/a.webm", "frames/0.png", "frames/1.png", ".hidden/x.mp4")
    found = clips_in(tmp_path)
    assert names(tmp_path, found.clips) == ["b9.MKV", "b10.mp4", "frames", "inner/a.webm"]
    assert names(tmp_path, found.others) == ["README.md"]


def test_a_folder_of_pictures_is_one_clip_and_a_file_is_itself(tmp_path: Path) -> None:
    make(tmp_path, "frames/0.png", "frames/1.png", "odd.name")
    assert clips_in(tmp_path / "frames").clips == (tmp_path / "frames",)
    assert clips_in(tmp_path / "odd.name").clips == (tmp_path / "odd.name",)


def test_pictures_between_clips_are_no_clip(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "cover.png")
    assert clips_in(tmp_path).clips == (tmp_path / "a.mp4",)
    assert clips_in(tmp_path).others == (tmp_path / "cover.png",)


@pytest.mark.parametrize(("place", "told"), [("none", "no such file or folder"), (".", "holds no clip")])
def test_where_no_clip_is_nothing_is_given(tmp_path: Path, place: str, told: str) -> None:
    make(tmp_path, "notes.txt")
    with pytest.raises(VideoError, match=told):
        clips_in(tmp_path / place)
