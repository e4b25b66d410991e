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
from vvae.published.renames import to_published


def test_list_names_what_ships_and_what_is_known(workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("vvae-small", "iv_vae:z16_dim96", "image_vae:sdxl", "4x8x8", "causal"))
    assert all(len(line.rstrip()) <= 110 for line in printed.splitlines())
    assert run("list", "--json") == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["vvae-small"]["compression"] == [4, 8, 8]
    assert listed["iv_vae:z4_dim64"]["bytes"] is None


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
    assert run("convert", "release.pth", "--variant", "z4_dim64", "--out", "own.safetensors") == 0
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
    assert "--variant" in capsys.readouterr().err
    assert run("convert", "release.pth", "--variant", "sdxl", "--out", "own.safetensors", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["architecture"], told["variant"], told["temporal_factor"]) == ("image_vae", "sdxl", 1)
    assert load("own.safetensors").spec.latent.scale == 0.13025  # type: ignore[union-attr]
