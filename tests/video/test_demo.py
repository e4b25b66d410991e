from __future__ import annotations

from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from vvae.video import demo, probe, psnr, read_clip


def test_demo_clip_is_what_it_says_and_every_frame_moves_a_little(tmp_path: Path) -> None:
    demo.demo_clip(tmp_path / "demo.mp4")
    info = probe(tmp_path / "demo.mp4")
    assert (info.frames, info.fitted(), info.fps) == (demo.FRAMES, (256, 384), 24) == (65, (256, 384), 24)
    likeness = torch.cat([psnr(a, b)[0] for a, b in pairwise(read_clip(tmp_path / "demo.mp4", chunk=1))])
    assert len(likeness) == 64
    assert likeness.max() < 60
    assert likeness.min() > 12


def test_camera_never_looks_beyond_the_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"coffee.jpg": (600, 400), "chelsea.jpg": (451, 300)}
    monkeypatch.setattr(demo, "_photograph", lambda name: Image.new("RGB", sizes[name], "white"))
    assert all((frame == 1).all() for frame in demo.demo_frames())


def test_photographs_are_small_and_their_licence_lies_beside_them() -> None:
    folder = Path(str(files("vvae") / "models" / "photos"))
    photographs = sorted(folder.glob("*.jpg"))
    assert [path.name for path in photographs] == ["chelsea.jpg", "coffee.jpg"]
    assert sum(path.stat().st_size for path in photographs) < 300_000
    notes = (folder / "README.md").read_text()
    assert all(path.name in notes for path in photographs)
    assert "CC0" in notes
