"""Sources: which clips there are, and pieces that are what the file holds, at any place, within their row."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.written import clip
from vvae.errors import SpecError, VideoError
from vvae.training import sources
from vvae.training.sources import ClipsSpec, Files, ProceduralSpec, Row
from vvae.video import read_clip
from vvae.video.survey import survey, write_stretches


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def whole(path: Path, size: int | None = None) -> Tensor:
    """All frames, `3 t h w`."""
    return torch.cat(list(read_clip(path, size=size)), 2)[0]


def opened(path: Path, **fields: object) -> Files:
    source = ClipsSpec(path=str(path), **fields).open(path)
    assert isinstance(source, Files)
    return source


def places(piece: Tensor, video: Tensor) -> list[tuple[int, int, int]]:
    """(frame, row, column) of every place in `video` where `piece` stands as it is."""
    _, frames, height, width = piece.shape
    windows = video.unfold(1, frames, 1).unfold(2, height, 1).unfold(3, width, 1)
    equal = (windows.permute(1, 2, 3, 0, 4, 5, 6) == piece).flatten(3).all(3)
    return [tuple(place) for place in equal.nonzero().tolist()]


def picture(path: Path, height: int = 20, width: int = 24, seed: int = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(random(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


# ---- which clips there are


def test_clips_of_a_folder_and_of_folders_in_it(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    for name in ("clip10.mp4", "clip9.mp4", "deep/er/clip.mp4"):
        clip(tmp_path / name, 2, 16, 16)
    names = [row.path.relative_to(tmp_path).as_posix() for row in opened(tmp_path).rows]
    assert names == ["clip9.mp4", "clip10.mp4", "deep/er/clip.mp4"]
    part = opened(tmp_path, first=1, most=1)
    assert [part.name(index) for index in range(len(part))] == [str(tmp_path / "clip10.mp4")]


def test_a_list_names_clips_and_pictures_from_where_it_lies(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4", 3, 16, 16)
    photographs = [picture(tmp_path / f"photographs/{number}.png", seed=number) for number in range(3)]
    lines = ["clip.mp4", "", *(str(path.relative_to(tmp_path)) for path in photographs[:2]), f"  {photographs[2]}  "]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n".join(lines))
    source = opened(tmp_path / "list.txt", scale=None, mirror=False)
    assert [row.path for row in source.rows] == [tmp_path / "clip.mp4", *photographs]
    for index, path in enumerate(photographs, 1):
        assert places(source.piece(index, 1, 18, random(index)), whole(path))
    with pytest.raises(VideoError, match=r"2\.png: is too short, it has 1 of the 2 frames"):
        source.piece(3, 2, 18, random())


def test_a_folder_of_pictures_is_one_clip(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"frames/{number}.png", seed=number)
    source = opened(tmp_path, scale=None, mirror=False)
    assert len(source) == 1
    assert places(source.piece(0, 3, 20, random()), whole(tmp_path / "frames"))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("none", None, "no such file"),
        ("empty.txt", "\n \n", "names no clip"),
        ("picture.txt", b"\xff\xfe\x00\xd8", "no text that can be read"),
        ("empty.csv", "path,start,end,fps,height,width\n", "names no clip"),
        ("wrong.csv", "path,start\n", "no column end"),
        ("few.txt", "a.mp4\nb.mp4", "holds 2 clips, none after the first 2"),
    ],
)
def test_where_nothing_is_there_is_said_before_training(
    tmp_path: Path, name: str, text: str | bytes | None, why: str
) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError, match=why) as error:
        ClipsSpec(path=str(tmp_path / name), first=2 if "few" in name else 0).check()
    assert "\n" not in str(error.value)


# ---- pieces


@pytest.mark.parametrize(("height", "width"), [(32, 40), (37, 23), (24, 24)])
def test_pieces_stand_in_their_clip_at_every_place(
    tmp_path: Path,
    height: int,
    width: int,
) -> None:
    path = clip(tmp_path / "clip.mkv", 7, height, width)
    source, video = Files([Row(path)], scale=None, mirror=False), whole(path)
    height, width = video.shape[2:]
    found = [places(source.piece(0, 5, 22, random(seed)), video) for seed in range(60)]
    assert all(found)
    for axis, have, want in zip(range(3), (7, height, width), (5, 22, 22), strict=True):
        seen = {place[axis] for each in found for place in each}
        assert {0, have - want} <= seen <= set(range(have - want + 1))


def test_the_same_random_numbers_give_the_same_piece(tmp_path: Path) -> None:
    source = Files([Row(clip(tmp_path / "clip.mp4", 9, 40, 56))])
    pieces = [source.piece(0, 3, 24, random(seed)) for seed in (1, 1, 2)]
    assert torch.equal(pieces[0], pieces[1])
    assert not torch.equal(pieces[0], pieces[2])


@pytest.mark.parametrize("size", [5, 24, 47, 60, 97])
@pytest.mark.parametrize("scale", [None, 1.0, 1.5])
def test_pieces_have_their_shape_and_range(tmp_path: Path, size: int, scale: float | None) -> None:
    """Whatever the clip's size is: one that is smaller is enlarged."""
    source = Files([Row(clip(tmp_path / "clip.mp4", 3, 46, 62))], scale)
    piece = source.piece(0, 2, size, random())
    assert piece.shape == (3, 2, size, size)
    assert piece.dtype == torch.float32
    assert -1 <= piece.min() < piece.max() <= 1
    assert piece.is_contiguous()


