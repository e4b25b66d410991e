"""Every variant of every architecture, by the names and shapes of its full-size checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import parity
from vvae import SpecError
from vvae.models.recognise import FAMILIES, Recognised, laid_out, recognise, shapes_of
from vvae.models.wrappers import bare
from vvae.published.renames import to_own, to_published
from vvae.published.table import published_shapes

Shapes = Mapping[str, Sequence[int]]
VARIANTS = {"sd1_5": "sd", "sd1_5_ldm": "sd", "sdxl": "sdxl", "sdxl_ldm": "sdxl", "v1.2_D8": "v1_2"}
"""What must be said: image VAEs that no tensor tells apart, an OD-VAE of a size that has no release."""


def entries() -> list[Any]:
    if not parity.DEFAULT.exists() and not parity.FOLDER.exists():
        return [pytest.param("", {}, id="absent", marks=pytest.mark.skip(reason="no parity files"))]
    return [
        pytest.param(name, known["names"], id=f"{family.architecture}-{name.split()[0]}")
        for family in FAMILIES
        if family.architecture not in parity.INSTALLED
        for name, known in parity.full_keys(family.architecture).items()
    ]


def recognised(name: str, shapes: Shapes) -> Recognised:
    """With the first answer to each choice; and the release where several have these shapes."""
    found = laid_out(shapes, name)
    answers: dict[str, object] = {c.name: next(iter(c.options)) for c in found.family.choices(found.fields)}
    if name in VARIANTS:
        answers["variant"] = VARIANTS[name]
    return recognise(shapes, name, answers=answers)


@pytest.mark.parametrize(("name", "shapes"), entries())
def test_each_release_loads_strictly_and_exports_back(name: str, shapes: Shapes) -> None:
    """Each tensor holds one number of its own, so that two that change places are seen."""
    published = {key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}
    kept = bare(published)
    if not kept.tensors:
        assert {left.what for left in kept.left_out} == {"the training loss"}
        return
    found = recognised(name, {key: tuple(tensor.shape) for key, tensor in kept.tensors.items()})
    own, extras = to_own(found.table, kept.tensors, shapes_of(found.spec), name)
    assert own.keys() == shapes_of(found.spec).keys()
    again = to_published(found.table, own, extras)
    assert again.keys() == published.keys()
    assert all(again[key].shape == tensor.shape for key, tensor in published.items())
    assert all(_number(again[key]) == _number(tensor) for key, tensor in published.items())


def _number(tensor: Tensor) -> float:
    """The only number of a tensor."""
    low, high = torch.aminmax(tensor)
    assert low == high
    return float(low)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)
def test_every_variant_is_recognised_as_itself(family: Any) -> None:
    for variant in family.variants:
        spec = family.make(variant)
        for naming in family.namings:
            try:
                shapes = published_shapes(family.renames(spec, naming), shapes_of(spec))
            except SpecError:
                continue  # another naming has its names
            found = recognise(shapes, variant, family.architecture, answers={"variant": variant})
            assert (found.variant, found.spec) == (variant, spec)
