"""Clips as other programs write them, encoded with PyAV, and the arithmetic of their colours in floats."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from vvae.video import read_clip

LUMA = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "BT.2020": (0.2627, 0.0593)}
TAGS = {"BT.601": 6, "BT.709": 1, "BT.2020": 9}  # ITU-T H.273
SIDE = 16  # pixels of one colour

BARS = np.array([*itertools.product((0, 255), repeat=3), *((i, i, i) for i in range(0, 256, 15)), (200, 120, 40)])
"""The corners of the RGB cube, a gray ramp, and brown: `n 3`."""


def bars(colours: np.ndarray = BARS) -> np.ndarray:
    """Flat squares beside each other, `16 16n 3`, 0 to 255."""
    return np.repeat(np.repeat(colours[None], SIDE, 0), SIDE, 1).astype(np.uint8)


def colours_of(clip: torch.Tensor) -> np.ndarray:
    """The middles of the squares of the first frame, `n 3`, 0 to 255."""
    picture = ((clip[0, :, 0] + 1) * 127.5).permute(1, 2, 0).numpy()
    return picture[SIDE // 2, SIDE // 2 :: SIDE]


def as_clip(picture: np.ndarray) -> torch.Tensor:
    """`h w 3`, 0 to 255, as `1 3 1 h w` in [-1, 1]."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None, :, None] / 127.5 - 1


def yuv(picture: np.ndarray, pixels: str, matrix: str, full: bool, tagged: bool = True) -> av.VideoFrame:
    """`h w 3` of flat squares as a frame, by the definition of the matrix and not by swscale."""
    bits, scale = (10, 4) if pixels.endswith("10le") else (8, 1)
    (kr, kb), rgb = LUMA[matrix], picture / 255
    y = rgb @ (kr, 1 - kr - kb, kb)
    u, v = (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)
    most, middle = 2**bits - 1, 2 ** (bits - 1)
    planes = [y * most, u * most + middle, v * most + middle]
    if not full:
        planes = [(16 + 219 * y) * scale, (128 + 224 * u) * scale, (128 + 224 * v) * scale]
    rows, columns = (2 if "420" in pixels else 1), (1 if "444" in pixels else 2)
    planes = [planes[0], *(plane[::rows, ::columns] for plane in planes[1:])]
    frame = filled(pixels, [plane.round().clip(0, most) for plane in planes])
    if tagged:
        frame.colorspace, frame.color_range = TAGS[matrix], 2 if full else 1
    return frame


def filled(pixels: str, planes: Sequence[np.ndarray]) -> av.VideoFrame:
    """A frame of whole numbers, a plane each."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixels)
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.shape[0], target.line_size), np.uint8)
        data = np.ascontiguousarray(plane.astype(kind)).view(np.uint8)
        rows[:, : data.shape[1]] = data
        target.update(rows.tobytes())
    return frame


def encode(
    path: Path, frames: Sequence[av.VideoFrame], codec: str, options: dict[str, str] | None = None, **stream: Any
) -> Path:
    """Frames of one format, 25 per second, tagged as the first one. stream: attributes of the codec context."""
    first = frames[0]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, 25, options=options or {})
        context = video.codec_context
        context.width, context.height, context.pix_fmt = first.width, first.height, first.format.name
        context.colorspace, context.color_range = first.colorspace, first.color_range
        for name, value in stream.items():
            setattr(context, name, value)
        for index, frame in enumerate(frames):
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def read_all(path: Path, **options: Any) -> torch.Tensor:
    """All frames, `1 3 t h w`."""
    return torch.cat(list(read_clip(path, **options)), dim=2)