def test_a_scale_resizes_the_short_side_before_the_cut(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 2, 48, 64)
    source = Files([Row(path)], scale=1.5, mirror=False)
    assert places(source.piece(0, 2, 16, random()), whole(path, size=24))


def test_half_of_the_pieces_are_mirrored(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 2, 16, 16)
    video = whole(path)
    for mirror, least, most in ((True, 12, 28), (False, 0, 0)):
        source = Files([Row(path)], mirror=mirror)
        pieces = [source.piece(0, 2, 16, random(seed)) for seed in range(40)]
        mirrored = sum(torch.equal(piece, video.flip(3)) for piece in pieces)
        assert least <= mirrored <= most
        assert mirrored + sum(torch.equal(piece, video) for piece in pieces) == 40


def test_pieces_stay_within_their_row(tmp_path: Path) -> None:
    """Three shots in one clip, each of a brightness of its own."""
    levels = (40, 130, 220)
    for number in range(18):
        shot = np.full((24, 24, 3), levels[number // 6], np.uint8)
        shot[:, number : number + 3] += 30  # something moves
        (tmp_path / "shots").mkdir(exist_ok=True)
        Image.fromarray(shot).save(tmp_path / f"shots/{number}.png")
    found = survey(tmp_path / "shots")
    assert found.cuts == (6, 12)
    write_stretches(tmp_path / "table.csv", found.stretches)
    source = opened(tmp_path / "table.csv", scale=None)
    assert len(source) == 3
    assert source.name(1).endswith("shots[6:12]")
    for index in range(3):
        for seed in range(12):
            medians = source.piece(index, 4, 24, random(seed)).flatten(2).median(2).values
            assert torch.allclose(medians, torch.tensor(levels[index] / 127.5 - 1), atol=0.01)
        with pytest.raises(VideoError, match="6 of the 7 frames"):
            source.piece(index, 7, 24, random())


def test_a_row_beyond_its_file_is_refused(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 6, 16, 16)
    with pytest.raises(VideoError, match=r"ends at frame 6; make the table again"):
        Files([Row(path, 4, 8)]).piece(0, 4, 16, random())
    with pytest.raises(VideoError, match="start is 9"):
        Files([Row(path, 9, 10)]).piece(0, 1, 16, random())


def test_frames_that_the_file_does_not_count_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip(tmp_path / "clip.gif", 6, 32, 32)
    probe = sources.probe
    monkeypatch.setattr(sources, "probe", lambda path: replace(probe(path), frames=None))
    source = Files([Row(path)])
    assert source.piece(0, 6, 32, random()).shape[1] == 6
    with pytest.raises(VideoError, match="6 of the 7 frames"):
        source.piece(0, 7, 32, random())


@pytest.mark.parametrize("name", ["text.mp4", "cut.mp4", "missing.mp4", "picture.png"])
def test_what_cannot_be_read_is_a_video_error(tmp_path: Path, name: str) -> None:
    if name == "cut.mp4":
        (tmp_path / name).write_bytes(clip(tmp_path / "clip.mp4", 6, 16, 16).read_bytes()[:600])
    elif name != "missing.mp4":
        (tmp_path / name).write_text("no clip")
    with pytest.raises(VideoError, match=name):
        Files([Row(tmp_path / name)]).piece(0, 1, 16, random())


# ---- rendered clips


def test_rendered_clips_are_not_sent_to_other_processes(tmp_path: Path) -> None:
    source = ProceduralSpec(clips=2, frames=5, size=40).open(tmp_path)
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    for index in range(2):
        assert torch.equal(again.piece(index, 3, 24, random(5)), source.piece(index, 3, 24, random(5)))
    assert again.name(1) == source.name(1)


@pytest.mark.parametrize(("frames", "size"), [(6, 24), (5, 41)])
def test_rendered_clips_are_not_longer_or_larger_than_they_are(tmp_path: Path, frames: int, size: int) -> None:
    source = ProceduralSpec(clips=1, frames=5, size=40).open(tmp_path)
    with pytest.raises(VideoError, match="has 5 frames of 40x40"):
        source.piece(0, frames, size, random())
