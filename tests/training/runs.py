"""Small recipes, and runs of them in this process or in two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.training import Recipe, train

ROOT = Path(__file__).parents[2]
L1 = {"terms": {"l1": {"kind": "l1"}, "kl": {"kind": "kl", "weight": 1e-6}}}
GAME = {
    **L1,
    "adversarial": {
        "discriminator": {"kind": "patch_2d", "width": 4},
        "start": 1,
        "ramp": 3,
        "adaptive": {"parameter": "decoder.sum.leave.groups.weight", "against": "l1"},
        "lecam": {"weight": 0.01},
    },
}


def recipe(**fields: Any) -> Recipe:
    """A tiny model on tiny clips; `stage` holds fields of its one stage."""
    stage = {
        "steps": 6,
        "batch": {"clips": 2, "frames": [5], "sizes": [24]},
        "objective": L1,
        "optimizer": {"kind": "adam", "rate": 1e-3, "discriminator": 1e-4},
        **fields.pop("stage", {}),
    }
    small = {"encoder_width": 8, "encoder_blocks": 1, "decoder_width": 8, "decoder_blocks": 1}
    given: dict[str, Any] = {
        "model": {"name": "vvae_small", "fields": small, "start": "linear"},
        "data": {"kind": "procedural", "clips": 5, "frames": 6, "size": 28},
        "stages": [stage],
        "precision": "float64",
        "average": 0.9,
        "save_every": 3,
    }
    return Recipe(**{**given, **fields})


def run(given: Recipe, out: Path, **options: Any) -> Path | None:
    return train(given, out, report=lambda line: None, **options)


def weights(file: Path) -> dict[str, Tensor]:
    return checkpoint.load_weights(file)[1]


def apart(a: Path, b: Path) -> float:
    """How far two models are apart: the largest difference of a tensor over its largest value."""
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).abs().max() / one[n].abs().max().clamp(min=1e-12)) for n in one)


def in_two(script: str, *arguments: object, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """A Python file of these tests, run by two processes as `torchrun` does it."""
    process = started_in_two(script, *arguments)
    told, wrong = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, told, wrong)


def started_in_two(script: str, *arguments: object) -> subprocess.Popen[str]:
    """As `in_two`, not waited for."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += [str(Path(__file__).parent / script), *map(str, arguments)]
    setting = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, env=setting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
