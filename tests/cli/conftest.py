"""A folder to call commands in: a clip, small models, and what was made of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.tiny import tiny_model
from tests.video.conftest import moving_picture
from vvae.cli import main
from vvae.tiling import steps
from vvae.video import ClipWriter
from vvae.video.encode import encode_clip
from vvae.video.selection import Selection

Run = Callable[..., int]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip.mp4 (19 frames of 32x48), model.safetensors, other.safetensors, z.safetensors (latents), spec.json."""
    folder = tmp_path_factory.mktemp("prepared")
    with ClipWriter(folder / "clip.mp4", 25, (32, 48)) as clip:
        clip.write(moving_picture(19, 32, 48))
    model = tiny_model()
    model.save(folder / "model.safetensors")
    tiny_model(seed=1).save(folder / "other.safetensors")
    (folder / "spec.json").write_text(model.spec.to_json())
    encode_clip(model, Selection(folder / "clip.mp4"), folder / "z.safetensors", plan=steps(2, 2))
    return folder


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be in."""
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def run() -> Run:
    """`run(*arguments)` calls vvae and gives its exit code."""

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        return int(caught.value.code or 0)

    return call
