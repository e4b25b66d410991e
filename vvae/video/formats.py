"""What clips are written as: one row per suffix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vvae.errors import VideoError


@dataclass(frozen=True)
class Quality:
    """The constant quality figure of a codec: smaller is better. options: the encoder's names for it."""

    options: tuple[str, ...]
    default: int
    best: int
    worst: int


@dataclass(frozen=True)
class Format:
    """How a kind of file is encoded.

    muxer, codec, pixels: FFmpeg's names; tick: seconds, the grid of given times, None where frames can only be
    regular; sound: whether it can hold any.
    """

    muxer: str
    codec: str
    pixels: str
    tick: Fraction | None
    quality: Quality | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    sound: bool = True

    @property
    def subsampled(self) -> bool:
        """Whether colour is stored for every second row and column only, so that both sides must be even."""
        return self.pixels == "yuv420p"

    def encoder_options(self, path: Path, quality: int | None) -> dict[str, str]:
        """Errors: VideoError for a quality that the codec has not."""
        if self.quality is None:
            if quality is not None:
                raise VideoError(f"{path}: quality is {quality}, but a lossless file has none, leave it out")
            return dict(self.options)
        chosen = self.quality.default if quality is None else quality
        if not self.quality.best <= chosen <= self.quality.worst:
            legal = f"legal is {self.quality.best} (best) to {self.quality.worst}"
            raise VideoError(f"{path}: quality is {quality}, {legal} for {self.codec}")
        return {**self.options, **dict.fromkeys(self.quality.options, str(chosen))}


# A multiple of the clocks that clips come with: 1/600, 1/12800, 1/15360, 1/24000, 1/30000, 1/90000 of a second.
_FINE = Fraction(1, 5_760_000)
_CRF = Quality(("crf",), default=16, best=0, worst=51)  # 16: no difference to the eye
# x264's macroblock tree reads memory that it has not written: the same frames then give other bytes each time.
_REPRODUCIBLE = {"x264-params": "mbtree=0"}
# The index stands in front, so that a browser can start before it has the whole file.
_INDEX_FIRST = {"movflags": "faststart"}
_FOR_VP9 = {"b": "0", "deadline": "good", "cpu-used": "4"}  # b=0: constant quality, not a bit rate
_JPEG = Quality(("qmin", "qmax"), default=2, best=1, worst=31)

FORMATS = {
    ".mp4": Format("mp4", "libx264", "yuv420p", _FINE, _CRF, _REPRODUCIBLE, _INDEX_FIRST),
    ".mov": Format("mov", "libx264", "yuv420p", _FINE, _CRF, _REPRODUCIBLE, _INDEX_FIRST),
    ".mkv": Format("matroska", "ffv1", "bgr0", Fraction(1, 1000), options={"level": "3", "slicecrc": "1"}),
    ".webm": Format("webm", "libvpx-vp9", "yuv420p", Fraction(1, 1000), Quality(("crf",), 20, 0, 63), _FOR_VP9),
    ".avi": Format("avi", "mjpeg", "yuvj444p", None, _JPEG),
    ".gif": Format("gif", "gif", "pal8", Fraction(1, 100), sound=False),
}


def format_of(path: Path) -> Format:
    """By suffix, in any case. Errors: VideoError for another."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        legal = ", ".join(FORMATS)
        raise VideoError(f"{path}: {suffix} cannot be written, legal are {legal}, or no suffix: a folder of PNG")
    return FORMATS[suffix]
