"""The picture of who depends on whom in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models.tiny import Identity, tiny_model
from vvae.arch import iv_vae
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.colours import BLUE, RED
from vvae.video.dependency import plot_dependency


def share(picture: Path, colour: str) -> float:
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((abs(pixels - wanted).max(axis=-1) < 3).mean())


@pytest.mark.parametrize("frames", [1, 4, 17, 60])
@pytest.mark.parametrize(
    "spec", [tiny_model().spec, iv_vae(width=2, temporal=(True, False, False))], ids=lambda s: s.name
)
def test_clips_of_any_length_are_drawn(spec: VideoAutoencoderSpec, frames: int, tmp_path: Path) -> None:
    plot_dependency(tmp_path / "picture", spec, frames)
    with Image.open(tmp_path / "picture") as image:
        assert image.format == "PNG"
        assert image.size == (1280, 1376)
    assert share(tmp_path / "picture", RED) > 0.001


def test_more_dependency_is_more_colour(tmp_path: Path) -> None:
    alone, causal = Identity(lead=0, group=1).spec, tiny_model().spec
    for name, spec in (("alone", alone), ("causal", causal)):
        plot_dependency(tmp_path / name, spec, 17)
    assert share(tmp_path / "alone", BLUE) < share(tmp_path / "causal", BLUE) / 2
    assert share(tmp_path / "alone", RED) < 0.01
