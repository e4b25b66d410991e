"""The published recipes: refused until their places are filled, checked at full width, run in a small one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vvae
from tests.arch.test_inflate import STARTS
from tests.training.runs import run
from vvae.errors import VvaeError
from vvae.losses import LPIPSSpec, NLLSpec, ObjectiveSpec
from vvae.training import Recipe, loop, recipe_file

PUBLISHED = tuple(name for name in recipe_file.shipped() if name != "vvae_small")
CAPITALS = re.compile(r"[A-Z0-9 ,-]{20,}(\.\w+)?")
DATA = {"kind": "procedural", "clips": 2, "frames": 16, "size": 32}
WIDTHS = {"widths": (4, 4, 8, 8), "blocks": 1, "groups": 2}
MULTIPLES = {"width": 4, "multipliers": (1, 1, 2, 2), "blocks": 1, "groups": 2}
SMALL: dict[str, dict[str, Any]] = {
    "open_sora_v1_2": {"width": 4, "blocks": 1, "groups": 2, "spatial": {"widths": (4, 4), "blocks": 1, "groups": 2}},
    "od_vae_v1_2": {**MULTIPLES, "latent_channels": 3},
    "reducio": {
        "widths": (4, 4, 8),
        "heads": 2,
        "latent_channels": 3,
        "content_widths": (4, 6, 8),
        "fuse": (None, 1, None),
    },
    "tae": {**WIDTHS, "latent_channels": 2},
    "iv_vae": {"width": 4, "latent_channels": 4, "blocks": 1, "encoder_attention": (1,), "decoder_attention": (2,)},
    "image_vae_kl_f8": {**WIDTHS, "latent_channels": 2},
    "image_vae_ft": {**WIDTHS, "latent_channels": 2},
}
LONG = ("iv_vae", "reducio", "image_vae_kl_f8")
SMALL["reducio"] |= {"blocks": 1, "groups": 2, "content_blocks": 1}


def without_lpips(goal: ObjectiveSpec) -> ObjectiveSpec:
    """The same without the share of LPIPS, whose weights do not ship."""
    terms = {name: term for name, term in goal.terms.items() if not isinstance(term, LPIPSSpec)}
    silent = {name: t.replace(perceptual=0.0) if isinstance(t, NLLSpec) else t for name, t in terms.items()}
    return goal.replace(terms=silent)


def at_once(goal: ObjectiveSpec) -> ObjectiveSpec:
    """The same with the game on from the first step."""
    return goal if goal.adversarial is None else goal.replace(adversarial=goal.adversarial.replace(start=0))


def filled(name: str, of: Callable[[ObjectiveSpec], ObjectiveSpec], **fields: Any) -> Recipe:
    """A published recipe on procedural clips, without LPIPS; `of` makes its objectives."""
    given = recipe_file.read(name)
    stages = [stage.replace(objective=of(without_lpips(stage.goal))) for stage in given.stages]
    return given.replace(data=DATA, lpips=None, **{"stages": stages, **fields})


def image_model(name: str, folder: Path) -> dict[str, Any]:
    """The model of a recipe in small width, with an image VAE to start from where the publication has one."""
    given, file = recipe_file.read(name).model, folder / "image.safetensors"
    if given.start == "weights":
        vvae.arch.image_vae(**SMALL[name]).build().save(file)
        return {"name": str(file), "start": "weights"}
    starts = {
        "od_vae_v1_2": STARTS["od_vae_v1_2"].image,
        "tae": STARTS["tae_zero"].image,
        "iv_vae": STARTS["iv_vae"].image,
    }
    if given.inflate is None:
        return {"name": given.name, "fields": SMALL[name]}
    if name == "open_sora_v1_2":
        spec = vvae.arch.image_vae(**SMALL[name]["spatial"], latent_channels=4)
    else:
        spec = starts[name]()
    spec.build().save(file)
    return {"name": given.name, "fields": {**given.fields, **SMALL[name]}, "inflate": str(file)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_refused_until_its_places_are_filled(name: str, tmp_path: Path) -> None:
    given = recipe_file.read(name)
    data: Any = given.data
    places = [data.path, given.lpips, given.model.inflate or given.lpips]
    assert all(CAPITALS.fullmatch(str(place)) for place in places)
    with pytest.raises(VvaeError, match=r"[A-Z]{3} .*: no such file"):
        run(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_place_of_lpips_is_refused_with_what_to_fetch() -> None:
    with pytest.raises(VvaeError, match=r"FILE OF VVAE CONVERT LPIPS.*: no such file; fetch .*vvae convert lpips"):
        loop.check(recipe_file.read("reducio").replace(data=DATA))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "image_vae_ft"])
def test_objective_and_sizes_fit_the_model_at_full_width(name: str) -> None:
    given = recipe_file.read(name).model
    loop.check(filled(name, lambda goal: goal, model={"name": given.name, "fields": given.fields}))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.thorough if n in LONG else ()) for n in PUBLISHED])
def test_a_published_recipe_runs_in_small_width(name: str, tmp_path: Path) -> None:
    """Two steps of each stage: two clips or as few as pass, no more frames than 9 (Reducio has 16), 32 pixels."""
    given = filled(name, at_once, model=image_model(name, tmp_path), checkpoint_activations=False)
    small = []
    for stage in given.stages:
        frames = [16] if name == "reducio" else sorted({min(frames, 9) for frames in stage.batch.frames})[-2:]
        batch = stage.batch.replace(clips=min(stage.batch.clips, 2), frames=frames, sizes=[32])
        small.append(stage.replace(steps=2, batch=batch))
    file = run(given.replace(stages=small), tmp_path / "out")
    assert file is not None
    rows = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == [stage.name for stage in small for _ in range(2)]
    assert all(row["applied"] for row in rows)
    for row, stage in zip(rows, [stage for stage in small for _ in range(2)], strict=True):
        told = set(row["values"])
        assert set(stage.goal.terms) <= told
        assert ({"generator", "discriminator"} <= told) == (stage.goal.adversarial is not None)
    assert vvae.load(file).spec == given.model.spec()


def test_fine_tuning_a_decoder_leaves_the_encoder_as_it_is() -> None:
    assert {stage.goal.frozen for stage in recipe_file.read("image_vae_ft").stages} == {("encoder",)}
