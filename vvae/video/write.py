"""Clips out: H.264 in MP4, for every player; the file appears when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from torch.nn import functional as F

from vvae.errors import VideoError
from vvae.video.whole import whole_file

_CRF = "16"  # of 0 (lossless) to 51: no difference to the eye


class ClipWriter:
    """Writes chunks of frames into one MP4 file (H.264, yuv420p, BT.709).

        with ClipWriter("out.mp4", fps=25, size=(256, 384)) as clip:
            clip.write(frames)                     # 1 3 t h w in [-1, 1]

    size: (height, width) in pixels. yuv420p stores even sides only: of an odd side the last row or column is stored
    twice. The file appears when the block ends without an error; otherwise nothing is left.
    """

    def __init__(self, path: str | Path, fps: float | Fraction, size: tuple[int, int]) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps).limit_denominator(10_000)
        self.size = size
        self.frames = 0
        self._session = self._write_whole()

    def __enter__(self) -> ClipWriter:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def write(self, frames: torch.Tensor) -> None:
        """Appends frames `1 3 t h w`, clamped to [-1, 1]. Errors: VideoError for another shape."""
        legal = (1, 3, frames.shape[2] if frames.ndim == 5 else "t", *self.size)
        if tuple(frames.shape) != legal:
            raise VideoError(f"{self.path}: frames of shape {tuple(frames.shape)} cannot be written, legal is {legal}")
        for picture in _pictures(frames):
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts = self.frames
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    @contextmanager
    def _write_whole(self) -> Iterator[None]:
        try:
            with whole_file(self.path) as part, _container(part) as self._container:
                self._stream = self._container.add_stream("libx264", self.fps, options={"crf": _CRF})
                self._describe()
                yield
                if self.frames == 0:
                    raise VideoError(f"{self.path}: no frame was written, a clip needs one at least")
                self._container.mux(self._stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _describe(self) -> None:
        codec = self._stream.codec_context
        codec.height, codec.width = (side + side % 2 for side in self.size)
        codec.pix_fmt = "yuv420p"
        codec.colorspace = Colorspace.ITU709
        codec.color_range = ColorRange.MPEG
        codec.color_primaries = ColorPrimaries.BT709
        codec.color_trc = ColorTrc.BT709


def _container(path: Path) -> OutputContainer:
    # The index stands in front, so that a browser can start before it has the whole file.
    return av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})


def _pictures(frames: torch.Tensor) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """`1 3 t h w` in [-1, 1] to pictures `h w 3`, 0 to 255, with even sides."""
    height, width = frames.shape[-2:]
    scaled = frames[0].transpose(0, 1).detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round()
    even = F.pad(scaled, (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8)
    yield from even.permute(0, 2, 3, 1).contiguous().numpy()
