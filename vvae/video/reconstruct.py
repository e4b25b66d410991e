"""A clip through a model and back, as a folder that shows what came of it."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vvae.autoencoder import VideoAutoencoder
from vvae.errors import TileError, VideoError
from vvae.tiling import Plan, PublishedTiling, usual_plan
from vvae.video import metrics
from vvae.video.compare import Comparison
from vvae.video.output import sound_of, write_frame
from vvae.video.pictures import GAIN, Samples, bar_height, contact_sheet, plot_per_frame, side_by_side
from vvae.video.selection import Selection, Shown
from vvae.video.steps import decoded, encoded, in_steps
from vvae.video.whole import whole_folder
from vvae.video.write import ClipWriter

Figures = dict[str, Any]
Pair = tuple[torch.Tensor, torch.Tensor, Fraction | None]
Progress = Callable[[int, int | None], None]


@torch.inference_mode()
def reconstruct_clip(
    model: VideoAutoencoder,
    clip: str | Path | Selection,
    out: str | Path,
    *,
    frames: int | None = None,
    size: int | None = None,
    plan: Plan | None = None,
    compare_whole: bool = False,
    audio: bool = False,
    progress: Progress | None = None,
) -> Figures:
    """Encodes and decodes a clip as a stream, in constant memory, and fills the folder `out`:

    `reconstruction.mp4`, `side_by_side.mp4` (source, result, amplified error), `contact_sheet.png`, `per_frame.png`
    (PSNR and SSIM), `figures.json`. Returns what `figures.json` holds: PSNR in dB, taken before the result is rounded
    and compressed into MP4; `seconds` for reading, encoding and decoding, without measuring and writing, and
    `frames_per_second` from it. A mean over no frame is None.

    clip: a path, with `frames` (at most this many, from the start) and `size` (short side in pixels), or a
    `Selection`, which says more. plan: how it goes through the model, see `vvae.tiling.plan`; in steps of about 8
    frames without one. compare_whole: for a plan that is not exact, the clip goes through whole as well; `figures` then
    tell how both differ, and `difference.png` shows the frame that differs most. audio: keep the clip's sound in both
    clips. progress: called after each frame with the frames done and the frames promised by the file (None: it does
    not say).

    Errors: VideoError where the clip cannot be read, frames have a side below 11 pixels, `out` is not a new or empty
    folder, or the result holds values that are not finite; TileError where an exact plan shall be compared. Then
    nothing is left behind.
    """
    selection = clip if isinstance(clip, Selection) else Selection(Path(clip), frames=frames, size=size)
    plan = plan or usual_plan(model.spec)
    with plan.guard(), whole_folder(Path(out)) as folder:
        _refuse_tiny(selection)
        report = _Report(model, selection, plan, _comparison(model, selection, plan) if compare_whole else None)
        pairs = paired(model, selection.shown(), plan)
        report.stream(pairs, folder, audio, progress)
        report.draw(folder)
        (folder / "figures.json").write_text(json.dumps(report.figures, indent=2, allow_nan=False) + "\n")
    return report.figures


def _comparison(model: VideoAutoencoder, clip: Selection, plan: Plan) -> tuple[Comparison, Iterator[Pair]]:
    """What takes the frames of the whole clip beside those in tiles, and the former."""
    tiling = plan.way("decode").on(model, "decode")
    if not isinstance(tiling, PublishedTiling):
        raise TileError("the plan is exact: it gives what the whole clip gives, so there is nothing to compare")
    return Comparison(tiling, clip.pixels), paired(model, clip.shown(), usual_plan(model.spec))


def paired(model: VideoAutoencoder, shown: Iterable[Shown], plan: Plan) -> Iterator[Pair]:
    """Source and result of each frame, `1 3 1 h w` in [-1, 1] each, and its time, as the stream gives them back.

    Sources wait only while the stream lags. Errors: VideoError where the result is not finite or loses frames.
    """
    waiting: deque[Shown] = deque()

    def remembered() -> Iterator[Shown]:
        for one in shown:
            waiting.append(one)
            yield one

    encode, decode = plan.way("encode"), plan.way("decode")
    taken = in_steps(remembered(), model.spec.chunks("encode"), encode.groups)
    posteriors = (result.posterior for result in encoded(encode.on(model, "encode"), taken))
    for result in decoded(decode.on(model, "decode"), posteriors, decode.groups):
        if not waiting:
            raise VideoError(f"{model.spec.name}: gave back more frames than it was given")
        source, time = waiting.popleft()
        yield source, result, time
    if waiting:
        raise VideoError(f"{model.spec.name}: the last {len(waiting)} frames did not come back")


class _Report:
    """What is known of each frame so far, and the pictures and figures made from it."""

    def __init__(
        self,
        model: VideoAutoencoder,
        clip: Selection,
        plan: Plan,
        comparison: tuple[Comparison, Iterator[Pair]] | None = None,
    ) -> None:
        self.clip, self.plan, self.comparison = clip, plan, comparison
        whole = model.spec.chunks("encode")  # groups, or pieces where there are pieces
        self.name, self.lead, self.group = model.spec.name, whole.lead, whole.group
        self.psnr: list[float] = []
        self.ssim: list[float] = []
        self.samples = Samples()
        self.size = (0, 0)
        self.seconds = 0.0

    def stream(self, pairs: Iterator[Pair], folder: Path, audio: bool, progress: Progress | None) -> None:
        """Takes all pairs: measures them, and writes the two clips into `folder`."""
        clip, fps = self.clip, self.clip.info.fps
        sound = sound_of(clip.path if audio else None, fps, clip.start)
        height, width = self.size = clip.pixels
        wide = (height + bar_height(width), 3 * width)
        with (
            ClipWriter(folder / "reconstruction.mp4", fps, self.size, **sound) as plain,
            ClipWriter(folder / "side_by_side.mp4", fps, wide, **sound) as beside,
        ):
            for source, result, time in self._timed(pairs):
                self.add(source, result)
                if self.comparison is not None:
                    comparison, wholes = self.comparison
                    comparison.add(next(wholes)[1], result)
                write_frame(plain, result, time)
                write_frame(beside, side_by_side(source, result), time)
                if progress is not None:
                    progress(len(self.psnr), clip.promised)

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
        if self.comparison is not None:
            self.comparison[0].draw(folder / "difference.png")

    @property
    def figures(self) -> Figures:
        """What `figures.json` holds; means are means over frames."""
        grouped = self.psnr[self.lead :]
        return {
            "model": self.name,
            "clip": self.clip.path.name,
            "frames": len(self.psnr),
            "height": self.size[0],
            "width": self.size[1],
            "fps": round(float(self.clip.info.fps), 4),
            "psnr": _mean(self.psnr),
            "psnr_lead": _mean(self.psnr[: self.lead]),
            "psnr_per_position": [_mean(grouped[position :: self.group]) for position in range(self.group)],
            "ssim": _mean(self.ssim),
            "error_gain": GAIN,
            "exact": self.plan.exact,
            "plan": self.plan.to_dict(),
            **({} if self.comparison is None else {"against_whole": self.comparison[0].figures}),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(len(self.psnr) / self.seconds, 3),
            "psnr_per_frame": [round(value, 4) for value in self.psnr],
            "ssim_per_frame": [round(value, 6) for value in self.ssim],
        }


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def _refuse_tiny(clip: Selection) -> None:
    height, width = clip.pixels
    if min(height, width) < metrics.SMALLEST_SIDE:
        found, legal = f"frames of {height}x{width} pixels", metrics.SMALLEST_SIDE
        raise VideoError(f"{clip.path}: {found} are too small to measure, both sides need {legal} or more")
