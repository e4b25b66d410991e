"""A clip to try things on, without a download: a virtual camera over two photographs that ship with the package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vvae.video.write import ClipWriter

FRAMES, FPS, HEIGHT, WIDTH = 65, 24, 256, 384
_FADE = range(32, 41)  # frames that show both photographs


@dataclass(frozen=True)
class Camera:
    """Where the camera looks: centre as a part of the photograph's sides, zoom (1: the whole picture fits), degrees."""

    x: float
    y: float
    zoom: float
    angle: float

    def towards(self, other: Camera, share: float) -> Camera:
        """The camera after `share` (0 to 1) of the way."""
        mixed = (a + share * (b - a) for a, b in zip(self._values(), other._values(), strict=True))
        return Camera(*mixed)

    def _values(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.zoom, self.angle


_COFFEE = Camera(0.47, 0.50, 1.25, -3.0), Camera(0.58, 0.46, 1.90, 4.0)
_CHELSEA = Camera(0.44, 0.42, 1.70, 4.0), Camera(0.50, 0.50, 1.15, -2.0)


def demo_clip(path: str | Path) -> None:
    """Writes 65 frames of 256x384 pixels, 24 per second: a pan with zoom over one photograph, a fade, then the other.

    Errors: VideoError where `path` cannot be written.
    """
    with ClipWriter(path, FPS, (HEIGHT, WIDTH)) as clip:
        for frame in demo_frames():
            clip.write(frame)


def demo_frames() -> Iterator[torch.Tensor]:
    """The frames of the demo clip, `1 3 1 256 384` in [-1, 1] each."""
    coffee, chelsea = (_photograph(name) for name in ("coffee.jpg", "chelsea.jpg"))
    for index in range(FRAMES):
        second = (index - _FADE.start + 1) / (len(_FADE) + 1)
        frame = torch.zeros(1)
        if second < 1:
            frame = _look(coffee, _along(_COFFEE, index / _FADE.stop))
        if second > 0:
            other = _look(chelsea, _along(_CHELSEA, (index - _FADE.start) / (FRAMES - _FADE.start)))
            frame = other if second >= 1 else frame.lerp(other, second)
        yield frame


def _along(path: tuple[Camera, Camera], share: float) -> Camera:
    """A smooth ride: slow at both ends."""
    return path[0].towards(path[1], 0.5 - 0.5 * math.cos(math.pi * share))


def _look(photograph: Image.Image, camera: Camera) -> torch.Tensor:
    """What the camera sees, `1 3 1 256 384`: drawn at twice the size, then reduced, so that nothing flickers."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    scale = min(photograph.width / width, photograph.height / height) / camera.zoom
    cos, sin = (scale * f(math.radians(camera.angle)) for f in (math.cos, math.sin))
    x, y = camera.x * photograph.width, camera.y * photograph.height
    matrix = (cos, -sin, x - (cos * width - sin * height) / 2, sin, cos, y - (sin * width + cos * height) / 2)
    large = photograph.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    picture = np.array(large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    return torch.from_numpy(picture).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def _photograph(name: str) -> Image.Image:
    with (files("vvae") / "models" / "photos" / name).open("rb") as file:
        return Image.open(file).convert("RGB")
