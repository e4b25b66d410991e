"""What the network adds to a linear code: PSNR of the floor and of vvae-small, on the same clips.

    python benchmarks/floor.py                    # the held-out material
    python benchmarks/floor.py clip.mp4 --size 256

The floor is fitted to training material alone, 16 numbers per position as the model's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import vvae
from vvae.training import floor, material, pool
from vvae.training.pool import PoolSpec
from vvae.video import psnr, read_clip


def fitted(clips: int) -> floor.Floor:
    """The floor of the first training clips, as training starts from."""
    spec = PoolSpec(clips=clips)
    return floor.fit(pool.to_float(spec.clip(index)[None]) for index in range(clips))


def held_out(clips: int) -> dict[str, Tensor]:
    """Clips `1 3 17 128 128` that no training saw."""
    found = (torch.from_numpy(material.validation_clip(index)) for index in range(clips))
    return {f"held out {index}": video[None] for index, video in enumerate(found)}


def from_file(path: Path, size: int, frames: int) -> dict[str, Tensor]:
    """The beginning of a file, its shorter side `size` pixels, cropped to whole cells and groups."""
    video = torch.cat(list(read_clip(path, size=size, crop=8, frames=frames)), dim=2)
    return {path.name: video[:, :, : 1 + (video.shape[2] - 1) // 4 * 4]}


@torch.no_grad()
def compare(clips: dict[str, Tensor], linear: floor.Floor, model: vvae.VideoAutoencoder) -> None:
    """One line per clip, and the mean over clips."""
    print(f"{'clip':24}  floor  model   gain  dB")
    rows = []
    for name, video in clips.items():
        before = psnr(video, linear.decode(linear.encode(video))).mean()
        after = psnr(video, model.decode(model.encode(video))).mean()
        rows.append((before, after))
        print(f"{name[:24]:24}  {before:.2f}  {after:.2f}  {after - before:+.2f}")
    before, after = torch.tensor(rows).mean(dim=0)
    print(f"{'mean':24}  {before:.2f}  {after:.2f}  {after - before:+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", default="vvae-small")
    parser.add_argument("--size", type=int, default=256, help="shorter side of a file's frames, in pixels")
    parser.add_argument("--frames", type=int, default=33, help="frames of a file")
    parser.add_argument("--clips", type=int, default=100, help="training clips that the floor is fitted to")
    given = parser.parse_args()
    clips = {k: v for path in given.files for k, v in from_file(path, given.size, given.frames).items()}
    compare(clips or held_out(12), fitted(given.clips), vvae.load(given.model))


if __name__ == "__main__":
    main()
