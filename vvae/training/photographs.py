"""The photographs that come with scikit-image and scikit-learn: nothing is downloaded.

Two of them, `coffee` and `chelsea`, are held out: no training clip shows them, so they can judge a trained model.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import skimage
import skimage.io
import sklearn.datasets
from numpy.typing import NDArray

Image = NDArray[np.float32]

# name -> how often it is drawn, relative to the others; natural scenes more often than textures and microscopy
TRAINING: dict[str, float] = {
    "china.jpg": 4.0,
    "flower.jpg": 3.0,
    "astronaut.png": 4.0,
    "motorcycle_left.png": 2.0,
    "motorcycle_right.png": 2.0,
    "rocket.jpg": 3.0,
    "camera.png": 2.0,
    "color.png": 1.5,
    "ihc.png": 0.7,
    "retina.jpg": 0.5,
    "hubble_deep_field.jpg": 0.7,
    "coins.png": 0.7,
    "moon.png": 0.5,
    "brick.png": 0.7,
    "grass.png": 0.7,
    "gravel.png": 0.7,
    "page.png": 0.4,
    "clock_motion.png": 0.5,
}
HELD_OUT: dict[str, float] = {"coffee.png": 1.0, "chelsea.png": 1.0}


@cache
def photograph(name: str) -> Image:
    """The picture `h w 3`, float32 in [0, 1]; a grey one has three equal channels. Do not write into it."""
    pixels = np.asarray(skimage.io.imread(_path(name)), dtype=np.float32) / 255.0
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    picture = np.ascontiguousarray(pixels[..., :3])
    picture.flags.writeable = False
    return picture


def is_grey(picture: Image) -> bool:
    """Whether all three channels are equal."""
    return bool(np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 1], picture[..., 2]))


def draw(rng: np.random.Generator, photographs: dict[str, float]) -> Image:
    """One of the photographs, drawn by weight."""
    weights = np.array(list(photographs.values()))
    return photograph(list(photographs)[rng.choice(len(weights), p=weights / weights.sum())])


def _path(name: str) -> Path:
    with_scikit_learn = Path(sklearn.datasets.__file__).parent / "images" / name
    return with_scikit_learn if with_scikit_learn.exists() else Path(skimage.__file__).parent / "data" / name
