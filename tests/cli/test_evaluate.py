"""`vvae eval` and `vvae calibrate`: what they leave and print, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.losses.thin import thin_file
from tests.video.test_read import two_streams
from vvae import checkpoint
from vvae.evaluation import calibrate as module
from vvae.models import load

SMALL = ("--clips", "clip.mp4", "--frames", "9", "--size", "32", "--crop", "16")


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_eval_leaves_a_folder_and_prints_its_tables(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eval", "model.safetensors", "other.safetensors", *SMALL, "--baseline", "linear") == 0
    printed = capsys.readouterr().out
    for name in ("linear-4x8x8-z16", "model", "other", "evaluation/evaluation.md", "9 frames from 0 on", "borders"):
        assert name in printed
    assert len(list((workplace / "evaluation").iterdir())) == 4
    assert max(map(len, printed.splitlines())) <= 80


def test_eval_prints_its_result_as_json(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "mine.py").write_text("def means(video):\n    return video.mean(dim=(2, 3, 4))\n")
    (workplace / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (workplace / "clips" / name).write_bytes((workplace / "clip.mp4").read_bytes())
    call = ("eval", "model.safetensors", "--clips", "clips", *SMALL[2:], "--start", "2", "--dtype", "float64")
    assert run(*call, "--out", "here", "--features", "mine:means", "--json") == 0
    found = told(capsys)
    assert found == {"folder": "here", **json.loads((workplace / "here" / "evaluation.json").read_text())}
    assert [clip["name"] for clip in found["clips"]] == ["a.mp4", "b.mp4"]
    protocol = {name: found["protocol"][name] for name in ("frames", "start", "size", "crop", "dtype")}
    assert protocol == {"frames": 9, "start": 2, "size": 32, "crop": 16, "dtype": "float64"}
    assert found["models"][0]["frechet"] >= 0
    for of in (found["models"][0], *found["models"][0]["clips"]):
        assert of["systematic"].keys() == {"shift", "at_borders", "elsewhere", "borders", "colour"}


def test_lpips_is_measured_by_a_file(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    file = thin_file(workplace)
    assert run("eval", "model.safetensors", *SMALL, "--lpips", file, "--json") == 0
    found, (_, weights) = told(capsys), checkpoint.load_weights(file)
    assert found["models"][0]["mean"]["lpips"] > 0
    assert found["lpips_sha256"] == checkpoint.digest(weights)
    page = (workplace / "evaluation" / "evaluation.md").read_text()
    assert f"LPIPS by the weights of sha256 {found['lpips_sha256']}." in page
    assert run("eval", "model.safetensors", *SMALL, "--out", "other", "--lpips", "none.safetensors") == 2
    assert "vvae convert lpips" in capsys.readouterr().err
    assert not (workplace / "other").exists()


def test_all_frames_of_their_own_size_can_be_asked_for(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ("--clips", "clip.mp4", "--frames", "0", "--size", "0", "--crop", "1")
    assert run("eval", "model.safetensors", *whole) == 0
    assert "1 clip, all frames from 0 on, their own size" in capsys.readouterr().out
    found = json.loads((workplace / "evaluation" / "evaluation.json").read_text())
    assert (found["protocol"]["frames"], found["protocol"]["size"]) == (None, None)
    assert (found["clips"][0]["height"], found["models"][0]["clips"][0]["frames"]) == (32, 19)


def test_a_stream_can_be_chosen(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    two_streams(workplace / "two.mp4")
    call = ("--clips", "two.mp4", "--frames", "3", "--size", "0", "--crop", "1")
    for stream, side in (("1", 32), ("2", 64)):
        assert run("eval", "model.safetensors", *call, "--out", stream, "--stream", stream, "--json") == 0
        assert told(capsys)["clips"][0]["height"] == side
    assert run("calibrate", "model.safetensors", *call, "--out", "n.json", "--stream", "2", "--json") == 0
    assert told(capsys)["positions"] == 2 * 8 * 8
    assert run("eval", "model.safetensors", *call, "--out", "0", "--stream", "0") == 2
    assert "stream 0 is not a video stream" in capsys.readouterr().err


def test_a_single_frame_has_no_flicker(workplace: Path, run: Run) -> None:
    assert run("eval", "model.safetensors", "other.safetensors", *SMALL[:2], "--frames", "1", *SMALL[4:]) == 0
    found = json.loads((workplace / "evaluation" / "evaluation.json").read_text())
    assert set(found["models"][0]["mean"]) == {"psnr", "ssim"}
    assert {difference["metric"] for difference in found["differences"]} == {"psnr", "ssim"}


def test_models_whose_files_have_one_name_are_told_apart(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "inner").mkdir()
    (workplace / "inner" / "model.safetensors").write_bytes((workplace / "other.safetensors").read_bytes())
    assert run("eval", "model.safetensors", "inner/model.safetensors", *SMALL, "--json") == 0
    assert [model["name"] for model in told(capsys)["models"]] == ["model.safetensors", "inner/model.safetensors"]


def test_a_baseline_can_be_fitted_to_other_clips(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "second.mp4").write_bytes((workplace / "clip.mp4").read_bytes() + b"\0")
    call = ("eval", "model.safetensors", *SMALL, "--baseline", "linear", "--baseline-clips", "second.mp4")
    assert run(*call, "--json") == 0
    found = told(capsys)
    assert found["models"][0]["about"]["fitted_to"] != [found["clips"][0]["sha256"]]


def test_calibrate_writes_a_model_or_its_numbers(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("calibrate", "model.safetensors", *SMALL)
    assert run(*call, "--out", "numbers.json", "--json") == 0
    found = told(capsys)
    assert found == {"out": "numbers.json", **json.loads((workplace / "numbers.json").read_text())}
    assert (found["positions"], found["frames"]) == (3 * 4 * 6, 9)
    assert run(*call, "--out", "new.safetensors") == 0
    assert "latent positions 72, frames 9, clips 1" in capsys.readouterr().out
    latent = load(workplace / "new.safetensors").spec.latent
    assert [list(latent.shift), list(latent.scale)] == [found["shift"], found["scale"]]
    assert run(*call, "--out", "one.json", "--scalar", "--of", "sample", "--json") == 0
    assert isinstance(told(capsys)["scale"], float)
    assert list(workplace.glob("*.part")) == []


def test_calibrate_goes_on_after_an_interruption_and_says_so(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "d.mp4").write_bytes((workplace / "clip.mp4").read_bytes() + b"\0")
    call = ("calibrate", "model.safetensors", *SMALL, "--clips", "d.mp4")
    assert run(*call, "--out", "whole.json") == 0
    real = module._of_clip

    def interrupted(model: Any, clip: Any, *rest: Any) -> Any:
        if clip.path.name == "d.mp4":
            raise KeyboardInterrupt
        return real(model, clip, *rest)

    monkeypatch.setattr(module, "_of_clip", interrupted)
    assert run(*call, "--out", "n.json") == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "vvae: interrupted; n.json.part holds 1 of 2 clips, the same command goes on from there"
    )
    monkeypatch.setattr(module, "_of_clip", real)
    assert run(*call, "--out", "n.json") == 0
    assert (workplace / "n.json").read_bytes() == (workplace / "whole.json").read_bytes()


EVAL = ("eval", "model.safetensors")
CALIBRATE = ("calibrate", "model.safetensors", *SMALL)
WRONG = [
    (("eval",), "MODEL"),
    (EVAL, "--clips"),
    ((*EVAL, "--clips", "none"), "none: no such file or folder"),
    ((*EVAL, "--clips", "clip.mp4"), "has 19 frames, the protocol takes 65"),
    ((*EVAL, *SMALL, "--crop", "much"), "write it as 32 or 256x256"),
    ((*EVAL, *SMALL, "--crop", "16x"), "write it as 32 or 256x256"),
    ((*EVAL, *SMALL, "--crop", "64x64"), "cannot be cropped"),
    ((*EVAL, *SMALL, "--out", "clip.mp4"), "exists already"),
    ((*EVAL, *SMALL, "--features", "absent:f"), "absent"),
    ((*EVAL, *SMALL, "--features", "math:pi"), "is a float"),
    ((*EVAL, *SMALL, "--features", "math:floor"), "two clips or more"),
    ((*EVAL, *SMALL, "--baseline", "square"), "--baseline"),
    ((*EVAL, *SMALL, "--baseline-clips", "clip.mp4"), "say --baseline linear"),
    (("eval", "model.safetensors", "model.safetensors", *SMALL), "stands for two models"),
    (("eval", "spec.json", *SMALL), "without weights"),
    ((*CALIBRATE, "--out", "x.txt"), "give such an ending"),
    ((*CALIBRATE, "--out", "model.safetensors"), "exists already"),
    (CALIBRATE, "--out"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: " ".join(value[-2:]) if value else "")
def test_a_mistake_is_one_line_and_leaves_nothing(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    before = sorted(workplace.iterdir())
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(workplace.iterdir()) == before
