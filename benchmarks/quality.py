"""Quality of a model beside the linear floor that training starts from, by one fixed protocol.

    python benchmarks/quality.py                                  # held-out material
    python benchmarks/quality.py clip.mp4 other.mp4:3             # files; ":3" takes stream 3

A file is read at 256 pixels on its shorter side (Lanczos), cropped to multiples of 8, its first 65 frames. PSNR is
taken of each frame of the clamped float output, before any codec, and averaged over frames. The floor is fitted to
training material alone, with 16 numbers per position as the model's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import vvae
from vvae.evaluation import floor
from vvae.models.small import vvae_small
from vvae.training import material, pool
from vvae.training.judge import judge
from vvae.training.pool import PoolSpec
from vvae.training.start import start_from
from vvae.video import read_clip

SIZE, FRAMES, CROP = 256, 65, 8


def linear_floor(clips: int) -> vvae.VideoAutoencoder:
    """vvae-small as it is before its first step, from so many training clips."""
    spec, model = PoolSpec(clips=clips), vvae_small().build()
    start_from(model, floor.fit(pool.to_float(spec.clip(index)[None]) for index in range(clips)))
    return model


def held_out(clips: int) -> dict[str, Tensor]:
    """Clips `1 3 17 128 128` that no training saw, joined in one batch."""
    return {"held out": torch.stack([torch.from_numpy(material.validation_clip(index)) for index in range(clips)])}


def from_file(given: str) -> dict[str, Tensor]:
    """The beginning of a file by the protocol, in whole groups."""
    path, _, stream = given.partition(":")
    read = read_clip(path, size=SIZE, crop=CROP, frames=FRAMES, stream=int(stream) if stream else None)
    return {Path(path).name: torch.cat(list(read), dim=2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE[:STREAM]")
    parser.add_argument("--model", default="vvae-small")
    parser.add_argument("--clips", type=int, default=200, help="training clips that the floor is fitted to")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    clips = {name: video for file in given.files for name, video in from_file(file).items()} or held_out(24)
    models = {"floor": linear_floor(given.clips), given.model: vvae.load(given.model)}
    found = {}
    for clip, video in clips.items():
        for name, model in models.items():
            figures = judge(model, video)
            found[f"{clip} / {name}"] = {**asdict(figures), "spread": figures.spread}
            print(f"{clip}, {name}: {figures}, spread {figures.spread:.2f} dB", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
