"""Parity files: outputs of published code, to which weights and inputs are made again from their names."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vvae.context import StreamStep, module_names
from vvae.published.renames import to_own
from vvae.published.table import Rename

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "parity"
FOLDER = Path(os.environ.get("VVAE_PARITY_DIR", DEFAULT))
TILED = ("image_vae", "od_vae", "reducio", "tae")
"""Architectures whose cases of kind "tiled" are run under tiling rules; those of others need the model alone."""
INSTALLED = ("wan",)
"""Architectures without files: their published code is a package, and beside it their tests stand."""
LOSSES = re.compile("LPIPS|Discriminator|ActNorm")
"""Published classes of which losses are made, beside the cases of kind "loss"."""
LONG = (
    *(f"tiled_{of}" for of in ("release_layout_160x192", "quarter_72x104", "half_80x72", "default_factor_72x104")),
    *(f"model_ft4_{of}" for of in ("64x96", "forward_b2_32x64", "encode_T33", "encode_T17_40x70", "encode_T20")),
    *(f"tiled_{of}" for of in ("zero_factor_64x72", "forward_72x48", "forward_40x72", "linear_72x40", "quarter_64x40")),
    *("model_ft2_64x32", "model_ft2_encode_T17", "tiled_v11_decode", "tiled_v12_decode", "release_full_width_t5"),
    *("tiled_v12_decode_overlap_half", "tiled_v12_decode_overlap_eighth", "loss_generator"),
    *(
        f"loss_{of}"
        for of in ("l2", "vanilla", "weights", "no_perceptual", "fixed_gan_weight", "fixed_gan_weight_warm")
    ),
    *(f"loss_config_step_{step}" for step in ("10000", "10001", "10001_val")),
    *(
        f"loss_{of}_{side}"
        for of in ("v10_2d", "v10_3d", "v11_3d", "v12_2d", "v12_3d")
        for side in ("generator", "generator_before", "discriminator")
    ),
    "loss_v12_3d_generator_l2_vanilla",
)
"""Cases of whole models and losses that take long in float64: the quick profiles run them in float32."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


def _values() -> ModuleType:
    place = next(folder / "values.py" for folder in (FOLDER, DEFAULT) if (folder / "values.py").exists())
    spec = importlib.util.spec_from_file_location("parity_values", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept_value(rule: float | list[float] | str, shape: list[int]) -> Tensor:
    """What a tensor that is not made from its name holds, in float64: values, or a rule in words."""
    if not isinstance(rule, str):
        return torch.tensor(rule, dtype=torch.float64).reshape(shape)
    if rule.startswith("sinusoid table rounded to float32"):
        channels = shape[-1]
        rows = np.arange(math.prod(shape) // channels)[:, None]
        angles = rows / np.power(10000, 2 * (np.arange(channels) // 2) / channels)
        table = np.where(np.arange(channels) % 2 == 0, np.sin(angles), np.cos(angles))
        return torch.from_numpy(table).float().double().reshape(shape)
    assert rule.startswith("not used in any computation: 1 on and below the diagonal, -inf above"), rule
    return torch.ones(shape, dtype=torch.float64).tril().masked_fill(torch.ones(shape).triu(1) > 0, -math.inf)


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

    def weights(self, only: Callable[[str], bool] = lambda name: True, *, by_rule: bool = False) -> dict[str, Tensor]:
        """By published name. `by_rule`: the caller makes those that the case keeps, which are told in words."""
        made = {n: torch.as_tensor(self.values.weight(n, tuple(s))) for n, s in self.names.items() if only(n)}
        rules = {} if by_rule else self.data.get("kept", {})
        return {**made, **{n: kept_value(rule, self.names[n]) for n, rule in rules.items() if n in made}}

    def input(self, name: str, dtype: torch.dtype) -> Tensor:
        scale = self.data.get("input_scale", 1.0)
        scale = scale.get(name, 1.0) if isinstance(scale, Mapping) else scale
        values = self.values.uniform(f"in.{name}", tuple(self.data["inputs"][name])) * scale
        return torch.from_numpy(values).to(dtype)

    def check(self, outputs: Mapping[str, Tensor], dtype: torch.dtype, wider: float = 0.0) -> None:
        """Every published output within the tolerance of `dtype`, or a wider one, none left out."""
        expected = load_file(FOLDER / self.arch / self.data["file"])
        assert set(outputs) == set(expected), "each published output must be computed, and no other"
        for name, want in expected.items():
            found = outputs[name].detach()
            assert list(found.shape) == list(self.data["outputs"][name]), name
            if stride := self.data.get("stride", {}).get(name):
                found = found.flatten()[::stride]
            if strides := self.data.get("stored_stride", {}).get(name):
                found = found[tuple(slice(None, None, step) for step in strides)]
            error = (found.double() - want.double().reshape(found.shape)).abs().max().item()
            size = want.abs().max().item()
            assert error <= max(TOLERANCE[dtype], wider) * size, (
                f"{name}: {error / max(size, 1e-300):.2e} of the largest value"
            )


def cases(arch: str, *, about: Literal["models", "tiles", "losses"] = "models") -> list[Any]:
    """The cases of one architecture as parameters of a test: those that need a tiling rule, of losses, or all others.

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
        pytest.param(Case(arch, case, _names(case, by_name)), id=f"{arch}-{case['case']}")
        for case in data
        if about == subject(arch, case)
    ]


def _names(case: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> dict[str, list[int]]:
    """Of the case's own weights, or of those of one or more others."""
    of = case.get("names_of", case["case"])
    listed = [by_name[name].get("names", {}) for name in ([of] if isinstance(of, str) else of)]
    return {name: shape for names in listed for name, shape in names.items()}


def subject(arch: str, case: Mapping[str, Any]) -> str:
    """What a case is about, and so which tests run it."""
    if case["kind"] == "loss" or LOSSES.search(case["published_class"]):
        return "losses"
    return "tiles" if arch in TILED and case["kind"] == "tiled" else "models"


def stored_file(arch: str, name: str) -> Path:
    """A file that the published code wrote, beside the cases or where they usually are."""
    return next(path for folder in (FOLDER, DEFAULT) if (path := folder / arch / name).exists())


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
