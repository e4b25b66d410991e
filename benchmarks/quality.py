"""Quality of a model beside the linear floor that training starts from, by one fixed protocol.

    python benchmarks/quality.py                                  # held-out material
    python benchmarks/quality.py clip.mp4 other.mp4:3             # and files; ":3" takes stream 3

A file is read at 256 pixels on its shorter side (Lanczos), cropped to multiples of 8, its first 65 frames. Figures are
those of `vvae eval`. The floor is fitted to training material alone, with 16 numbers per position as the model's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

import vvae
from vvae.evaluation import Protocol, evaluate, floor, of_model
from vvae.evaluation.results import OfModel, in_a_line
from vvae.models.small import vvae_small
from vvae.training import material, pool
from vvae.training.judge import KEPT, judge
from vvae.training.pool import PoolSpec
from vvae.training.start import start_from

PROTOCOL = Protocol(crop=8)
HELD_OUT = 24
Models = Mapping[str, vvae.VideoAutoencoder]


def linear_floor(clips: int) -> vvae.VideoAutoencoder:
    """vvae-small as it is before its first step, from so many training clips."""
    spec, model = PoolSpec(clips=clips), vvae_small().build()
    start_from(model, floor.fit(pool.to_float(spec.clip(index)[None]) for index in range(clips)))
    return model.eval()


def held_out() -> list[Tensor]:
    """Clips `3 17 128 128` that no training saw, as they were rendered: not rounded to 8 bit, as in files."""
    return [torch.from_numpy(material.validation_clip(index)) for index in range(HELD_OUT)]


def of_file(models: Models, given: str) -> tuple[OfModel, ...]:
    """The beginning of FILE or FILE:STREAM by the protocol."""
    path, _, stream = given.partition(":")
    protocol = PROTOCOL.replace(stream=int(stream) if stream else None)
    return evaluate([of_model(model, name) for name, model in models.items()], [path], protocol).models


def measured(models: Models, files: list[str]) -> Iterator[tuple[str, str, OfModel]]:
    """What was measured, the model's name, and what was found."""
    clips = held_out()
    yield from (("held out", name, judge(model, clips)) for name, model in models.items())
    for file in files:
        yield from ((Path(file.partition(":")[0]).name, found.name, found) for found in of_file(models, file))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE[:STREAM]")
    parser.add_argument("--model", default="vvae-small")
    parser.add_argument("--clips", type=int, default=200, help="training clips that the floor is fitted to")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    models = {"floor": linear_floor(given.clips), given.model: vvae.load(given.model)}
    found = {}
    for clip, name, figures in measured(models, given.files):
        found[f"{clip} / {name}"] = figures.model_dump(include=KEPT)
        print(f"{clip}, {name}: {in_a_line(figures)}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
