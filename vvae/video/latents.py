"""Files of latents: what encoding a clip gives, with all that it takes to decode it again.

One safetensors file: the tensors `mean` and `logvar`, `1 c t h w`, before any scaling, and of a model that decodes
with content the images `content`, `1 c n h w` for n pieces. Metadata, all strings:

    vvae.latents        version of this layout, now "1"
    vvae.sha256         `checkpoint.digest` of the tensors
    fps                 frames per second, as a fraction
    frames height width the clip's true size: what comes back is cropped to it
    normalised          "false": the latents are not scaled as a diffusion model wants them; "true": mean is
    spec                the model's spec, as JSON
    weights             `weights_digest` of the model
    source start        the clip's name, and the number of its frames that were left out at the beginning
    exact plan          "true": they are what the model gives for the whole clip; how it went through, as JSON
    times               where the frame rate varies: the time of each frame in seconds, a JSON list of fractions
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import CheckpointError, SpecError, VideoError
from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian
from vvae.state import weights_digest

FORMAT = "1"


@dataclass(frozen=True)
class LatentsInfo:
    """What stands beside the latents of a clip. `times`: seconds of each frame, None where the rate is constant."""

    fps: Fraction
    frames: int
    height: int
    width: int
    spec: str
    weights: str
    source: str = ""
    start: int = 0
    times: tuple[Fraction, ...] | None = None
    normalised: bool = False
    exact: bool = True
    plan: str = "{}"

    def to_metadata(self) -> dict[str, str]:
        times = {} if self.times is None else {"times": json.dumps([str(time) for time in self.times])}
        return {
            "vvae.latents": FORMAT,
            "fps": str(self.fps),
            "frames": str(self.frames),
            "height": str(self.height),
            "width": str(self.width),
            "normalised": str(self.normalised).lower(),
            "spec": self.spec,
            "weights": self.weights,
            "source": self.source,
            "start": str(self.start),
            "exact": str(self.exact).lower(),
            "plan": self.plan,
            **times,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> LatentsInfo:
        """Errors: KeyError or ValueError where something is missing or no number."""
        times = json.loads(metadata["times"]) if "times" in metadata else None
        return cls(
            fps=Fraction(metadata["fps"]),
            frames=int(metadata["frames"]),
            height=int(metadata["height"]),
            width=int(metadata["width"]),
            spec=metadata["spec"],
            weights=metadata["weights"],
            source=metadata.get("source", ""),
            start=int(metadata.get("start", "0")),
            times=None if times is None else tuple(Fraction(time) for time in times),
            normalised=metadata["normalised"] == "true",
            exact=metadata.get("exact", "true") == "true",
            plan=metadata.get("plan", "{}"),
        )


def write_latents(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], info: LatentsInfo) -> None:
    """One file, whole or not at all; the same tensors and info always give the same bytes."""
    checkpoint.write_file(path, tensors, {**info.to_metadata(), "vvae.sha256": checkpoint.digest(tensors)})


class Latents:
    """A file of latents. Only the positions that are asked for are in memory.

    Errors: CheckpointError where the file is none, or not what was written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _opened(self.path) as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("vvae.latents") != FORMAT:
                raise CheckpointError(f"{path}: {_no_latents(metadata)}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.get("vvae.sha256") != checkpoint.digest(tensors):
                raise CheckpointError(f"{path}: damaged, its latents are not those that were written; encode again")
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        try:
            self.info = LatentsInfo.from_metadata(metadata)
            self.spec = VideoAutoencoderSpec.from_json(self.info.spec)
        except (KeyError, ValueError) as error:
            reason = str(error) if isinstance(error, SpecError) else f"{type(error).__name__} {error}"
            raise CheckpointError(f"{path}: its metadata cannot be used ({reason}); encode the clip again") from None
        info = self.info
        self.shape = (1, *self.spec.latent_shape(info.frames, info.height, info.width))
        if shapes != (wanted := self._wanted()):
            raise CheckpointError(f"{path}: holds {shapes}, but {wanted} belong to its clip; encode the clip again")

    def _wanted(self) -> dict[str, tuple[int, ...]]:
        """The tensors that belong into the file, and their shapes."""
        spec, info = self.spec, self.info
        wanted: dict[str, tuple[int, ...]] = {"mean": self.shape, "logvar": self.shape}
        if spec.content is not None:
            pieces = spec.images(spec.latent_frames(info.frames))
            wanted["content"] = (1, spec.pixels.channels, pieces, *spec.filled_size(info.height, info.width))
        return wanted

    def posteriors(self, groups: int | None, device: torch.device | str = "cpu") -> Iterator[DiagonalGaussian]:
        """The latents from the first to the last, `groups` groups at a time, as the encoder gave them; None: all."""
        groups = groups or self.shape[2]
        spec, info, seen, piece = self.spec, self.info, 0, 0
        signal = spec.chunks("decode")
        while seen < self.shape[2]:
            end = min(seen + (groups * signal.group if seen else signal.frames(groups)), self.shape[2])
            shown = min(spec.decoded_frames(end), info.frames) - spec.decoded_frames(seen)
            pieces = piece + spec.images(end - seen)
            mean, logvar = (self._cut(name, seen, end).to(device) for name in ("mean", "logvar"))
            content = None if spec.content is None else self._cut("content", piece, pieces).to(device)
            mean = spec.latent.restore(mean) if info.normalised else mean
            yield DiagonalGaussian(mean, logvar, Fit(shown, info.height, info.width), content=content)
            seen, piece = end, pieces

    def _cut(self, name: str, start: int, end: int) -> Tensor:
        with _opened(self.path) as file:
            part: Tensor = file.get_slice(name)[:, :, start:end].clone()
            return part

    def check_model(self, model: VideoAutoencoder, weights: str | None = None) -> None:
        """VideoError unless the model is the one that made the latents. `weights`: its digest, if known already."""
        found = weights or weights_digest(model)
        if found != self.info.weights:
            raise VideoError(
                f"{self.path}: was encoded by {self.spec.name} with weights {self.info.weights[:12]}, but "
                f"{model.spec.name} has weights {found[:12]}; give that model's file with --model"
            )


def _opened(path: Path) -> safetensors.safe_open:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; give a .safetensors file that vvae encode wrote")
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError):
        raise CheckpointError(f"{path}: is no safetensors file of latents; give one that vvae encode wrote") from None


def _no_latents(metadata: Mapping[str, str]) -> str:
    if "vvae.spec" in metadata:
        return "holds a model, not latents; give a file that vvae encode wrote, and the model with --model"
    if found := metadata.get("vvae.latents"):
        return f"holds latents of format {found}, this vvae reads {FORMAT}; encode the clip again"
    return "holds no latents that vvae encode wrote; encode a clip first"
