"""How a layer of a clip moves: pans, zooms, turns and shakes of a camera, and the swaying of soft things.

Lengths are pixels of the finished clip, times are frames, angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Sway:
    """Travelling waves that bend a layer: `amount` (n 2), `wave` (n 2, radians per pixel), `rate` and `phase` (n)."""

    amount: NDArray[np.float64]
    wave: NDArray[np.float64]
    rate: NDArray[np.float64]
    phase: NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Where a layer is at n times: `shift` (n 2: across, down), `zoom` (n), `angle` (n), and how it sways."""

    times: Times
    shift: NDArray[np.float64]
    zoom: NDArray[np.float64]
    angle: NDArray[np.float64]
    sway: Sway | None

    def speed(self) -> float:
        """The fastest shift, in pixels per frame."""
        steps = np.diff(self.shift, axis=0) / np.maximum(np.diff(self.times), 1e-9)[:, None]
        return float(np.abs(steps).max(initial=0.0))

    def texture_points(self, height: int, width: int, samples: int) -> Tensor:
        """The layer's own point under each sample, `n h w 2` (across, down; pixels from the layer's centre).

        `samples` is the number of samples along one pixel's side; h and w count samples. Points are worked out every
        few pixels and straight between: exact but for the sway, whose waves are far longer.
        """
        points = torch.stack(torch.meshgrid(_knots(width, samples), _knots(height, samples), indexing="xy"), dim=-1)
        moved = points[None] - torch.from_numpy(self.shift).float()[:, None, None]
        turned = torch.einsum("nhwi,nij->njhw", moved, self._turns())
        if self.sway is not None:
            turned = turned + _bend(self.sway, points, self.times)
        finest = (height * samples, width * samples)
        return functional.interpolate(turned, finest, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)

    def _turns(self) -> Tensor:
        cosine, sine = np.cos(self.angle) / self.zoom, np.sin(self.angle) / self.zoom
        return torch.from_numpy(np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(-1, 2, 2)).float()


def draw(rng: np.random.Generator, times: Times, fastest: float, still: float) -> Motion:
    """A motion over `times`: with chance `still` none at all, else a speed below `fastest` pixels per frame, mostly
    slow, with now and then zoom, turn, shake and sway. Shifts are zero on average over the clip.
    """
    moves = rng.random() >= still
    rates = _rates(rng, fastest) if moves else np.zeros(4)
    middle = times - times.mean()
    shift = middle[:, None] * rates[None, :2] + (_shake(rng, times) if moves and rng.random() < 0.35 else 0.0)
    curve = middle**2 - np.mean(middle**2) if moves and rng.random() < 0.3 else np.zeros_like(middle)
    shift = shift + curve[:, None] * rates[None, 1::-1] * rng.uniform(-0.06, 0.06)
    sway = _sway(rng) if moves and rng.random() < 0.3 else None
    return Motion(times, shift, np.exp(middle * rates[2]), middle * rates[3], sway)


def _rates(rng: np.random.Generator, fastest: float) -> NDArray[np.float64]:
    speed, direction = np.exp(rng.uniform(np.log(0.04), np.log(fastest))), rng.uniform(0, 2 * np.pi)
    squeeze = rng.choice([0.1, 1.0])  # half of all pans are nearly level, as a tripod's are
    zoom = rng.normal(0, 0.006) if rng.random() < 0.4 else 0.0
    turn = rng.normal(0, 0.006) if rng.random() < 0.3 else 0.0
    return np.array([speed * np.cos(direction), speed * squeeze * np.sin(direction), zoom, turn])


def _shake(rng: np.random.Generator, times: Times) -> NDArray[np.float64]:
    grid = np.arange(np.floor(times.min()) - 1, np.ceil(times.max()) + 2)
    walk = ndimage.gaussian_filter1d(rng.standard_normal((len(grid), 2)), rng.uniform(0.8, 2.5), axis=0)
    walk *= np.exp(rng.uniform(np.log(0.1), np.log(1.5))) / (walk.std() + 1e-9)
    return np.stack([np.interp(times, grid, walk[:, axis]) for axis in range(2)], axis=1)


def _sway(rng: np.random.Generator, waves: int = 3) -> Sway:
    length, direction = np.exp(rng.uniform(np.log(25), np.log(160), waves)), rng.uniform(0, 2 * np.pi, waves)
    wave = 2 * np.pi / length[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    amount = rng.normal(0, 0.02, (waves, 2)) * length[:, None] * rng.uniform(0.2, 1.0)
    return Sway(amount, wave, rng.normal(0, 0.35, waves), rng.uniform(0, 2 * np.pi, waves))


def _bend(sway: Sway, points: Tensor, times: Times) -> Tensor:
    wave, amount = torch.from_numpy(sway.wave).float(), torch.from_numpy(sway.amount).float()
    moment = torch.from_numpy(times[:, None] * sway.rate[None] + sway.phase[None]).float()
    angles = torch.einsum("hwi,ki->hwk", points, wave)[None] + moment[:, None, None]
    return torch.einsum("nhwk,ki->nihw", angles.sin(), amount)


def _knots(length: int, samples: int, apart: int = 4) -> Tensor:
    """From the first sample's centre to the last one's, in pixels from the middle, about `apart` pixels apart."""
    end = (length - 1 / samples) / 2
    return torch.linspace(-end, end, max(2, length // apart + 1))
