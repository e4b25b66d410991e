"""A run of today begins like those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.first_steps import FILE, PLACES, first_steps, means
from vvae.training.recipe_file import read

RECORDED = json.loads(FILE.read_text())


def test_what_is_recorded_is_of_the_recipe() -> None:
    recipe = read("vvae_small")
    objective = recipe.stages[0].goal
    assert RECORDED["precision"] == recipe.precision
    assert tuple(RECORDED["places"]) == PLACES
    assert all(set(run) == {"loss", *objective.terms} for run in RECORDED["seeds"].values())


@pytest.mark.thorough  # clips are rendered for minutes
def test_the_first_steps_lie_within_those_of_the_recorded_seeds(tmp_path: Path) -> None:
    seed = read("vvae_small").seed
    for name, values in first_steps(tmp_path, seed).items():
        recorded = zip(*(means(run[name]) for run in RECORDED["seeds"].values()), strict=True)
        for place, found, seen in zip(PLACES, means(values), recorded, strict=True):
            assert 0.95 * min(seen) <= found <= 1.05 * max(seen), f"{name} before step {place}: {found}, seen {seen}"
