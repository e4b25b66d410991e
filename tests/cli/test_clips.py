"""`vvae reconstruct`, `encode`, `decode`: what they leave, and that both ways give the same clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import vvae.video.steps
from tests.cli.conftest import Run
from tests.video.test_sound import singing
from vvae.arch import od_vae, open_sora, reducio
from vvae.video import read_clip
from vvae.video.latents import Latents

MODEL = ("--model", "model.safetensors")
SMALL = {"groups": 2, "blocks": 1}
IN_PIECES = {
    "open_sora": lambda: open_sora(
        width=4, multipliers=(1, 1), temporal=(True,), spatial={"widths": (4,), **SMALL}, piece=5, **SMALL
    ),
    "reducio": lambda: reducio(
        widths=(4, 4),
        content_widths=(4,),
        content_blocks=1,
        heads=2,
        latent_channels=4,
        frames=4,
        time_halvings=1,
        fuse=(1, None),
        fuse_middle=None,
        **SMALL,
    ),
}


def frames(path: Path) -> torch.Tensor:
    return torch.cat(list(read_clip(path)), dim=2)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed, all of which must be JSON."""
    return json.loads(capsys.readouterr().out)


def test_reconstruct_fills_a_folder_named_after_the_clip(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reconstruct", "clip.mp4", *MODEL, "--frames", "7") == 0
    assert len(list((workplace / "clip_vvae").iterdir())) == 5
    printed = capsys.readouterr().out
    assert "7 frames of 32x48" in printed
    assert "clip_vvae" in printed


def test_reconstruct_prints_its_figures_as_json(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    part = ("--start", "2", "--frames", "6", "--size", "16", "--allow-partial", "--stream", "0")
    assert run("reconstruct", "clip.mp4", *MODEL, "--out", "here", *part, "--json") == 0
    figures = told(capsys)
    assert (figures["frames"], figures["height"], figures["width"]) == (6, 16, 24)
    assert figures == {"folder": "here", **json.loads((workplace / "here" / "figures.json").read_text())}


@pytest.mark.parametrize("name", ["reducio", pytest.param("open_sora", marks=pytest.mark.thorough)])
def test_models_in_pieces_give_the_same_both_ways(workplace: Path, run: Run, name: str) -> None:
    torch.manual_seed(0)
    spec = IN_PIECES[name]()
    spec.build().save("pieces.safetensors")
    model = ("--model", "pieces.safetensors")
    assert run("reconstruct", "clip.mp4", *model, "--out", "r") == 0
    assert run("encode", "clip.mp4", *model) == 0
    assert run("decode", "clip_latents.safetensors", *model, "--out", "d.mp4") == 0
    assert torch.equal(frames(workplace / "d.mp4"), frames(workplace / "r" / "reconstruction.mp4"))
    figures = json.loads((workplace / "r" / "figures.json").read_text())
    assert (figures["psnr_lead"], len(figures["psnr_per_position"])) == (None, spec.framing.piece)


def test_a_model_that_does_not_stream_takes_the_clip_whole(workplace: Path, run: Run) -> None:
    model = od_vae("v1_2", width=4, **SMALL).build().eval()
    model.save("whole.safetensors")
    shared = ("--model", "whole.safetensors")
    assert run("reconstruct", "clip.mp4", *shared, "--out", "r") == 0
    assert run("encode", "clip.mp4", *shared) == 0
    assert run("decode", "clip_latents.safetensors", *shared, "--out", "d.mkv") == 0
    figures = json.loads((workplace / "r" / "figures.json").read_text())
    assert figures["exact"]
    assert figures["plan"]["encode"] == figures["plan"]["decode"] == {"groups": None, "clips": None, "tile": None}
    with torch.inference_mode():
        want = model.decode(model.encode(frames(workplace / "clip.mp4"))).clamp(-1, 1)
    assert (frames(workplace / "d.mkv") - want).abs().max() <= 1.01 / 127.5  # rounded to bytes


@pytest.mark.parametrize("model", ["whole.safetensors", "model.safetensors"])
def test_a_clip_that_fits_on_no_exact_way_is_refused_before_anything_is_written(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    od_vae("v1_2", width=4, **SMALL).build().save("whole.safetensors")
    assert run("reconstruct", "clip.mp4", "--model", model, "--memory", "300MiB", "--out", "r") == 2
    refusal = capsys.readouterr().err
    assert "no exact way needs less" in refusal
    assert len(refusal.splitlines()) == 1
    assert not (workplace / "r").exists()
    least = refusal.partition(" needs ")[2].partition(" ")[0]
    assert run("reconstruct", "clip.mp4", "--model", model, "--memory", least, "--out", "r") == 0


@pytest.mark.parametrize("memory", [(), ("--memory", "2GiB")])
def test_every_output_records_its_plan(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], memory: tuple[str, ...]
) -> None:
    assert run("encode", "clip.mp4", *MODEL, *memory, "--json") == 0
    encoded = told(capsys)
    assert run("decode", "clip_latents.safetensors", *MODEL, *memory, "--json") == 0
    decoded = told(capsys)
    info = Latents("clip_latents.safetensors").info
    assert (encoded["exact"], decoded["exact"], info.exact) == (True, True, True)
    assert encoded["plan"]["encode"] == json.loads(info.plan)
    most = 4 if memory else 2  # 19 frames are 5 groups, but of a file any number may come
    assert encoded["plan"]["encode"]["groups"] >= most
    assert decoded["plan"]["decode"]["groups"] >= most
    assert min(encoded["plan"]["needs"], decoded["plan"]["needs"]) > 2**28


@pytest.mark.parametrize(
    "part",
    [(), ("--start", "3", "--frames", "9"), ("--dtype", "float64"), ("--memory", "2GiB")],
    ids=str,
)
def test_encode_and_decode_give_the_clip_of_reconstruct(workplace: Path, run: Run, part: tuple[str, ...]) -> None:
    shared = part if part[:1] in (("--dtype",), ("--memory",)) else ()
    assert run("reconstruct", "clip.mp4", *MODEL, *part, "--out", "r") == 0
    assert run("encode", "clip.mp4", *MODEL, *part) == 0
    assert run("decode", "clip_latents.safetensors", *MODEL, *shared, "--out", "d.mp4") == 0
    assert torch.equal(frames(workplace / "d.mp4"), frames(workplace / "r" / "reconstruction.mp4"))


def test_the_sound_of_the_chosen_part_is_kept_when_it_is_asked_for(workplace: Path, run: Run) -> None:
    singing(workplace / "singing.mp4")
    assert run("reconstruct", "singing.mp4", *MODEL, "--start", "10", "--frames", "20", "--out", "silent") == 0
    assert run("reconstruct", "singing.mp4", *MODEL, "--start", "10", "--frames", "20", "--audio", "--out", "part") == 0
    assert run("encode", "singing.mp4", *MODEL) == 0
    assert run("decode", "singing_latents.safetensors", *MODEL, "--audio-from", "singing.mp4", "--out", "d.mp4") == 0
    assert sound(workplace / "silent" / "reconstruction.mp4") is None
    for file, seconds in (("part/reconstruction.mp4", 0.8), ("part/side_by_side.mp4", 0.8), ("d.mp4", 2.0)):
        assert sound(workplace / file) == pytest.approx(seconds, abs=0.03)  # a packet of AAC lasts 0.023 s


def sound(path: Path) -> float | None:
    """Seconds of the first audio stream."""
    with av.open(str(path)) as container:
        streams = container.streams.audio
        return float(streams[0].duration * streams[0].time_base) if streams else None


def test_encode_goes_on_after_an_interruption_and_says_so(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = vvae.video.encode.encoded

    def interrupted(*arguments: Any) -> Any:
        yield next(real(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr("vvae.video.encode.encoded", interrupted)
    assert run("encode", "clip.mp4", *MODEL, "--out", "new.safetensors") == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == ("vvae: interrupted; new.safetensors.part holds 9 frames, the same command goes on from there")
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert run("encode", "clip.mp4", *MODEL, "--out", "new.safetensors", "--json") == 0
    assert told(capsys)["resumed_at"] == 9
    assert (workplace / "new.safetensors").read_bytes() == (workplace / "z.safetensors").read_bytes()
    assert not (workplace / "new.safetensors.part").exists()


@pytest.mark.parametrize("command", [("reconstruct", "clip.mp4"), ("decode", "z.safetensors")])
def test_an_interruption_leaves_nothing(
    workplace: Path,
    run: Run,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt
        yield

    before = sorted(workplace.iterdir())
    for place in ("reconstruct", "decode"):
        monkeypatch.setattr(f"vvae.video.{place}.decoded", interrupted)
    assert run(*command, *MODEL) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "vvae: interrupted"
    assert sorted(workplace.iterdir()) == before


def test_decode_finds_a_model_that_ships_by_its_weights(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", "clip.mp4", "--frames", "5") == 0
    assert run("decode", "clip_latents.safetensors", "--json") == 0
    assert '"model": "vvae-small"' in capsys.readouterr().out
    assert frames(workplace / "clip_latents.mp4").shape == (1, 3, 5, 32, 48)
