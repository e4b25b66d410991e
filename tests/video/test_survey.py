from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.test_cuts import shot
from vvae.errors import VideoError
from vvae.video import ClipWriter, read_clip
from vvae.video.survey import Stretch, read_stretches, survey, survey_all, write_stretches


def write(path: Path, *parts: torch.Tensor, fps: float = 24) -> Path:
    video = torch.cat(parts, 2)
    with ClipWriter(path, fps, tuple(video.shape[3:])) as clip:
        clip.write(video.clamp(-1, 1))
    return path


BLACK = torch.full((1, 3, 4, 32, 48), -1.0)


def test_a_clip_is_taken_apart_at_its_cuts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shot(0, 6), BLACK, shot(1, 10), fps=30)
    found = survey(path)
    assert (found.frames, found.fps, found.height, found.width) == (20, 30, 32, 48)
    assert found.cuts == (6, 10)
    assert [(one.start, one.end) for one in found.stretches] == [(0, 6), (6, 10), (10, 20)]
    assert [one.black for one in found.stretches] == [0, 1, 0]
    assert found.black == 0.2
    assert found.stretches[1].still == 0.75, "the first of them is no repetition"
    assert found.wrong is None


def test_stretches_cover_a_clip_and_hold_no_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", *(shot(seed, 5 + seed) for seed in range(4)))
    found = survey(path)
    ends = [edge for one in found.stretches for edge in (one.start, one.end)]
    assert ends == [0, 5, 5, 11, 11, 18, 18, 26]
    for one in found.stretches:
        frames = torch.cat(list(read_clip(one.path, start=one.start, frames=one.end - one.start)), 2)
        assert (frames.diff(dim=2).abs().mean(dim=(0, 1, 3, 4)) < 0.15).all()


def test_a_clip_that_is_damaged_counts_up_to_the_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", shot(0, 8), shot(1, 30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found = survey(path)
    assert 8 < found.frames < 38
    assert "a.mkv" in (found.wrong or "")
    assert found.cuts == (8,)
    assert found.stretches[-1].end == found.frames


@pytest.mark.parametrize("content", [b"", b"no clip at all" * 50])
def test_what_is_no_clip_is_told_and_not_raised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    found = survey(tmp_path / "bad.mp4")
    assert found.wrong is not None
    assert (found.frames, found.stretches) == (0, ())


@pytest.mark.thorough
def test_processes_side_by_side_give_the_same(tmp_path: Path) -> None:
    clips = [write(tmp_path / f"{n}.mp4", shot(n, 6), shot(n + 9, 4)) for n in range(5)]
    clips.insert(2, tmp_path / "absent.mp4")
    told: list[tuple[int, int | None]] = []
    assert survey_all(clips, 2, lambda *now: told.append(now)) == survey_all(clips)
    assert told == [(n, 6) for n in range(1, 7)]


STRETCHES = st.builds(
    lambda name, start, length, fps, sides, shares: Stretch(Path(name), start, start + length, fps, *sides, *shares),
    st.sampled_from(["a.mp4", "inner/b c.mkv", 'with "quotes", and commas.mp4', "ünicode.mp4", "../out.mp4"]),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.floats(0.1, 240).map(lambda fps: round(fps, 6)),
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    st.tuples(*[st.floats(0, 1).map(lambda share: round(share, 4))] * 2),
)


@given(stretches=st.lists(STRETCHES, max_size=6))
def test_a_table_gives_back_what_was_written(
    stretches: list[Stretch], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("table")
    placed = [Stretch(folder / one.path, *list(vars(one).values())[1:]) for one in stretches]
    write_stretches(folder / "t.csv", placed)
    found = read_stretches(folder / "t.csv")
    assert [vars(one) | {"path": one.path.resolve()} for one in found] == [
        vars(one) | {"path": one.path.resolve()} for one in placed
    ]


def test_a_table_goes_on_holding_when_it_moves_with_its_clips(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    clip = write(tmp_path / "old" / "a.mp4", shot(0, 4))
    write_stretches(tmp_path / "old" / "t.csv", survey(clip).stretches)
    (tmp_path / "old").rename(tmp_path / "new")
    (one,) = read_stretches(tmp_path / "new" / "t.csv")
    assert one.path.is_file()


HEAD = "path,start,end,fps,height,width\n"


def test_shares_may_be_missing_and_other_columns_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("caption,width,height,fps,end,start,path\na dog,48,32,24,9,0,a.mp4\n")
    assert read_stretches(tmp_path / "t.csv") == [Stretch(tmp_path / "a.mp4", 0, 9, 24.0, 32, 48)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column path, start, end"),
        ("path,start\n", "no column end, fps, height, width"),
        (HEAD + "a.mp4,0,x,24,32,48\n", "line 2 cannot be used"),
        (HEAD + "a.mp4,0,9,24,32,48\na.mp4,0\n", "line 3 cannot be used"),
        (HEAD + "a.mp4,9,9,24,32,48\n", "line 2: frames 9 to 9 of 'a.mp4' are no stretch"),
        (HEAD + "a.mp4,-1,9,24,32,48\n", "no stretch"),
        (HEAD + ",0,9,24,32,48\n", "no stretch"),
        ("\udcff\udcfe", "no table"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(VideoError, match=told):
        read_stretches(tmp_path / "t.csv")


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stretches(tmp_path / "t.csv", [Stretch(tmp_path / "a.mp4", 0, 9, 24.0, 32, 48)])
    before = (tmp_path / "t.csv").read_bytes()

    def dies() -> object:
        yield Stretch(tmp_path / "b.mp4", 0, 9, 24.0, 32, 48)
        raise OSError(28, "No space left on device")

    with pytest.raises(VideoError, match="No space"):
        write_stretches(tmp_path / "t.csv", dies())
    assert (tmp_path / "t.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
