"""The shift and the scale of a model's latents, over any number of clips; it goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import VideoError, VvaeError
from vvae.evaluation.moments import Moments
from vvae.evaluation.protocol import Clip, Protocol, promised
from vvae.evaluation.told import Progress, Told
from vvae.gaussian import DiagonalGaussian
from vvae.scaling import Affine, ClipNorm
from vvae.state import weights_digest
from vvae.tiling import Plan, usual_plan
from vvae.video.output import refuse_taken
from vvae.video.steps import device_of, encoded, in_steps
from vvae.video.whole import whole_file

Of = Literal["mode", "sample"]


@torch.inference_mode()
def calibrate(
    model: VideoAutoencoder,
    clips: Sequence[str | Path],
    part: str | Path,
    protocol: Protocol | None = None,
    *,
    of: Of = "mode",
    plan: Plan | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Mean and covariance of the latents, over all positions of all clips, in float64.

    What is known after each clip lies in the file `part`; the same call goes on from there after a kill, and gives the
    same numbers to the last bit. The file stays when this returns: it is the caller's to remove once the result is
    safe. Clips may be added at the end of the list, and those not reached yet taken out.

    protocol: which frames, at what size. of: the mode of the posterior, or a sample of it, whose moments are exact
    without a draw. weights: the model's `weights_digest`, if it is known. progress: frames done and promised.

    Errors: VvaeError for a model whose latents are not scaled by numbers, or where `part` belongs to another call;
    VideoError where a clip cannot be read.
    """
    if isinstance(model.spec.latent, ClipNorm):
        raise VvaeError(f"{model.spec.name}: its latents are normed clip by clip; there is no shift and scale to find")
    protocol, plan = protocol or Protocol(), plan or usual_plan(model.spec)
    taken = [protocol.clip(clip) for clip in clips]
    if not taken:
        raise VvaeError("no clip to take latents of; give at least one")
    for clip in taken:
        clip.check()
    held = Calibration.opened(Path(part), _fingerprint(model, protocol, of, plan, weights), model.spec.latents.channels)
    held.refuse_others(taken)
    tell = Told(progress, promised(taken), sum(held.frames))
    try:
        with plan.guard():
            for clip in taken[len(held.clips) :]:
                held.add(clip, *_of_clip(model, clip, of, plan, tell))
    except KeyboardInterrupt:
        told = f"{part} holds {len(held.clips)} of {len(taken)} clips, the same command goes on from there"
        raise KeyboardInterrupt(*[told] if held.clips else []) from None
    return held


@dataclass
class Calibration:
    """What is known of the latents so far, in a file that is replaced after each clip."""

    file: Path
    fingerprint: dict[str, Any]
    moments: Moments
    clips: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    @classmethod
    def opened(cls, file: Path, fingerprint: dict[str, Any], channels: int) -> Calibration:
        """From the file, or new. Errors: VvaeError where the file is something else, or of another call."""
        if not file.exists():
            return cls(file, fingerprint, Moments.none(channels))
        try:
            told = json.loads(file.read_text())
            different = [name for name, value in fingerprint.items() if told["of"].get(name) != value]
            mean, scatter = (torch.tensor(told[name], dtype=torch.float64) for name in ("mean", "scatter"))
            found = cls(file, fingerprint, Moments(told["count"], mean, scatter), told["clips"], told["frames"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise VvaeError(f"{file}: stands where an unfinished calibration would lie; move it away") from None
        if different:
            raise VvaeError(
                f"{file}: holds the unfinished calibration of another call ({', '.join(different)} differ); "
                "repeat that call, or delete the file to start over"
            )
        return found

    def refuse_others(self, clips: Sequence[Clip]) -> None:
        """VvaeError where the clips that are done are not the first of `clips`."""
        first = [clip.selection.digest for clip in clips[: len(self.clips)]]
        if first != self.clips:
            raise VvaeError(
                f"{self.file}: holds {len(self.clips)} clips, which are not the first of those that are given; "
                "give the same clips in the same order, or delete the file to start over"
            )

    def add(self, clip: Clip, found: Moments, frames: int) -> None:
        """The next clip; the file holds it when this returns."""
        self.moments = self.moments.merged(found)
        self.clips.append(clip.selection.digest)
        self.frames.append(frames)
        told = {
            "of": self.fingerprint,
            "clips": self.clips,
            "frames": self.frames,
            "count": self.moments.count,
            "mean": self.moments.mean.tolist(),  # as JSON a float64 keeps every bit
            "scatter": self.moments.scatter.tolist(),
        }
        with whole_file(self.file) as fresh:
            fresh.write_text(json.dumps(told))


def scaling_of(moments: Moments, one_for_all: bool = False) -> Affine:
    """The shift and scale that give every channel of latents mean 0 and variance 1; or all of them together.

    Errors: VvaeError where a channel never changes.
    """
    mean, square = moments.mean, moments.covariance(unbiased=False).diagonal() + moments.mean**2
    if one_for_all:
        mean, square = mean.mean(), square.mean()
    deviation = (square - mean**2).clamp(min=0).sqrt()
    if not (deviation > 0).all():
        raise VvaeError("a channel of the latents is the same everywhere; no scale can be found, give other clips")
    shift, scale = mean.tolist(), (1 / deviation).tolist()
    return Affine(shift=shift, scale=scale) if one_for_all else Affine(shift=tuple(shift), scale=tuple(scale))


def write_model(source: str | Path, scaling: Affine, out: str | Path) -> None:
    """The model file `source` with another shift and scale, as the new file `out`; weights stay, bit by bit.

    Errors: CheckpointError where the file is none, or cannot be written; VideoError where `out` is there already.
    """
    from vvae.models.files import find_file, spec_in

    out = Path(out)
    refuse_taken(out)
    file = find_file(source)
    _, tensors = checkpoint.load_weights(file)
    checkpoint.save_weights(out, tensors, spec_in(file).replace(latent=scaling).to_json())


def _fingerprint(
    model: VideoAutoencoder, protocol: Protocol, of: Of, plan: Plan, weights: str | None
) -> dict[str, Any]:
    """All that decides the numbers, besides the clips."""
    return {
        "protocol": json.loads(protocol.to_json()),
        "posterior": of,
        "spec": model.spec.replace(latent=Affine()).digest,
        "weights": weights or weights_digest(model),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "device": device_of(model).type,
        "way": plan.way("encode").to_dict(),
        "torch": torch.__version__,
    }


def _of_clip(model: VideoAutoencoder, clip: Clip, of: Of, plan: Plan, tell: Told) -> tuple[Moments, int]:
    """The moments of a clip's latents, and its frames."""
    way, seen = plan.way("encode"), 0
    found = Moments.none(model.spec.latents.channels)
    for step in encoded(way.on(model, "encode"), in_steps(clip.shown(), model.spec.chunks("encode"), way.groups)):
        found = found.merged(latent_moments(step.posterior, of))
        frames = step.step.frames.shape[2]
        seen += frames
        tell(frames)
    if not seen:
        raise VideoError(f"{clip.path}: gave no frame")
    return found, seen


def latent_moments(posterior: DiagonalGaussian, of: Of = "mode") -> Moments:
    """Of all positions of latents. A sample has the mean's covariance and, by itself, the posterior's variance."""
    found = Moments.of(_vectors(posterior.mean))
    if of == "mode":
        return found
    noise = _vectors(posterior.std).double().square().sum(0).diag()
    return Moments(found.count, found.mean, found.scatter + noise)


def _vectors(x: Tensor) -> Tensor:
    """`b c t h w` as `n c`, on the CPU."""
    return x.movedim(1, -1).flatten(0, -2).cpu()
