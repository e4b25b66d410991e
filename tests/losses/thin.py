"""LPIPS of few channels, under its own names and as its authors publish it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.losses.lpips import BACKBONE, DEPTHS, LINEAR, LPIPSFile
from vvae.published.renames import to_published

WIDTHS = (2, 3, 4, 3, 2)


def thin_weights(*, bias: bool = True, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    channels = 3
    for i, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), 1):
        for j in range(1, depth + 1):
            made[f"conv{i}_{j}.weight"] = torch.randn(width, channels, 3, 3, generator=draw) / 3
            if bias:
                made[f"conv{i}_{j}.bias"] = torch.randn(width, generator=draw) / 3
            channels = width
        made[f"linear{i}.weight"] = torch.rand(1, channels, 1, 1, generator=draw)
    return made


def thin_file(folder: Path) -> str:
    file = folder / "lpips.safetensors"
    checkpoint.save_weights(file, thin_weights(), LPIPSFile().to_json())
    return str(file)


def published_files(folder: Path, *, bias: bool = True) -> tuple[Path, Path]:
    """A backbone with a classifier, and linear layers, as torch saves them."""
    own = thin_weights(bias=bias)
    backbone = to_published(BACKBONE, {name: value for name, value in own.items() if name.startswith("conv")})
    linear = to_published(LINEAR, {name: value for name, value in own.items() if name.startswith("linear")})
    files = folder / "vgg16.pth", folder / "vgg.pth"
    torch.save({**backbone, "classifier.0.weight": torch.zeros(2, 2)}, files[0])
    torch.save(linear, files[1])
    return files
