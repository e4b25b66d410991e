"""The training material: clips that anyone can render again from a seed.

A clip is a background and up to four objects that move over it, seen through a virtual camera with a shutter, light
that changes and a sensor that adds noise. Pictures come from `textures`, motions from `motion`.

    clip(7, frames=9, size=(128, 128))      # float32, 3 9 128 128, in [-1, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from vvae.training import motion, textures
from vvae.training.motion import Motion, Times
from vvae.training.photographs import HELD_OUT, TRAINING

SAMPLES = 2  # samples along one pixel's side, averaged: the antialiasing of a lens and a sensor
VALIDATION_SEEDS = 1_000_000  # seeds from here on are never trained on

Clip = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """A picture `1 c h w` (c 3, or 4 with opacity last) and its motion."""

    picture: Tensor
    motion: Motion
    edge: Literal["reflection", "zeros"]

    def render(self, height: int, width: int) -> Tensor:
        """The layer as seen at each of its n times, `n c h w`, h and w in samples."""
        half = torch.tensor([self.picture.shape[3], self.picture.shape[2]]) / 2
        grid = self.motion.texture_points(height, width, SAMPLES) * SAMPLES / half
        picture = self.picture.expand(len(grid), -1, -1, -1)
        return functional.grid_sample(picture, grid, padding_mode=self.edge, align_corners=False)


def clip(seed: int, frames: int = 17, size: tuple[int, int] = (128, 128)) -> Clip:
    """The training clip of a seed: float32 `3 t h w` in [-1, 1], `size` is (h, w) in pixels."""
    return _clip(np.random.default_rng(seed), frames, size, TRAINING)


def validation_clip(seed: int, frames: int = 17, size: tuple[int, int] = (128, 128)) -> Clip:
    """A clip that no training sees: other seeds, and of photographs only those held out. As `clip` else."""
    return _clip(np.random.default_rng(VALIDATION_SEEDS + seed), frames, size, HELD_OUT)


def _clip(rng: np.random.Generator, frames: int, size: tuple[int, int], photographs: dict[str, float]) -> Clip:
    first = _scene(rng, frames, size, photographs)
    if rng.random() < 0.05:
        cut = int(rng.integers(1, frames)) if frames > 1 else 0
        second = _scene(rng, frames, size, photographs)
        first = torch.cat([first[:cut], second[cut:]])
    video = first.numpy().transpose(1, 0, 2, 3)
    seen = _sensor(rng, _light(rng, video))
    return (2 * np.clip(seen, 0, 1) - 1).astype(np.float32)


def _scene(rng: np.random.Generator, frames: int, size: tuple[int, int], photographs: dict[str, float]) -> Tensor:
    """Background and objects over time, `t 3 h w` in [0, 1]."""
    shutter = rng.choice([0.0, 0.25, 0.5, 0.8])
    layers = _layers(rng, _times(frames, 1, 0.0), size, photographs)
    taps = 1 if shutter * max(layer.motion.speed() for layer in layers) < 0.5 else 3
    times = _times(frames, taps, shutter)
    canvas = torch.empty(0)
    for layer in layers:
        seen = Layer(layer.picture, _at(layer.motion, times), layer.edge).render(*size)
        canvas = seen if layer.picture.shape[1] == 3 else canvas.lerp(seen[:, :3], seen[:, 3:])
    exposed = canvas.reshape(frames, taps, *canvas.shape[1:]).mean(dim=1)
    return functional.avg_pool2d(exposed, SAMPLES)


def _layers(
    rng: np.random.Generator, times: Times, size: tuple[int, int], photographs: dict[str, float]
) -> list[Layer]:
    height, width = (int(side * SAMPLES * 1.25) for side in size)
    picture = textures.draw(rng, height, width, photographs)
    background = Layer(_as_tensor(picture), motion.draw(rng, times, 5.0, 0.25), "reflection")
    return [background, *(_object(rng, times, size, photographs) for _ in range(rng.choice(5, p=OBJECTS)))]


OBJECTS = (0.35, 0.25, 0.2, 0.1, 0.1)  # the chance of 0, 1, .. 4 objects


def _object(rng: np.random.Generator, times: Times, size: tuple[int, int], photographs: dict[str, float]) -> Layer:
    height, width = (int(side * SAMPLES * np.exp(rng.uniform(np.log(0.12), np.log(0.8)))) for side in size)
    height, width = max(height, 12), max(width, 12)
    picture = textures.draw(rng, height, width, photographs)
    outline = textures.blob(rng, height, width)[..., None]
    path = motion.draw(rng, times, 7.0, 0.1)
    place = rng.uniform(-0.45, 0.45, 2) * np.array(size[::-1])
    placed = Motion(path.times, path.shift + place, path.zoom, path.angle, path.sway)
    return Layer(_as_tensor(np.concatenate([picture, outline], axis=2)), placed, "zeros")


def _times(frames: int, taps: int, shutter: float) -> Times:
    within = np.linspace(-0.5, 0.5, taps) * shutter if taps > 1 else np.zeros(1)
    return (np.arange(frames)[:, None] + within[None]).reshape(-1).astype(np.float64)


def _at(path: Motion, times: Times) -> Motion:
    """The motion at other times, straight between those it was drawn for."""
    reach = np.clip(times, path.times[0], path.times[-1])
    shift = np.stack([np.interp(reach, path.times, path.shift[:, axis]) for axis in range(2)], axis=1)
    zoom, angle = np.interp(reach, path.times, path.zoom), np.interp(reach, path.times, path.angle)
    return Motion(times, shift, zoom, angle, path.sway)


def _light(rng: np.random.Generator, video: Clip) -> Clip:
    """Light that drifts, fades or flickers, and a lens that is darker at its rim."""
    frames, height, width = video.shape[1:]
    gain = np.ones(frames)
    if rng.random() < 0.25:
        gain = gain + rng.normal(0, 0.012) * (np.arange(frames) - frames / 2)
    if rng.random() < 0.08:
        gain = gain + rng.normal(0, 0.03, frames)
    lit = video * gain[None, :, None, None]
    if rng.random() < 0.3:
        distance = np.hypot(np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None])
        lit = lit * (1 - rng.uniform(0.05, 0.3) * distance**2)[None, None]
    return np.asarray(lit, dtype=np.float32)


def _sensor(rng: np.random.Generator, video: Clip) -> Clip:
    """A little blur and a little noise, as a lens, a sensor and a mild compression leave them."""
    if rng.random() < 0.5:
        radius = rng.uniform(0.3, 1.1)
        video = ndimage.gaussian_filter(video, (0, 0, radius, radius))
    if rng.random() < 0.5:
        grain = rng.standard_normal(video.shape, dtype=np.float32)
        if rng.random() < 0.5:
            grain = 2.0 * ndimage.uniform_filter(grain, (0, 0, 2, 2))
        video = video + np.float32(np.exp(rng.uniform(np.log(0.001), np.log(0.02)))) * grain
    return video


def _as_tensor(picture: Clip) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
