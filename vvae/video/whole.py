"""Files and folders that appear complete or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vvae.errors import VideoError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; what lies there when the block ends becomes `path`, after an error nothing is left.

    Errors: VideoError where `path` is a folder, a device or a pipe, or its folder does not exist.
    """
    _refuse_missing_parent(path)
    if path.is_dir():
        raise VideoError(f"{path}: a folder of that name exists, choose another file name")
    if path.exists() and not path.is_file():  # renaming onto a device would take its place
        raise VideoError(f"{path}: is a device or a pipe, choose another file name")
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, advice: str = "choose another folder with --out") -> Iterator[Path]:
    """A new folder to fill; it becomes `path` when the block ends, after an error nothing is left. advice: what an
    error tells the user to do.

    Errors: VideoError where `path` exists and is not an empty folder, or the folder around it does not exist.
    """
    _refuse_missing_parent(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise VideoError(f"{path}: exists already and is not an empty folder, {advice}")
    part = _beside(path)
    try:
        part.mkdir()
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    except OSError as error:
        raise VideoError(f"{path}: cannot be written ({error.strerror}), {advice}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_missing_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise VideoError(f"{path}: the folder {path.parent} does not exist, make it first or choose another")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
