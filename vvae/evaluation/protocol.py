"""The protocol of an evaluation: everything that decides what is measured, as data that stands in the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from vvae.errors import VideoError
from vvae.spec import Spec
from vvae.video.metrics import PSNR_OF_EQUALS, SMALLEST_SIDE
from vvae.video.selection import Selection, Shown


class Protocol(Spec):
    """What is measured, and how. Fields with one legal value say what this version of vvae does.

    frames: so many of each clip, after the first `start` (a clip that has fewer is refused); None: all that it has.
    stream: index among the streams of a file, None: its best video stream.
    size: short side in pixels after the resize, None: as it is. crop: around the centre, to multiples of a number, or
    to (height, width). dtype: what models compute in. resamples, confidence, seed: of the bootstrap over clips.
    """

    frames: PositiveInt | None = 65
    start: NonNegativeInt = 0
    stream: NonNegativeInt | None = None
    size: PositiveInt | None = 256
    filter: Literal["lanczos, 8 bit"] = "lanczos, 8 bit"
    crop: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    range: Literal["[-1, 1]"] = "[-1, 1]"
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    latents: Literal["mode of the posterior"] = "mode of the posterior"
    framing: Literal["filled to a size that fits, cropped back"] = "filled to a size that fits, cropped back"
    output: Literal["float32, clamped, before rounding and any codec"] = (
        "float32, clamped, before rounding and any codec"
    )
    means: Literal["over frames, then over clips"] = "over frames, then over clips"
    psnr: Literal["of a frame's pixels and channels, at most 100 dB"] = (
        "of a frame's pixels and channels, at most 100 dB"
    )
    ssim: Literal["window 11x11, sigma 1.5, values in [0, 1], mean over channels"] = (
        "window 11x11, sigma 1.5, values in [0, 1], mean over channels"
    )
    flicker: Literal["mean |e(t) - e(t-1)| of the error e, of 255 levels"] = (
        "mean |e(t) - e(t-1)| of the error e, of 255 levels"
    )
    resamples: PositiveInt = 10_000
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: NonNegativeInt = 0

    def clip(self, path: str | Path) -> Clip:
        """A clip as this protocol takes it."""
        return Clip(Selection(Path(path), self.frames, self.start, self.size, self.stream), self)

    def cropped(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame after the crop; not positive where it is smaller than that."""
        if isinstance(self.crop, int):
            return height - height % self.crop, width - width % self.crop
        return self.crop


assert PSNR_OF_EQUALS == 100.0  # `Protocol.psnr` says so


@dataclass(frozen=True)
class Clip:
    """A clip under a protocol. Errors: VideoError where it cannot be read, is too short or too small."""

    selection: Selection
    protocol: Protocol

    @property
    def path(self) -> Path:
        return self.selection.path

    @cached_property
    def pixels(self) -> tuple[int, int]:
        """Height and width of the frames that are measured."""
        found = self.selection.pixels
        height, width = self.protocol.cropped(*found)
        shape = f"frames of {found[0]}x{found[1]} pixels"
        if not 0 < height <= found[0] or not 0 < width <= found[1]:
            raise VideoError(f"{self.path}: {shape} cannot be cropped by {self.protocol.crop}, take a smaller crop")
        if min(height, width) < SMALLEST_SIDE:
            raise VideoError(
                f"{self.path}: {shape}, cropped to {height}x{width}, need sides of {SMALLEST_SIDE} or more"
            )
        return height, width

    @property
    def promised(self) -> int | None:
        """How many frames will be measured, None where the file does not say."""
        return self.selection.promised if self.protocol.frames is None else self.protocol.frames

    def check(self) -> None:
        """VideoError where what the file says of itself does not fit."""
        self.selection.refuse_nothing()
        _ = self.pixels
        if self.protocol.frames and self.selection.promised is not None:
            self._refuse_short(self.selection.promised)

    def _refuse_short(self, found: int) -> None:
        wanted, start = self.protocol.frames or 0, self.protocol.start
        if found < wanted:
            after = f" after the first {start}" if start else ""
            raise VideoError(
                f"{self.path}: has {found} frames{after}, the protocol takes {wanted}; ask for fewer, or leave it out"
            )

    def shown(self) -> Iterator[Shown]:
        """Frames `1 3 1 h w` in [-1, 1], resized and cropped, and when each is shown."""
        height, width = self.pixels
        top, left = ((a - b) // 2 for a, b in zip(self.selection.pixels, (height, width), strict=True))
        count = 0
        for frame, time in self.selection.shown():
            yield frame[..., top : top + height, left : left + width], time
            count += 1
        self._refuse_short(count)

    def to_dict(self) -> dict[str, Any]:
        """By what the clip is known again: its name and content, and its size as it is measured."""
        height, width = self.pixels
        info = self.selection.info
        return {
            "name": self.path.name,
            "sha256": self.selection.digest,
            "height": height,
            "width": width,
            "fps": round(float(info.fps), 4),
            "source": f"{info.height}x{info.width}",
        }


def promised(clips: Sequence[Clip]) -> int | None:
    """Frames of all clips together, None where one does not say."""
    frames = [clip.promised for clip in clips]
    return None if None in frames else sum(n for n in frames if n is not None)
