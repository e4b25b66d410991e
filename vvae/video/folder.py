"""Folders of pictures, and single pictures, as clips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vvae.errors import VideoError
from vvae.video.colour import Picture, over_black
from vvae.video.container import DamagedError, refuse_all_but_files
from vvae.video.shape import MOST_PIXELS, refuse_huge

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")
_LEGAL = "png, jpg, webp, tiff or bmp"


def is_picture(path: Path) -> bool:
    """Whether the name is that of a single picture."""
    return path.suffix.lower() in SUFFIXES


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be seen."""
    try:
        return path.is_dir()
    except OSError:  # a folder above it is locked, or the name is too long: the error comes when it is opened
        return False


def pictures_of(path: Path) -> Sequence[Path]:
    """The pictures of a folder in natural order (frame2 before frame10); of a single picture, itself.

    Hidden files are passed over. Errors: VideoError where there is no picture, or pictures of several kinds, or
    anything else beside them: nothing is left out without a word.
    """
    try:
        if not is_folder(path):
            refuse_all_but_files(path)
            return [path]
        entries = [entry for entry in path.iterdir() if not _is_hidden(entry.name)]
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}), allow it or give another") from error
    if not entries:
        raise VideoError(f"{path}: the folder holds no pictures, legal are {_LEGAL}")
    others = sorted(entry.name for entry in entries if not is_picture(entry) or not entry.is_file())
    if others:
        found = f"the folder holds {others[0]!r}" + (f" and {len(others) - 1} more" if others[1:] else "")
        raise VideoError(f"{path}: {found}, which is no picture, give a folder of {_LEGAL} alone, one per frame")
    kinds = sorted({SUFFIXES[entry.suffix.lower()] for entry in entries})
    if kinds[1:]:
        raise VideoError(f"{path}: the folder holds {' and '.join(kinds)} pictures, give a folder of one kind")
    return sorted(entries, key=lambda entry: natural(entry.name))


def natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """A key that sorts numbers in names by their value."""
    parts = re.split(r"([0-9]+)", name.lower())
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts), name


def load(path: Path) -> Picture:
    """A picture `h w 3`, 0 to 255, upright as its EXIF data says, transparent parts over black.

    16 bit gray is rounded to 8. Errors: DamagedError where it cannot be decoded; VideoError where it holds
    several pictures or more than 2^26 pixels.
    """
    try:
        with Image.open(path, formats=sorted(set(SUFFIXES.values()))) as image:
            refuse_huge(path, image.height, image.width)
            if (held := getattr(image, "n_frames", 1)) > 1:
                raise VideoError(f"{path}: holds {held} pictures, legal is one per file, split it")
            return _rgb(path, ImageOps.exif_transpose(image))
    except VideoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise VideoError(f"{path}: is larger than the {MOST_PIXELS} pixels that are legal, or damaged") from error
    except Exception as error:  # Pillow's decoders raise anything at all on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(f"{path}: is not a picture that can be decoded ({reason})") from error


def _rgb(path: Path, image: Image.Image) -> Picture:
    if image.mode in ("F", "I"):
        raise VideoError(f"{path}: holds numbers in mode {image.mode}, legal are pictures of 8 or 16 bits, convert it")
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    return over_black(np.asarray(image.convert("RGBA"), dtype=np.uint8))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS
