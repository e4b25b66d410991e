"""The doctor notices formats that cannot be written or do not come back as they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from av.video.reformatter import Colorspace

from vvae.doctor.codecs import FEW, FOLDER, codec_row, formats, picture
from vvae.doctor.row import Row
from vvae.video import read, sink
from vvae.video.formats import FORMATS


def test_every_format_that_can_be_written_is_tried() -> None:
    assert formats() == (*FORMATS, FOLDER)


@pytest.mark.parametrize("suffix", formats())
def test_every_format_comes_back(suffix: str) -> None:
    row = codec_row(suffix)
    assert row.verdict == "fit", row.found
    assert (row.figure == 0) == (suffix in (".mkv", ".gif", FOLDER))


def test_a_codec_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".mp4", replace(FORMATS[".mp4"], codec="libmissing"))
    row = codec_row(".mp4")
    assert (row.verdict, row.figure) == ("unfit", None)
    assert "libmissing" in row.found
    assert "lacks the codec" in row.advice


def test_without_pyav_one_row_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vvae.video.formats", "vvae.video.read", "vvae.video.write"):
        monkeypatch.setitem(sys.modules, name, None)
    (suffix,) = formats()
    row = codec_row(suffix)
    assert (row.name, row.verdict) == ("clips", "unfit")
    assert "pip install 'vvae[cli]'" in row.advice


def test_wrong_colours_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    describe = sink._File._describe

    def wrong(self: Any, codec: Any) -> None:
        describe(self, codec)
        codec.colorspace = Colorspace.ITU601

    monkeypatch.setattr(sink._File, "_describe", wrong)
    assert_unfit(codec_row(".mp4"))


def assert_unfit(row: Row) -> None:
    assert row.verdict == "unfit"
    assert row.advice


@pytest.mark.parametrize("suffix", [".mkv", FOLDER])
def test_one_grey_level_in_one_place_is_noticed_where_nothing_may_be_lost(
    monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def flawed(pictures: Any) -> torch.Tensor:
        pictures[-1][3, 5, 1] ^= 1
        return tensor(pictures)

    tensor = read._tensor
    monkeypatch.setattr(read, "_tensor", flawed)
    assert_unfit(codec_row(suffix))


def test_a_frame_that_does_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = read._painted

    def fewer(*arguments: Any) -> Iterator[Any]:
        return iter(list(shots(*arguments))[:-1])

    monkeypatch.setattr(read, "_painted", fewer)
    row = codec_row(".webm")
    assert_unfit(row)
    assert "(1, 3, 5, 48, 64) came back as (1, 3, 4, 48, 64)" in row.found


def test_a_gif_is_given_no_more_colours_than_it_holds() -> None:
    for frame in picture(FEW)[0].unbind(1):
        assert len(frame.flatten(1).unique(dim=1).T) <= 256
    assert len(picture(1)[0, :, 0].flatten(1).unique(dim=1).T) > 256
