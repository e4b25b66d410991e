"""The shape of a picture: upright, with square pixels, resized and cropped."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from PIL import Image

from vvae.errors import VideoError
from vvae.video.colour import Picture

MOST_PIXELS = 2**26  # of a frame: twice those of 8K
_STRANGEST_PIXEL = 10  # a pixel longer than this is damage, not a camera
_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))  # display matrices, counterclockwise


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned: first its diagonal is swapped, then rows or columns run backwards."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def upright(self, picture: Picture) -> Picture:
        """`h w 3` as a player shows it."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        rows, columns = (slice(None, None, -1 if back else 1) for back in (self.rows_reversed, self.columns_reversed))
        return np.ascontiguousarray(picture[rows, columns])


def orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix of a frame says, to the nearest quarter turn, with its flips."""
    x_to_x, x_to_y, y_to_x, y_to_y = _display_matrix(frame)
    if abs(x_to_x) + abs(y_to_y) >= abs(x_to_y) + abs(y_to_x):
        return Orientation(False, y_to_y < 0, x_to_x < 0)
    return Orientation(True, x_to_y < 0, y_to_x < 0)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """How far a step along x, then along y, in the stored picture moves along x and y on the screen."""
    try:
        data = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # a kind of side data that PyAV does not know yet lies beside it
        return _TURNS[round(frame.rotation / 90) % 4]
    if data is None or len(numbers := bytes(data)) != 36:
        return _TURNS[0]
    a, b, _, c, d, *_ = struct.unpack("=9i", numbers)
    return a, b, c, d


def square(height: int, width: int, aspect: Fraction | None) -> tuple[int, int]:
    """(height, width) in square pixels of a picture whose pixels are `aspect` times as wide as high.

    The longer side of a pixel grows, so that nothing is lost. None, zero and nonsense beyond 1:10 count as square.
    """
    if not aspect or not Fraction(1, _STRANGEST_PIXEL) <= aspect <= _STRANGEST_PIXEL:
        return height, width
    return (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)


def resized(height: int, width: int, size: int | None) -> tuple[int, int]:
    """(height, width) with the short side `size`, the aspect kept and the other side rounded."""
    if size is None:
        return height, width
    short = min(height, width)
    return max(1, round(height * size / short)), max(1, round(width * size / short))


def refuse_huge(path: Path, height: int, width: int) -> None:
    """Errors: VideoError for frames of more than 2^26 pixels, or of none."""
    if not 0 < height * width <= MOST_PIXELS:
        found = f"frames of {height}x{width} pixels"
        raise VideoError(f"{path}: {found}, legal are 1 to {MOST_PIXELS} pixels (8192x8192), or the file is damaged")


def fit(path: Path, picture: Picture, aspect: Fraction | None, size: int | None, crop: int) -> Picture:
    """`h w 3` with square pixels, its short side `size` (Lanczos), cropped around the centre to multiples of `crop`."""
    height, width = resized(*square(picture.shape[0], picture.shape[1], aspect), size)
    if (height, width) != picture.shape[:2]:
        refuse_huge(path, height, width)
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        picture = np.asarray(scaled, dtype=np.uint8)
    if min(height, width) < crop:
        raise VideoError(f"{path}: {height}x{width} pixels cannot be cropped to multiples of {crop}")
    top, left = height % crop // 2, width % crop // 2
    return picture[top : top + height - height % crop, left : left + width - width % crop]
