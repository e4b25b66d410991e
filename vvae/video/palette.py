"""Pictures of at most 256 colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from vvae.video.colour import Picture

COLOURS = 256
_SAMPLE = 128  # pixels a side from which the best colours are taken


def indexed(picture: Picture) -> VideoFrame:
    """`h w 3`, 0 to 255, as a frame with a palette of its own: exact up to 256 colours, else the best 256, dithered."""
    image = Image.fromarray(picture)
    if image.getcolors(COLOURS) is None:
        few = image.resize((min(image.width, _SAMPLE), min(image.height, _SAMPLE)), Image.Resampling.NEAREST)
        best = few.quantize(COLOURS)  # its time grows with the number of colours: seconds for a large picture
        index = np.asarray(image.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
        colours = np.array(best.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    else:
        packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
        found, index = np.unique(packed, return_inverse=True)
        colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    palette = np.zeros((COLOURS, 4), dtype=np.uint8)
    palette[:, 0] = 255  # opaque
    palette[: len(colours), 1:] = colours
    # PyAV takes the pair for this format, its annotations do not know it.
    pair: Any = (index.reshape(picture.shape[:2]).astype(np.uint8), palette)
    return VideoFrame.from_ndarray(pair, format="pal8")
