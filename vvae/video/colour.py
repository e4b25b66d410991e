"""Frames of any pixel format as RGB pictures of 8 bits, with the matrix and the range that the frame names."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from vvae.errors import VideoError

Picture = npt.NDArray[np.uint8]

HD_LINES = 720  # from this height on an untagged frame is taken as BT.709
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
# The numbers of ITU-T H.273 that a frame carries, and what swscale calls them; 0 is RGB, 2 says that nothing is known.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_UNKNOWN = (0, 2, 3)
# swscale's default takes short cuts that cost up to 3 of 255 levels.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Painter:
    """Paints the frames of one clip: RGB within 1 of 255 levels of the exact value, transparent parts over black.

    The frame's tags decide on matrix (BT.601, BT.709, BT.2020 with non-constant luminance, SMPTE 240M, FCC) and
    range. Without a tag: BT.601 below 720 lines, else BT.709; limited range, but full range for gray. Primaries and
    transfer stay as they are: PQ and HLG are not tone mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reformatter = VideoReformatter()

    def paint(self, frame: VideoFrame) -> Picture:
        """`h w 3`, 0 to 255. Errors: VideoError for a matrix beyond those above, or an unknown pixel format."""
        if _is_gray(frame.format) and frame.color_range == ColorRange.MPEG:
            return self._limited_gray(frame)
        if not _is_transparent(frame.format):
            return self._converted(frame, "rgb24")
        return over_black(self._converted(frame, "rgba"))

    def _converted(self, frame: VideoFrame, pixels: str) -> Picture:
        """The frame's values in another pixel format, in full range."""
        try:
            converted = self._reformatter.reformat(
                frame,
                format=pixels,
                src_colorspace=self._matrix(frame),
                src_color_range=_range(frame),
                dst_color_range=ColorRange.JPEG,
                interpolation=_EXACT,
                threads=1,
            )
        except av.FFmpegError as error:
            found = f"pixels in format {frame.format.name}"
            raise VideoError(f"{self.path}: holds {found} that FFmpeg cannot show, convert the clip first") from error
        return cast(Picture, converted.to_ndarray())

    def _limited_gray(self, frame: VideoFrame) -> Picture:
        # swscale reads every gray as full range, whatever the tag.
        bits = frame.format.components[0].bits
        code = self._converted(frame, "gray16le").astype(np.float32) * ((2**bits - 1) / 2 ** (bits - 8) / 65535)
        gray = ((code - 16) * (255 / 219)).round().clip(0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)

    def _matrix(self, frame: VideoFrame) -> Colorspace:
        if frame.format.is_rgb or frame.colorspace in _UNKNOWN:
            return Colorspace.ITU709 if frame.height >= HD_LINES else Colorspace.ITU601
        if frame.colorspace not in _MATRICES:
            found = f"colours in matrix {frame.colorspace} of ITU-T H.273"
            raise VideoError(f"{self.path}: holds {found}, legal are {sorted(_MATRICES)}, convert the clip to BT.709")
        return _MATRICES[frame.colorspace]


def over_black(picture: Picture) -> Picture:
    """`h w 4`, 0 to 255, the last one opacity, as `h w 3`."""
    if picture[..., 3].min() == 255:
        return np.ascontiguousarray(picture[..., :3])
    wide = picture.astype(np.uint16)
    return ((wide[..., :3] * wide[..., 3:] + 127) // 255).astype(np.uint8)


def is_hdr(frame: VideoFrame) -> bool:
    """Whether the frame's transfer is PQ or HLG."""
    return frame.color_trc in _HDR


def _range(frame: VideoFrame) -> ColorRange:
    if frame.format.is_rgb or _is_gray(frame.format) or frame.format.name.startswith("yuvj"):
        return ColorRange.JPEG
    return ColorRange.JPEG if frame.color_range == ColorRange.JPEG else ColorRange.MPEG


def _is_gray(pixels: VideoFormat) -> bool:
    return pixels.name.startswith(("gray", "ya8", "ya16", "mono"))


def _is_transparent(pixels: VideoFormat) -> bool:
    return bool(pixels.has_palette) or any(component.is_alpha for component in pixels.components)
