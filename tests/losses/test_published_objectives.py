"""The published objectives as data: complete, and at home in the models that they train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden.golden import MODELS
from tests.losses.thin import thin_file
from vvae.arch import image_vae, iv_vae, od_vae, open_sora, reducio, tae
from vvae.losses import Objective, ObjectiveSpec

ARCHITECTURES = {
    "image_vae": image_vae,
    "iv_vae": iv_vae,
    "od_vae": od_vae,
    "open_sora": open_sora,
    "reducio": reducio,
    "tae": tae,
}
NAMES = {
    "image_vae": ["kl_f8", "ft_ema", "ft_mse"],
    "iv_vae": ["before_game", "last"],
    "od_vae": ["v1_0", "v1_0_3d", "v1_1", "v1_2"],
    "open_sora": ["stage1", "stage2", "stage3"],
    "reducio": ["release"],
    "tae": ["recipe", "default", "outliers"],
}
SMALL = {
    "image_vae": "image_vae",
    "iv_vae": "iv_vae",
    "od_vae": "od_vae_v1_2",
    "open_sora": "open_sora",
    "reducio": "reducio",
    "tae": "tae",
}


def objectives() -> Iterator[Any]:
    for arch, names in NAMES.items():
        for name in names:
            yield pytest.param(arch, ARCHITECTURES[arch].objectives[name], id=f"{arch}-{name}")


EVERY = pytest.mark.parametrize(("arch", "spec"), list(objectives()))


def test_no_objective_is_untested() -> None:
    assert {arch: list(make.objectives) for arch, make in ARCHITECTURES.items()} == NAMES


@EVERY
def test_objectives_survive_json_and_name_no_file(arch: str, spec: ObjectiveSpec) -> None:
    assert ObjectiveSpec.from_json(spec.to_json()) == spec
    assert spec.lpips is None


@EVERY
def test_paths_of_objectives_are_those_of_every_variant(arch: str, spec: ObjectiveSpec) -> None:
    """The parameter of the adaptive weight, layers that are frozen, layers that are compared."""
    for variant in ["v1_2"] if arch == "open_sora" else ARCHITECTURES[arch].variants:  # others are parts of it
        with torch.device("meta"):
            model = ARCHITECTURES[arch](variant).build()
        objective = Objective(spec.replace(adversarial=None))
        assert bool(objective.freeze(model)) == bool(spec.frozen)
        with objective.watching(model):
            pass
        if spec.adversarial is not None and spec.adversarial.adaptive is not None:
            assert model.get_parameter(spec.adversarial.adaptive.parameter).shape[0] == 3


@EVERY
def test_one_step_of_both_sides_trains_what_is_not_frozen(arch: str, spec: ObjectiveSpec, tmp_path: Path) -> None:
    """Of a small model, with LPIPS of few channels, once the game is on; everything reported is finite."""
    torch.manual_seed(0)
    model = MODELS[SMALL[arch]]().build()
    frames, side = (16, 32) if arch == "reducio" else (5, 24)
    game = spec.adversarial
    if game is not None:
        game = game.replace(start=0)
        frames = max(game.discriminator.shortest[0], frames)
    video = torch.rand(1, 3, frames, side, side) * 2 - 1
    objective = spec.replace(adversarial=game, lpips=thin_file(tmp_path)).build()
    objective.freeze(model)
    with objective.watching(model) as seen:
        posterior = model.encode(video)
        latents = posterior.sample(torch.Generator().manual_seed(0))
        without = {"content": None} if model.spec.content else {}
        result = model.decode(latents, frames=video.shape[2], **without)
    report = objective.generator(model, video, result, posterior, step=0, latents=latents, seen=seen)
    judged = objective.discriminator_side(video, result, step=0)
    assert all(torch.isfinite(value).all() for value in (*report.terms.values(), *judged.terms.values()))
    report.loss.backward()
    frozen = tuple(f"{path}." for path in spec.frozen)
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning
    assert not [name for name in learning if name.startswith(frozen)]
