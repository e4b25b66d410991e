"""A file of latents back to a clip."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vvae.autoencoder import VideoAutoencoder
from vvae.errors import VideoError
from vvae.tiling import Plan, usual_plan
from vvae.video.latents import Latents
from vvae.video.output import refuse_taken, sound_of, write_frame
from vvae.video.steps import decoded, device_of
from vvae.video.write import ClipWriter

Progress = Callable[[int, int | None], None]


@torch.inference_mode()
def decode_clip(
    model: VideoAutoencoder,
    latents: Latents,
    out: str | Path,
    *,
    plan: Plan | None = None,
    audio_from: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Decodes latents as a stream, in constant memory, into the clip `out`. Returns what was done.

    The frames are those that `reconstruct_clip` gives of the same clip with the same plan, bit for bit. The model
    must be the one that made the latents: see `Latents.check_model`. audio_from: a clip whose sound is kept.

    Errors: VideoError where `out` is there already or the result is not finite; then nothing is left behind.
    """
    info = latents.info
    refuse_taken(Path(out))
    plan = plan or usual_plan(model.spec)
    way = plan.way("decode")
    posteriors = latents.posteriors(way.groups, device_of(model))
    start, done = time.perf_counter(), 0
    sound = sound_of(audio_from, info.fps, info.start)
    with plan.guard(), ClipWriter(out, info.fps, (info.height, info.width), **sound) as clip:
        for done, frame in enumerate(decoded(way.on(model, "decode"), posteriors, way.groups), start=1):
            write_frame(clip, frame, None if info.times is None else info.times[done - 1])
            if progress is not None:
                progress(done, info.frames)
        if done != info.frames:
            raise VideoError(f"{latents.path}: gave {done} of {info.frames} frames, the file and the model disagree")
    seconds = time.perf_counter() - start
    return {
        "clip": str(out),
        "model": model.spec.name,
        "frames": done,
        "height": info.height,
        "width": info.width,
        "fps": round(float(info.fps), 4),
        "exact": plan.exact and info.exact,
        "plan": plan.to_dict(),
        "seconds": round(seconds, 3),
        "frames_per_second": round(done / max(seconds, 1e-9), 3),
    }
