"""`vvae data check`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.video.test_cuts import shot
from tests.video.test_survey import write
from vvae.video.survey import read_stretches


@pytest.fixture
def folder(workplace: Path) -> Path:
    """A folder with a clip of two shots, 9 and 20 frames, beside something that is no clip."""
    (workplace / "clips").mkdir()
    write(workplace / "clips" / "two.mp4", shot(0, 9), shot(1, 20))
    (workplace / "clips" / "notes.txt").write_text("notes")
    return workplace / "clips"


def test_data_check_prints_a_row_per_clip_and_writes_the_table(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "check", "clips", "--out", "t.csv", "--workers", "1") == 0
    printed = capsys.readouterr().out
    for text in ("two.mp4", "29", "32x48", "no clips: 1", "without a cut 2, of 17 frames or more 1"):
        assert text in printed
    assert [(one.start, one.end) for one in read_stretches("t.csv")] == [(9, 29)]


def test_data_check_says_what_cannot_be_read_and_goes_on(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.mp4").write_bytes(b"no clip" * 99)
    assert run("data", "check", "clips", "--out", "t.csv", "--frames", "5", "--workers", "1", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["not_readable"], told["stretches"], told["long_enough"]) == (2, 1, 2, 2)
    bad, two = told["found"]
    assert (bad["path"], bad["frames"]) == ("clips/bad.mp4", 0)
    assert "bad.mp4" in bad["wrong"]
    assert (two["cuts"], two["wrong"]) == ([9], None)
    assert len(read_stretches("t.csv")) == 2
    assert run("data", "check", "clips", "--workers", "1") == 1
    assert "not readable: clips/bad.mp4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "FOLDER"),
        (("none",), "no such file or folder"),
        (("clips", "--out", "clip.mp4"), "exists already"),
        (("clips", "--out", "no/t.csv"), "does not exist"),
        (("clips", "--frames", "0"), "--frames"),
        (("clips", "--workers", "0"), "--workers"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    before = sorted(folder.parent.iterdir())
    assert run("data", "check", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(folder.parent.iterdir()) == before
