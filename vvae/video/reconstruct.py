"""A clip through a model and back, as a folder that shows what came of it."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vvae.errors import VideoError
from vvae.video import metrics
from vvae.video.pictures import GAIN, Samples, bar_height, contact_sheet, plot_per_frame, side_by_side
from vvae.video.read import ClipInfo, probe, read_clip
from vvae.video.whole import whole_folder
from vvae.video.write import ClipWriter

if TYPE_CHECKING:
    from vvae.autoencoder import VideoAutoencoder

Figures = dict[str, Any]
Pair = tuple[torch.Tensor, torch.Tensor]
Progress = Callable[[int, int | None], None]


@torch.inference_mode()
def reconstruct_clip(
    model: VideoAutoencoder,
    clip: str | Path,
    out: str | Path,
    *,
    frames: int | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Figures:
    """Encodes and decodes a clip as a stream, in constant memory, and fills the folder `out`:

    `reconstruction.mp4`, `side_by_side.mp4` (source, result, amplified error), `contact_sheet.png`, `per_frame.png`
    (PSNR and SSIM), `figures.json`. Returns what `figures.json` holds: PSNR in dB, taken before the result is rounded
    and compressed into MP4; `seconds` for reading, encoding and decoding, without measuring and writing, and
    `frames_per_second` from it. A mean over no frame is None.

    frames: at most this many, from the start. size: short side in pixels. progress: called after each step with
    the frames done and the frames promised by the file (None: it does not say).

    Errors: VideoError where the clip cannot be read, frames have a side below 11 pixels, `out` is not a new or empty
    folder, or the result holds values that are not finite; then nothing is left behind.
    """
    clip, out = Path(clip), Path(out)
    with whole_folder(out) as folder:
        info = probe(clip)
        _refuse_tiny(info, size)
        source = read_clip(clip, frames=frames, size=size, chunk=max(8, model.spec.framing.group))
        report = _Report(model, info)
        report.stream(paired(model, source), folder, _promised(info, frames), progress)
        report.draw(folder)
        (folder / "figures.json").write_text(json.dumps(report.figures, indent=2, allow_nan=False) + "\n")
    return report.figures


def paired(model: VideoAutoencoder, chunks: Iterable[torch.Tensor]) -> Iterator[Pair]:
    """Source and result of each frame, `1 3 1 h w` in [-1, 1] each, as the stream gives them back.

    Sources wait only while the stream lags. Errors: VideoError where the result is not finite or loses frames.
    """
    waiting: deque[torch.Tensor] = deque()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def remembered() -> Iterator[torch.Tensor]:
        for chunk in chunks:
            waiting.extend(torch.split(chunk, 1, dim=2))
            yield chunk.to(device)

    for decoded in model.decode_stream(model.encode_stream(remembered())):
        if decoded.shape[2] > len(waiting):
            raise VideoError(f"{model.spec.name}: gave back more frames than it was given")
        if not torch.isfinite(decoded).all():
            raise VideoError(f"{model.spec.name}: the result holds values that are not finite, check the weights")
        for result in torch.split(decoded, 1, dim=2):
            yield waiting.popleft(), result.float().cpu().clamp(-1, 1)
    if waiting:
        raise VideoError(f"{model.spec.name}: the last {len(waiting)} frames did not come back")


class _Report:
    """What is known of each frame so far, and the pictures and figures made from it."""

    def __init__(self, model: VideoAutoencoder, info: ClipInfo) -> None:
        self.info = info
        self.name, self.lead, self.group = model.spec.name, model.spec.framing.lead, model.spec.framing.group
        self.psnr: list[float] = []
        self.ssim: list[float] = []
        self.samples = Samples()
        self.size = (0, 0)
        self.seconds = 0.0

    def stream(
        self,
        pairs: Iterator[Pair],
        folder: Path,
        promised: int | None,
        progress: Progress | None,
    ) -> None:
        """Takes all pairs: measures them, and writes the two clips into `folder`."""
        plain: ClipWriter | None = None
        with ExitStack() as stack:
            for source, result in self._timed(pairs):
                if plain is None:
                    self.size = height, width = source.shape[3], source.shape[4]
                    plain = stack.enter_context(ClipWriter(folder / "reconstruction.mp4", self.info.fps, self.size))
                    wide = (height + bar_height(width), 3 * width)
                    beside = stack.enter_context(ClipWriter(folder / "side_by_side.mp4", self.info.fps, wide))
                self.add(source, result)
                plain.write(result)
                beside.write(side_by_side(source, result))
                if progress is not None:
                    progress(len(self.psnr), promised)

    def _timed(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """The pairs, and the seconds that each took to come."""
        start = time.perf_counter()
        for pair in pairs:
            self.seconds += time.perf_counter() - start
            yield pair
            start = time.perf_counter()

    def add(self, source: torch.Tensor, result: torch.Tensor) -> None:
        self.psnr.append(metrics.psnr(source, result).item())
        self.ssim.append(metrics.ssim(source, result).item())
        self.samples.add(source, result, self.psnr[-1])

    def draw(self, folder: Path) -> None:
        title = f"{self.name} · PSNR {_mean(self.psnr):.2f} dB · SSIM {_mean(self.ssim):.3f}"
        contact_sheet(folder / "contact_sheet.png", self.samples.chosen(), title, self.lead)
        plot_per_frame(folder / "per_frame.png", self.psnr, self.ssim, title, self.lead, self.group)

    @property
    def figures(self) -> Figures:
        """What `figures.json` holds; means are means over frames."""
        grouped = self.psnr[self.lead :]
        return {
            "model": self.name,
            "clip": self.info.path.name,
            "frames": len(self.psnr),
            "height": self.size[0],
            "width": self.size[1],
            "fps": round(float(self.info.fps), 4),
            "psnr": _mean(self.psnr),
            "psnr_lead": _mean(self.psnr[: self.lead]),
            "psnr_per_position": [_mean(grouped[position :: self.group]) for position in range(self.group)],
            "ssim": _mean(self.ssim),
            "error_gain": GAIN,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(len(self.psnr) / self.seconds, 3),
            "psnr_per_frame": [round(value, 4) for value in self.psnr],
            "ssim_per_frame": [round(value, 6) for value in self.ssim],
        }


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def _promised(info: ClipInfo, frames: int | None) -> int | None:
    known = [count for count in (info.frames, frames) if count is not None]
    return min(known) if info.frames is not None else None


def _refuse_tiny(info: ClipInfo, size: int | None) -> None:
    height, width = info.fitted(size)
    if min(height, width) < metrics.SMALLEST_SIDE:
        found, legal = f"frames of {height}x{width} pixels", metrics.SMALLEST_SIDE
        raise VideoError(f"{info.path}: {found} are too small to measure, both sides need {legal} or more")
