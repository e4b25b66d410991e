"""Which clips lie in a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vvae.errors import VideoError
from vvae.video.folder import is_folder, is_picture, natural

_ENDINGS = r"\.(3g2|3gp|asf|avi|flv|gif|ivf|m2ts|m4v|mj2|mkv|mov|mp4|mpe?g|mts|mxf|nut|obu|ogv|ts|webm|wmv|y4m)$"


def is_video(path: Path) -> bool:
    """Whether the name is that of a video file; `read_clip` reads files of other names, too."""
    return re.search(_ENDINGS, path.name, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Found:
    """Clips in natural order of their paths, and what lies between them and is none."""

    clips: tuple[Path, ...]
    others: tuple[Path, ...] = ()


def clips_in(path: str | Path) -> Found:
    """The clips at a path: itself where it is a file; else the video files in the folder and in those below it.

    A folder that holds pictures directly, and no video file, is one clip, as it is for `read_clip`. Hidden files and
    folders are passed over.

    Errors: VideoError where nothing is there, or no clip.
    """
    path = Path(path)
    if not is_folder(path):
        if not path.exists():
            raise VideoError(f"{path}: no such file or folder, give a clip or a folder of clips")
        return Found((path,))
    clips, others = _below(path)
    if not clips:
        raise VideoError(f"{path}: holds no clip, give a folder of video files (.mp4, .mkv, ...) or of pictures")
    return Found(_sorted(clips), _sorted(others))


def _below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Clips and other files in a folder and those below it."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}), allow it or give another") from error
    files = [entry for entry in entries if not entry.is_dir()]
    clips = [file for file in files if is_video(file)]
    if not clips and any(is_picture(file) for file in files):
        return [folder], []
    others = [file for file in files if file not in clips]
    for below in (entry for entry in entries if entry.is_dir()):
        inner, rest = _below(below)
        clips, others = clips + inner, others + rest
    return clips, others


def _sorted(paths: list[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: [natural(part) for part in path.parts]))
