"""Parity files: outputs of published code, to which weights and inputs are made again from their names."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vvae.context import StreamStep, module_names
from vvae.published.renames import to_own
from vvae.published.table import Rename

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "parity"
FOLDER = Path(os.environ.get("VVAE_PARITY_DIR", DEFAULT))
EXCEPTED_CASES: Mapping[str, tuple[str, ...]] = {
    "image_vae": (
        *(f"tiled_{size}" for size in ("40x56", "64x72", "48x32", "32x32_not_tiled")),
        *(f"loss_ldm_{kind}" for kind in ("hinge", "vanilla")),
    )
}
"""Cases of what is not built yet, by name: tiling, and losses with networks."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


def _values() -> ModuleType:
    place = next(folder / "values.py" for folder in (FOLDER, DEFAULT) if (folder / "values.py").exists())
    spec = importlib.util.spec_from_file_location("parity_values", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Case:
    """One case: what was called with what, and what came out."""

    arch: str
    data: Mapping[str, Any]
    names: Mapping[str, list[int]]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.data["config"]

    @property
    def call(self) -> str:
        """What was called, without the numbers."""
        return re.sub(r"\d+", "#", self.data["call"])

    @cached_property
    def values(self) -> ModuleType:
        return _values()

    def weights(self, only: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
        kept = self.data.get("kept", {})
        assert not kept, f"this case keeps values, which is not understood yet: {kept}"
        return {n: torch.from_numpy(self.values.weight(n, tuple(s))) for n, s in self.names.items() if only(n)}

    def input(self, name: str, dtype: torch.dtype) -> Tensor:
        scale = self.data.get("input_scale", 1.0)
        scale = scale.get(name, 1.0) if isinstance(scale, Mapping) else scale
        values = self.values.uniform(f"in.{name}", tuple(self.data["inputs"][name])) * scale
        return torch.from_numpy(values).to(dtype)

    def check(self, outputs: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        """Every published output within the tolerance of `dtype`, none left out."""
        expected = load_file(FOLDER / self.arch / self.data["file"])
        assert set(outputs) == set(expected), "each published output must be computed, and no other"
        for name, want in expected.items():
            found = outputs[name].detach()
            assert list(found.shape) == list(self.data["outputs"][name]), name
            if stride := self.data.get("stride", {}).get(name):
                found = found.flatten()[::stride]
            error = (found.double() - want.double().reshape(found.shape)).abs().max().item()
            size = want.abs().max().item()
            assert error <= TOLERANCE[dtype] * size, f"{name}: {error / max(size, 1e-300):.2e} of the largest value"


def cases(arch: str) -> list[Any]:
    """The cases of one architecture as parameters of a test, those excepted by name aside.

    Without the folder one case that is skipped with the reason.
    """
    index = FOLDER / arch / "cases.json"
    if not index.exists():
        return [
            pytest.param(None, id=f"{arch}-absent", marks=pytest.mark.skip(reason=f"no parity files in {FOLDER.name}"))
        ]
    data = json.loads(index.read_text())
    by_name = {case["case"]: case for case in data}
    return [
        pytest.param(
            Case(arch, case, by_name[case.get("names_of", case["case"])].get("names", {})), id=f"{arch}-{case['case']}"
        )
        for case in data
        if case["case"] not in EXCEPTED_CASES.get(arch, ())
    ]


def full_keys(arch: str) -> dict[str, dict[str, Any]]:
    """Release name -> what is known of it; `names`: published name -> shape."""
    place = next(
        (f / arch / "full_keys.json" for f in (FOLDER, DEFAULT) if (f / arch / "full_keys.json").exists()), None
    )
    if place is None:
        pytest.skip("no parity files")
    found: dict[str, dict[str, Any]] = json.loads(place.read_text())
    return found


def load(module: nn.Module, table: tuple[Rename, ...], weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """The module with published weights, by way of the renames that load a released checkpoint."""
    own, _ = to_own(table, weights, {name: tuple(v.shape) for name, v in module.state_dict().items()})
    module = module.to(dtype)
    module.load_state_dict(own)
    return module


def steps(module: nn.Module, chunks: list[Tensor], before: Mapping[str, tuple[Tensor, ...]] | None = None) -> list[Any]:
    """(output, state) of a module for chunks one after the other."""
    names, state, found = module_names(module), dict(before or {}), []
    for chunk in chunks:
        step = StreamStep(names, state)
        out = module(chunk, step)
        state = step.close()
        found.append((out, state))
    return found
