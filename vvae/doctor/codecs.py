"""Clips through every format that vvae writes, and back."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from vvae.doctor.row import Gap, Row, measured, raised

FOLDER, ALL = "folder of PNG", "clips"
MOST_OFF = 2.0
"""Grey levels of 255, the mean over a clip, that a lossy format may be off."""
OTHER_FORMAT = "write another format, or install another release of PyAV"
FEW = 16
"""Grey levels between the colours of a frame, so that there are 256 of them at most: a GIF holds no more."""
_FRAMES, _HEIGHT, _WIDTH = 5, 48, 64


def formats() -> tuple[str, ...]:
    """The suffixes that can be written, and a folder; where PyAV cannot be imported, one name for all."""
    try:
        from vvae.video.formats import FORMATS
    except ImportError:
        return (ALL,)
    return (*FORMATS, FOLDER)


def codec_row(suffix: str) -> Row:
    """A few tiny frames written and read again."""
    try:
        check, lossless = _about(suffix)
        with TemporaryDirectory() as folder:
            gap = _there_and_back(Path(folder) / f"clip{suffix if suffix.startswith('.') else ''}")
    except Exception as error:
        return Row(
            part="video", device="cpu", check=suffix, verdict="unfit", found=raised(error), advice=_advice(error)
        )  # fmt: skip
    row = measured("video", "cpu", check, gap, 0.0 if lossless else MOST_OFF)
    told = "install PyAV from its wheels, which bring an FFmpeg of their own: pip install --force-reinstall 'vvae[cli]'"
    return row if row.verdict == "fit" else row.model_copy(update={"advice": told})


def _about(suffix: str) -> tuple[str, bool]:
    """What stands in the table, and whether every frame must come back as it was."""
    if not suffix.startswith("."):
        return suffix, True
    from vvae.video.formats import FORMATS

    codec = FORMATS[suffix].codec
    return f"{suffix} {codec}", codec in ("ffv1", "gif")


def _there_and_back(path: Path) -> Gap:
    """How many grey levels of 255 frames are off, in the mean; infinite where others come than went."""
    from vvae.video.read import read_clip
    from vvae.video.write import ClipWriter

    clip = picture(FEW if path.suffix == ".gif" else 1)
    with ClipWriter(path, 25, (_HEIGHT, _WIDTH)) as writer:
        writer.write(clip)
    back = torch.cat(list(read_clip(path)), 2)
    if back.shape != clip.shape:
        return Gap(float("inf"), f"frames of shape {tuple(clip.shape)} came back as {tuple(back.shape)}")
    off = float((back - clip).abs().mean() * 127.5)
    return Gap(off, f"{_FRAMES} frames of {_HEIGHT}x{_WIDTH} pixels")


def picture(step: int) -> Tensor:
    """Frames `1 3 t h w` in [-1, 1]: red grows to the right, green downwards, blue in time; by so many grey levels."""
    rows, columns = torch.meshgrid(torch.arange(_HEIGHT), torch.arange(_WIDTH), indexing="ij")
    frames = [
        torch.stack(
            [grown // step * step for grown in ((columns + t) * 255 // 80, rows * 5, torch.full_like(rows, 40 * t))]
        )
        for t in range(_FRAMES)
    ]
    return torch.stack(frames, 1)[None].float() / 127.5 - 1


def _advice(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"{error.name or 'a package'} cannot be imported; pip install 'vvae[cli]'"
    if "cannot encode" in str(error) or "codec" in str(error).lower() or "codec" in type(error).__name__.lower():
        return "this FFmpeg lacks the codec; install PyAV from its wheels, or write another format"
    return OTHER_FORMAT
