"""A clip to a file of latents, in constant memory, and on from where an interrupted run stopped."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.context import StreamState
from vvae.errors import CheckpointError, VideoError
from vvae.state import load_state, save_state, weights_digest
from vvae.tiling import Plan, usual_plan
from vvae.video.latents import LatentsInfo, write_latents
from vvae.video.output import refuse_taken
from vvae.video.selection import Selection
from vvae.video.steps import Encoded, device_of, encoded, in_steps

Progress = Callable[[int, int | None], None]
SAVE_EVERY = 10.0  # seconds


@torch.inference_mode()
def encode_clip(
    model: VideoAutoencoder,
    clip: Selection,
    out: str | Path,
    *,
    plan: Plan | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
    save_every: float = SAVE_EVERY,
) -> dict[str, Any]:
    """Encodes a clip as a stream and writes its latents to the file `out`. Returns what was done.

    While it runs, finished latents and the state of the stream lie in the folder `OUT.part`, saved every `save_every`
    seconds and on an interruption; the same call then goes on from there, and gives the same file byte for byte.
    Memory does not grow with the clip; only at the end all latents are joined, which takes twice their size.

    weights: `weights_digest` of the model, if it is known. progress: called with the frames done and promised.

    Errors: VideoError where the clip cannot be read, `out` is there already, or `OUT.part` belongs to another clip,
    model or option. An error of the clip or the model leaves nothing behind.
    """
    out = Path(out)
    refuse_taken(out)
    clip.refuse_nothing()
    plan, weights = plan or usual_plan(model.spec), weights or weights_digest(model)
    start = time.perf_counter()
    part = Unfinished(out.with_name(f"{out.name}.part"), _fingerprint(model, clip, plan, weights))
    resumed = part.frames
    try:
        with plan.guard():
            _run(model, clip, plan, part, progress, save_every)
        info = _info(model, clip, part, plan, weights)
        latents = part.joined()
        write_latents(out, latents, info)
    except KeyboardInterrupt:
        part.save()
        told = f"{part.folder} holds {part.frames} frames, the same command goes on from there"
        raise KeyboardInterrupt(*[told] if part.frames else []) from None
    except VideoError:
        part.remove()
        raise
    part.remove()
    seconds = time.perf_counter() - start
    return {
        "latents": str(out),
        "model": model.spec.name,
        "clip": clip.path.name,
        "frames": info.frames,
        "height": info.height,
        "width": info.width,
        "fps": round(float(info.fps), 4),
        "exact": plan.exact,
        "plan": plan.to_dict(),
        "shape": list(latents["mean"].shape),
        "bytes": out.stat().st_size,
        "resumed_at": resumed,
        "seconds": round(seconds, 3),
        "frames_per_second": round((info.frames - resumed) / max(seconds, 1e-9), 3),
    }


def _run(
    model: VideoAutoencoder,
    clip: Selection,
    plan: Plan,
    part: Unfinished,
    progress: Progress | None,
    save_every: float,
) -> None:
    if part.state is not None and part.state.ended:
        return
    shown, way = clip.shown(part.frames, part.times[-1] if part.times else None), plan.way("encode")
    taken = in_steps(shown, model.spec.chunks("encode"), way.groups, part.frames)
    saved = time.perf_counter()
    for result in encoded(way.on(model, "encode"), taken, part.state):
        part.add(result)
        if time.perf_counter() - saved >= save_every:
            part.save()
            saved = time.perf_counter()
        if progress is not None:
            progress(part.frames, clip.promised)


def _info(model: VideoAutoencoder, clip: Selection, part: Unfinished, plan: Plan, weights: str) -> LatentsInfo:
    if part.state is None or not part.state.ended:
        raise VideoError(f"{clip.path}: ends before frame {clip.start + part.frames} now; the clip has changed")
    height, width = clip.pixels
    return LatentsInfo(
        fps=clip.info.fps,
        frames=part.frames,
        height=height,
        width=width,
        spec=model.spec.to_json(),
        weights=weights,
        source=clip.path.name,
        start=clip.start,
        times=tuple(part.times) or None,
        exact=plan.exact,
        plan=json.dumps(plan.way("encode").to_dict()),
    )


def _fingerprint(model: VideoAutoencoder, clip: Selection, plan: Plan, weights: str) -> dict[str, Any]:
    """All that decides the bytes of the finished file."""
    parameter = next(iter(model.parameters()))
    return {
        **clip.fingerprint(),
        "spec": model.spec.digest,
        "weights": weights,
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": device_of(model).type,
        "way": plan.way("encode").to_dict(),
        "torch": torch.__version__,
    }


@dataclass
class Unfinished:
    """What is encoded so far: a folder, and what came since it was saved.

    The folder holds `encode.json` (of what this is), `latents-N.safetensors` for each time it was saved, and
    `state-N.safetensors`, which is written last: what it counts, from 0 to N, is there.

    Errors: VideoError where the folder is something else, or belongs to another clip, model or option.
    """

    folder: Path
    fingerprint: dict[str, Any]
    state: StreamState | None = None
    times: list[Fraction] = field(default_factory=list)
    saved: int = 0
    _new: list[Encoded] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder.exists():
            self._check()
            self._load()

    @property
    def frames(self) -> int:
        """Frames of the clip that are encoded."""
        return 0 if self.state is None else self.state.position

    def add(self, result: Encoded) -> None:
        self._new.append(result)
        self.state = result.state
        self.times += result.step.times or ()

    def save(self) -> None:
        """Everything so far lies in the folder when this returns; a run that dies in between loses only what is new."""
        if not self._new or self.state is None:
            return
        self._open()
        count = sum(result.step.frames.shape[2] for result in self._new)
        times = json.dumps([str(time) for time in self.times[-count:]] if self.times else [])
        checkpoint.write_file(self._latents(self.saved), _joined(map(_tensors, self._new)), {"times": times})
        save_state(self.state, self._state(self.saved))
        if self.saved:
            self._state(self.saved - 1).unlink(missing_ok=True)
        self.saved += 1
        self._new = []

    def joined(self) -> dict[str, Tensor]:
        """`mean` and `logvar` of the whole clip, and `content` where the model has one."""
        before = [checkpoint.read_file(self._latents(number))[0] for number in range(self.saved)]
        return _joined([*before, *map(_tensors, self._new)])

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            about = self.folder / "encode.json"
            if not about.exists():
                fresh = self.folder / "encode.json.new"
                fresh.write_text(json.dumps(self.fingerprint, indent=1) + "\n")
                os.replace(fresh, about)
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: cannot be written ({error.strerror}); choose another --out"
            ) from None

    def _check(self) -> None:
        about = self.folder / "encode.json"
        if self.folder.is_dir() and {path.name for path in self.folder.iterdir()} <= {"encode.json.new"}:
            return
        try:
            found = json.loads(about.read_text())
            different = [name for name, value in self.fingerprint.items() if found.get(name) != value]
        except (OSError, ValueError, AttributeError):
            raise VideoError(
                f"{self.folder}: stands where an unfinished encode would lie; move it, or choose another --out"
            ) from None
        if different:
            raise VideoError(
                f"{self.folder}: holds the unfinished encode of another call ({', '.join(different)} differ); "
                "repeat that call, delete the folder to start over, or choose another --out"
            )

    def _load(self) -> None:
        numbers = [int(path.stem.partition("-")[2]) for path in self.folder.glob("state-*.safetensors")]
        if not numbers:
            return
        self.saved = max(numbers) + 1
        self.state = load_state(self._state(self.saved - 1))
        for number in range(self.saved):
            _, metadata = checkpoint.read_file(self._latents(number))
            self.times += [Fraction(time) for time in json.loads(metadata["times"])]

    def _latents(self, number: int) -> Path:
        return self.folder / f"latents-{number}.safetensors"

    def _state(self, number: int) -> Path:
        return self.folder / f"state-{number}.safetensors"


def _tensors(result: Encoded) -> dict[str, Tensor]:
    posterior = result.posterior
    tensors = {"mean": posterior.mean, "logvar": posterior.logvar, "content": posterior.content}
    return {name: tensor.cpu() for name, tensor in tensors.items() if tensor is not None}


def _joined(pieces: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    held = list(pieces)
    return {name: torch.cat([piece[name] for piece in held], dim=2) for name in held[0]}
