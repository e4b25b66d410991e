"""`vvae convert lpips`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run
from tests.losses.thin import published_files, thin_weights
from vvae import checkpoint
from vvae.losses import LPIPS


def test_two_published_files_become_one(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone, linear = map(str, published_files(tmp_path))
    assert run("convert", "lpips", "--backbone", backbone, "--linear", linear) == 0
    assert "lpips.safetensors" in capsys.readouterr().out
    _, tensors = checkpoint.load_weights("lpips.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in thin_weights().items())
    LPIPS.load("lpips.safetensors")
    assert run("convert", "lpips", "--backbone", backbone, "--linear", linear) == 2
    assert "already" in capsys.readouterr().err
    assert run("convert", "lpips", "--backbone", backbone, "--linear", linear, "--out", "b.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == checkpoint.digest(tensors)
