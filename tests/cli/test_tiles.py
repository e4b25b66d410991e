"""`--tile`, `--chunk`, `--compare-whole`: exact ones change no frame, presets say how they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Run
from vvae.arch import od_vae
from vvae.arch.od_vae import tiling_rule
from vvae.tiling import Tiles
from vvae.video import read_clip
from vvae.video.latents import Latents

MODEL = ("--model", "model.safetensors")


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset for clips as small as those here: tiles of 16 pixels, chunks of 9 frames; and one that is wrong."""
    fitting = tiling_rule(16, 2, 0.5, frames=9, positions=3)
    wrong = fitting.replace(decode=Tiles(space=fitting.decode.space.replace(blend=1)))  # type: ignore[union-attr]
    monkeypatch.setattr(od_vae, "tiling", {"tiny": fitting, "unlike": wrong})


def figures(folder: Path) -> Any:
    return json.loads((folder / "figures.json").read_text())


def frames(path: Path) -> torch.Tensor:
    return torch.cat(list(read_clip(path)), dim=2)


def test_exact_tiles_and_chunks_change_no_frame(workplace: Path, run: Run) -> None:
    part = ("--frames", "9", *MODEL)
    assert run("reconstruct", "clip.mp4", *part, "--out", "whole") == 0
    assert run("reconstruct", "clip.mp4", *part, "--out", "tiles", "--tile", "24", "--chunk", "4") == 0
    whole, tiles = figures(workplace / "whole"), figures(workplace / "tiles")
    assert tiles["psnr_per_frame"] == pytest.approx(whole["psnr_per_frame"], abs=1e-3)
    assert tiles["exact"]
    for direction in ("encode", "decode"):
        assert (tiles["plan"][direction]["tile"], tiles["plan"][direction]["groups"]) == (24, 1)


def test_latents_in_exact_tiles_are_those_of_the_whole(workplace: Path, run: Run) -> None:
    assert run("encode", "clip.mp4", *MODEL, "--out", "a.safetensors") == 0
    assert run("encode", "clip.mp4", *MODEL, "--out", "b.safetensors", "--tile", "16") == 0
    a, b = (next(Latents(workplace / f"{name}.safetensors").posteriors(None)) for name in "ab")  # type: ignore[arg-type]
    assert (a.mean - b.mean).abs().max() < 1e-5 * a.mean.abs().max()
    info = Latents(workplace / "b.safetensors").info
    assert info.exact
    assert json.loads(info.plan)["tile"] == 16
    assert run("decode", "b.safetensors", *MODEL, "--out", "b.mkv", "--tile", "24", "--chunk", "8") == 0
    assert run("decode", "b.safetensors", *MODEL, "--out", "w.mkv") == 0
    assert (frames(workplace / "b.mkv") - frames(workplace / "w.mkv")).abs().max() < 1.01 / 127.5  # rounded to bytes


def test_a_preset_is_told_to_be_inexact_and_compared_with_the_whole(
    workplace: Path, run: Run, presets: None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ("--tile", "od_vae.tiny", "--compare-whole")
    assert run("reconstruct", "clip.mp4", *MODEL, "--out", "tiles", *told) == 0
    assert "tiles against the whole clip" in capsys.readouterr().out
    found = figures(workplace / "tiles")
    assert not found["exact"]
    assert found["plan"]["decode"]["preset"] == "od_vae.tiny"
    beside = found["against_whole"]
    assert beside["seams"] == {"rows": [8, 16, 24], "columns": [8, 16, 24, 32, 40]}
    assert [border["frame"] for border in beside["chunk_borders"]] == [9, 17]
    assert 0 < max(border["greatest_difference"] for border in beside["chunk_borders"]) <= beside["greatest_difference"]
    assert 0 < beside["psnr"] < 100
    with Image.open(workplace / "tiles" / "difference.png") as picture:
        assert picture.size == (3 * 48, 32)


def test_latents_under_a_preset_say_so(workplace: Path, run: Run, presets: None) -> None:
    assert run("encode", "clip.mp4", *MODEL, "--tile", "od_vae.tiny") == 0
    latents = Latents(workplace / "clip_latents.safetensors")
    assert not latents.info.exact
    assert json.loads(latents.info.plan)["preset"] == "od_vae.tiny"
    assert run("decode", "clip_latents.safetensors", *MODEL, "--tile", "od_vae.tiny", "--out", "t.mkv") == 0
    assert run("reconstruct", "clip.mp4", *MODEL, "--tile", "od_vae.tiny", "--out", "r") == 0
    assert (workplace / "r" / "side_by_side.mp4").exists()
    assert "against_whole" not in figures(workplace / "r")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tile", "20"), "--tile 20: tiles of 20 pixels break cells of 8; multiples of 8 are legal, as 16 or 24"),
        (("--tile", "0"), "multiples of 8 are legal, as 8"),
        (("--tile", "od_vae.tinny"), "near it: od_vae.tiny"),
        (("--tile", "od_vae.unlike"), "does not fit vvae-small (decode:"),
        (("--tile", "reducio.release"), "presets that fit, not exact: "),
        (("--tile", "16", "--chunk", "6"), "chunks of 6 frames break groups of 4; multiples are legal: 4, 8, 12"),
        (("--chunk", "0"), "--chunk"),
        (("--tile", "od_vae.tiny", "--chunk", "8"), "leave --chunk out"),
        (("--tile", "16", "--memory", "2GiB"), "leave it out with --memory"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
@pytest.mark.parametrize("command", ["reconstruct", "encode"])
def test_a_wrong_tile_or_chunk_is_refused_by_what_is_legal(
    workplace: Path,
    run: Run,
    presets: None,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: tuple[str, ...],
    told: str,
) -> None:
    before = sorted(workplace.rglob("*"))
    assert run(command, "clip.mp4", *MODEL, *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize("options", [("--tile", "16"), ("--chunk", "4"), ("--tile", "od_vae.tiny")], ids=" ".join)
def test_what_does_not_fit_into_memory_is_refused_before_the_first_frame(
    workplace: Path,
    run: Run,
    presets: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, str],
) -> None:
    monkeypatch.setattr(sys.modules["vvae.tiling.plan"], "usable", lambda device: 2**20)
    before = sorted(workplace.rglob("*"))
    assert run("reconstruct", "clip.mp4", *MODEL, *options) == 2
    refusal = capsys.readouterr().err
    assert f"{' '.join(options)}: vvae-small needs " in refusal
    assert "but there are 1MiB; give more memory" in refusal
    assert sorted(workplace.rglob("*")) == before


def test_an_exact_plan_is_not_compared(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (("--tile", "16"), ()):
        assert run("reconstruct", "clip.mp4", *MODEL, "--compare-whole", *options) == 2
        assert "--compare-whole: the plan is exact" in capsys.readouterr().err
    assert not (workplace / "clip_vvae").exists()


def test_a_model_that_sees_whole_frames_is_refused_by_its_layer_and_the_presets_that_fit(
    workplace: Path, run: Run, presets: None, capsys: pytest.CaptureFixture[str]
) -> None:
    od_vae("v1_2", width=4, groups=2, blocks=1).build().save("whole.safetensors")
    for options, told in (
        (("--tile", "16"), "encoder.level0.block0.norm_a"),
        (("--chunk", "4"), "over the whole clip"),
    ):
        assert run("reconstruct", "clip.mp4", "--model", "whole.safetensors", *options) == 2
        refusal = capsys.readouterr().err
        assert told in refusal
        assert "od_vae.tiny" in refusal
