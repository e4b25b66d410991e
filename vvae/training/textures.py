"""Still pictures for the layers of a clip: photographs, dead leaves, noise of power-law spectrum, line art, gradients.

A texture is `h w 3`, float32 in [0, 1]. All randomness comes in as a generator; the same generator state gives the
same picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import draw as _untyped_draw
from torch.nn import functional

from vvae.training import photographs as library
from vvae.training.photographs import Image

Mask = NDArray[np.float32]
raster: Any = _untyped_draw


def photo(rng: np.random.Generator, height: int, width: int, photographs: dict[str, float]) -> Image:
    """A crop of a photograph, resized with antialiasing, recoloured, perhaps mirrored."""
    picture = library.draw(rng, photographs)
    rows, columns = picture.shape[:2]
    smallest = max(height / rows, width / columns)
    scale = max(smallest, float(np.exp(rng.uniform(np.log(0.6), np.log(2.2)))))
    crop_rows, crop_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
    top, left = rng.integers(rows - crop_rows + 1), rng.integers(columns - crop_columns + 1)
    crop = picture[top : top + crop_rows, left : left + crop_columns]
    resized = _resize(crop, height, width)
    if rng.random() < 0.5:
        resized = resized[:, ::-1]
    tinted = _tint(rng, resized) if library.is_grey(picture) and rng.random() < 0.6 else resized
    return _grade(rng, tinted)


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> Image:
    """Opaque discs and boxes with power-law sizes that hide each other, as objects in a scene do."""
    picture = gradient(rng, height, width)
    colours = _palette(rng)
    shortest, longest = 4.0, 0.35 * min(height, width)
    sizes = shortest * (1 - rng.random(450) * (1 - (shortest / longest) ** 2.0)) ** -0.5
    for size in np.sort(sizes)[::-1] if rng.random() < 0.5 else sizes:
        window = _leaf(rng, float(size), height, width)
        shade = rng.uniform(0.85, 1.15, (1, 1, 3)) * colours[rng.integers(len(colours))]
        picture[window] = shade.astype(np.float32)
    return np.asarray(np.clip(ndimage.gaussian_filter(picture, (0.7, 0.7, 0)), 0, 1))


def power_noise(rng: np.random.Generator, height: int, width: int) -> Image:
    """Noise whose amplitude falls with frequency as f^-a, a in [0.9, 1.8], or that fills one band of frequencies."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    if rng.random() < 0.7:
        amplitude = frequency ** -rng.uniform(0.9, 1.8)
    else:
        amplitude = np.exp(-((np.log(frequency / np.exp(rng.uniform(-4, -1.6)))) ** 2) / rng.uniform(0.1, 1.0))
    planes = [_filtered_noise(rng, amplitude, height, width) for _ in range(3)]
    mixing = np.eye(3) * 0.2 + 1.0 + 0.15 * rng.standard_normal((3, 3))
    coloured = np.stack(planes, axis=2) @ mixing / 3
    contrast = rng.uniform(0.05, 0.22) / (coloured.std() + 1e-6)
    return np.asarray(np.clip(_colour(rng) + contrast * coloured, 0, 1), dtype=np.float32)


def line_art(rng: np.random.Generator, height: int, width: int) -> Image:
    """Strokes, outlines and rows of glyph-like marks on a plain or shaded ground."""
    picture = gradient(rng, height, width)
    ink = np.zeros((height, width), dtype=np.float32)
    marks = _glyph_rows if rng.random() < 0.5 else _strokes
    marks(rng, ink)
    ink = np.minimum(ndimage.gaussian_filter(ink, rng.uniform(0.6, 1.2)) * rng.uniform(1.0, 1.8), 1)
    colour = rng.random(3) * (0.3 if picture.mean() > 0.5 else 1.0)
    return np.asarray(picture + ink[..., None] * (colour - picture), dtype=np.float32)


def gradient(rng: np.random.Generator, height: int, width: int) -> Image:
    """A smooth shading between four corner colours of one palette."""
    base, spread = _colour(rng), rng.uniform(0.02, 0.25)
    corners = base + spread * (rng.standard_normal((2, 2, 1)) + 0.3 * rng.standard_normal((2, 2, 3)))
    down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top = corners[0, 0] * (1 - across) + corners[0, 1] * across
    bottom = corners[1, 0] * (1 - across) + corners[1, 1] * across
    return np.asarray(np.clip(top * (1 - down) + bottom * down, 0, 1), dtype=np.float32)


def draw(rng: np.random.Generator, height: int, width: int, photographs: dict[str, float]) -> Image:
    """One texture of a kind drawn by chance, photographs most often."""
    kind = rng.choice(5, p=[0.8, 0.08, 0.05, 0.04, 0.03])
    if kind == 0:
        return photo(rng, height, width, photographs)
    return (dead_leaves, power_noise, line_art, gradient)[kind - 1](rng, height, width)


def blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    """The soft-edged outline of an object, `h w`, float32 in [0, 1], zero at the picture's edge."""
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    angle, distance = np.arctan2(down, across), np.hypot(down, across)
    outline = np.full_like(angle, rng.uniform(0.6, 0.75))
    for waves in range(2, 7):
        outline += rng.normal(0, 0.16 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    edge = min(height, width) / 2 / rng.choice([1.0, 1.5, 4.0], p=[0.6, 0.3, 0.1])
    inside = np.clip(0.5 + (np.minimum(outline, 0.95) - distance) * edge, 0, 1)
    return np.asarray(inside, dtype=np.float32)


def _resize(picture: Image, height: int, width: int) -> Image:
    tensor = torch.from_numpy(np.array(picture.transpose(2, 0, 1)[None]))
    resized = functional.interpolate(tensor, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return np.ascontiguousarray(resized[0].numpy().transpose(1, 2, 0), dtype=np.float32)


def _tint(rng: np.random.Generator, grey: Image) -> Image:
    dark, light = rng.uniform(0, 0.35, 3), rng.uniform(0.6, 1.0, 3)
    return np.asarray(dark + grey * (light - dark), dtype=np.float32)


def _grade(rng: np.random.Generator, picture: Image) -> Image:
    """Gamma, contrast, white balance, saturation and the order of the channels, as cameras and scenes differ."""
    luma = picture.mean(axis=2, keepdims=True)
    saturated = luma + (picture - luma) * rng.uniform(0.4, 1.25)
    if rng.random() < 0.12:
        saturated = saturated[..., rng.permutation(3)]
    balanced = np.clip(saturated * rng.uniform(0.88, 1.12, 3), 0, 1) ** rng.uniform(0.7, 1.5)
    contrast, brightness = rng.uniform(0.55, 1.05), rng.uniform(-0.12, 0.12)
    return np.asarray(np.clip(0.5 + contrast * (balanced - 0.5) + brightness, 0, 1), dtype=np.float32)


def _palette(rng: np.random.Generator) -> NDArray[np.float64]:
    base, spread = _colour(rng), rng.uniform(0.06, 0.25)
    brightness = spread * rng.standard_normal((24, 1))
    return np.clip(base + brightness + 0.4 * spread * rng.standard_normal((24, 3)), 0, 1)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour as scenes have them: any brightness, seldom saturated."""
    return np.asarray(rng.uniform(0.1, 0.9) + rng.exponential(0.08) * rng.standard_normal(3))


def _leaf(rng: np.random.Generator, size: float, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    centre = rng.uniform(0, height), rng.uniform(0, width)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    if rng.random() < 0.6:
        rows, columns = raster.ellipse(*centre, size, size * stretch, shape=(height, width), rotation=angle)
    else:
        corners = np.array([[-1, -stretch], [-1, stretch], [1, stretch], [1, -stretch]]) * size
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        outline = corners @ turn + centre
        rows, columns = raster.polygon(outline[:, 0], outline[:, 1], shape=(height, width))
    return rows, columns


def _filtered_noise(
    rng: np.random.Generator, amplitude: NDArray[np.float64], height: int, width: int
) -> NDArray[np.float64]:
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * amplitude
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9))


def _strokes(rng: np.random.Generator, ink: Mask) -> None:
    height, width = ink.shape
    for _ in range(rng.integers(8, 40)):
        top, left, bottom, right = rng.integers(0, [height, width, height, width])
        row, column = rng.integers(0, [height, width])
        weight = rng.uniform(0.2, 2)
        rows, columns = raster.bezier_curve(top, left, row, column, bottom, right, weight, shape=ink.shape)
        ink[rows, columns] = 1
    ink[:] = ndimage.grey_dilation(ink, size=int(rng.integers(1, 4)))


def _glyph_rows(rng: np.random.Generator, ink: Mask) -> None:
    height, width = ink.shape
    size = int(rng.integers(8, 26))
    thick = max(1, size // 8)
    alphabet = ndimage.zoom(rng.random((20, 4, 3)) < 0.55, (1, size / 4, size / 5), order=0).astype(np.float32)
    alphabet = np.maximum(alphabet - ndimage.grey_erosion(alphabet, size=(1, thick + 1, thick + 1)), 0)
    glyph_height, glyph_width = alphabet.shape[1:]
    for top in range(int(rng.integers(0, size)), height - glyph_height, int(size * 1.5)):
        for left in range(int(rng.integers(0, 3 * size)), width - glyph_width, glyph_width + 2 * thick):
            if rng.random() < 0.85:
                glyph = alphabet[rng.integers(len(alphabet))]
                ink[top : top + glyph_height, left : left + glyph_width] = glyph
