"""`vvae list`, `show`, `convert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Run
from vvae import checkpoint, load
from vvae.arch.image_vae import image_vae
from vvae.arch.image_vae import renames as image_names
from vvae.arch.iv_vae import iv_vae, renames
from vvae.arch.open_sora import open_sora
from vvae.arch.open_sora import renames as sora_names
from vvae.cli.listing import print_models
from vvae.models.catalogue import Entry, catalogue
from vvae.published.renames import to_published


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return catalogue()


@pytest.mark.parametrize("columns", [80, 120])
def test_list_fits_its_columns(
    entries: list[Entry], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_models(entries)
    printed = capsys.readouterr().out
    assert all(len(line.rstrip()) <= columns for line in printed.splitlines())
    for text in (
        *(text for entry in entries for text in (entry.name, entry.release.place, entry.in_time)),
        *(
            "vvae-small",
            "4x8x8",
            "group causal; streams",
            "every frame by itself",
            "sees the whole clip; does not stream",
        ),
        *("any number of frames, sides multiples of 8", "1 + 4k frames", "multiples of 16 frames", "pieces of 17"),
        *("code MIT; weights not stated", "ivvae_z16_dim96.pth", "wpy1999/iv-vae", "reducio-ft4-fs32-attn23.ckpt"),
    ):
        assert text in printed
    assert "0 + 1k" not in printed


def test_list_prints_all_of_it_as_json(
    entries: list[Entry], run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vvae.models.catalogue.catalogue", lambda: entries)
    assert run("list", "--json") == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(listed) == [entry.name for entry in entries]
    assert listed["vvae-small"]["compression"] == [4, 8, 8]
    assert listed["iv_vae:z4_dim64"]["bytes"] is None
    assert listed["iv_vae:z4_dim64"]["file"] == "ivvae_z4_dim64.pth"
    assert listed["reducio:ft2"]["piece"] == 16
    assert listed["tae:zero"]["weights_licence"] == "not stated"
    assert run("list") == 0
    assert "reducio:ft2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("od_vae:v1_2", ("sees the whole clip; lead 1", "whole clip seen by", "1 group ahead seen by 2", "not stream")),
        ("od_vae_streaming:v1_2", ("no layer sees the whole clip", "1 group ahead seen by 2", "streams")),
        ("open_sora:v1_2", ("pieces of 17, each seen whole", "whole piece seen by", "streams")),
    ],
)
def test_show_says_which_layers_see_how_far(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], name: str, lines: tuple[str, ...]
) -> None:
    assert run("show", name, "--size", "1x16x16") == 0
    head = capsys.readouterr().out.partition("stage ")[0]
    assert all(len(line.rstrip()) <= 80 for line in head.splitlines())
    assert all(line in head for line in lines)


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json"])
def test_show_fits_80_columns_and_draws(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run("show", name, "--size", "9x32x32", "--picture", "p.png") == 0
    printed = capsys.readouterr().out
    assert all(len(line.rstrip()) <= 80 for line in printed.splitlines())
    for text in ("decoder.sum.block0", "1 + 4k", "multiples of 8", "16 x 3 x 4 x 4", "group, 1 back", "streams"):
        assert text in printed
    with Image.open(workplace / "p.png") as picture:
        assert picture.format == "PNG"


def test_show_says_that_images_do_not_see_each_other(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "image_vae:sd", "--size", "2x64x64") == 0
    printed = capsys.readouterr().out
    for text in ("image_vae_sd", "83,653,863", "4 x 2 x 8 x 8", "frames that fit any", "multiples of 8", "streams"):
        assert text in printed


def test_show_prints_its_figures_as_json(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "model.safetensors", "--size", "9x32x32", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["latent_shape"] == [16, 3, 4, 4]
    assert sum(stage["parameters"] for stage in shown["stages"]) == sum(
        shown[part]["parameters"] for part in ("encode", "decode")
    )


def test_convert_there_and_back(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = iv_vae(width=4, latent_channels=4).build()
    published = to_published(renames(model.spec), model.state_dict())
    torch.save(published, "release.pth")
    assert run("convert", "release.pth", "--choose", "variant=z4_dim64", "--out", "own.safetensors") == 0
    printed = capsys.readouterr().out
    for text in ("iv_vae, width 4, 4 latent channels, temporal factor 4", "scale 1.3196", "362 tensors", "axes of 1"):
        assert text in printed
    assert load("own.safetensors").spec.latent.scale == 1.3196  # type: ignore[union-attr]
    assert run("convert", "own.safetensors", "--to", "published", "--out", "back.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "iv_vae"
    back, _ = checkpoint.read_file("back.safetensors")
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], published[name]) for name in back)


def test_convert_asks_whose_scale_an_image_model_has(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    model = image_vae(widths=(32, 32), blocks=1).build()
    torch.save(to_published(image_names(model.spec, "compvis"), model.state_dict()), "release.pth")
    assert run("convert", "release.pth") == 2
    assert "choose variant=sd, variant=sdxl or variant=sd3" in capsys.readouterr().err
    assert run("convert", "release.pth", "--choose", "variant=sdxl", "--out", "own.safetensors", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["architecture"], told["variant"], told["temporal_factor"]) == ("image_vae", None, 1)
    assert load("own.safetensors").spec.latent.scale == 0.13025  # type: ignore[union-attr]


def test_convert_says_what_it_left_out_and_takes_a_naming(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    model = image_vae(widths=(32, 32), blocks=1).build()
    tensors = to_published(image_names(model.spec, "compvis"), model.state_dict())
    whole = {f"first_stage_model.{name}": tensor for name, tensor in tensors.items()}
    others = {
        "model.diffusion_model.out.weight": torch.ones(1),
        "model_ema.decay": torch.ones(1),
        "betas": torch.ones(1),
    }
    torch.save({"epoch": 1, "state_dict": {**whole, **others}}, "whole.ckpt")
    assert (
        run("convert", "whole.ckpt", "--arch", "image_vae", "--choose", "variant=sd", "--out", "own.safetensors") == 0
    )
    printed = capsys.readouterr().out
    for text in (
        "recognised: image_vae, widths 32, 32, 4 latent channels, temporal factor 1, names of compvis",
        "told by no tensor: scale 0.18215, taken from sd",
        "dropped: 'first_stage_model.' before every name",
        "taken: the entry state_dict; beside it: epoch",
        "left out: model_ema. (1 of moving averages of the weights), model. (1 of another model), others (1 of another",
    ):
        assert text in printed
    for naming in ("diffusers", "diffusers_old", "compvis"):
        assert (
            run("convert", "own.safetensors", "--to", "published", "--naming", naming, "--out", f"{naming}.safetensors")
            == 0
        )
        back, _ = checkpoint.read_file(f"{naming}.safetensors")
        assert back.keys() == to_published(image_names(model.spec, naming), model.state_dict()).keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_convert_prints_all_of_it_as_json(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    model = open_sora(
        width=32, blocks=1, multipliers=(1, 1), temporal=(True,), spatial={"widths": (32,), "blocks": 1}
    ).build()
    buffers = {name: torch.ones(1, 4, 1, 1, 1) for name in ("scale", "shift")}
    torch.save(to_published(sora_names(model.spec), model.state_dict(), buffers), "release.pt")
    assert run("convert", "release.pt") == 2
    assert "choose micro_frames=17 or micro_frames=none or another number" in capsys.readouterr().err
    assert run("convert", "release.pt", "--choose", "micro_frames=9", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["architecture"], told["fields"]["spatial"]["widths"]) == ("open_sora", [32])
    assert load(told["out"]).spec.framing.piece == 9
