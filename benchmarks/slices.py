"""What slices spare: the residual block of each architecture that needs the most memory, whole beside in slices.

python benchmarks/slices.py                    # decoders, 17 or 16 frames of 128x128
python benchmarks/slices.py --rounds 3 --out /tmp/x

Bytes alive at once are counted, input and output included; seconds are those of paired rounds, float32. Writes
results/slices.json and slices.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import vvae
from vvae.bench.figures import MIB, paired
from vvae.bench.rounds import play, seconds, timed
from vvae.bench.work import random_model
from vvae.cost import peak_bytes
from vvae.layers import ResidualSpec, slices
from vvae.layers.compose import CompositeSpec
from vvae.models.names import spec_of
from vvae.signal import Signal
from vvae.spec import LayerSpec

RESULTS = Path(__file__).parent / "results"
SIDE = 128
GROUPS = {  # of 17 or 16 frames
    "iv_vae:z16_dim64": 4,
    "od_vae:v1_2": 4,
    "open_sora:v1_2": 4,
    "reducio:ft4": 4,
    "tae:zero": 2,
    "wan:2.1": 4,
}
Run = Callable[[], object]


@contextmanager
def at_once(pixels: int) -> Iterator[None]:
    """Slices of so many pixels."""
    before, slices.AT_ONCE = slices.AT_ONCE, pixels
    try:
        yield
    finally:
        slices.AT_ONCE = before


def blocks(layer: LayerSpec, read: Signal, path: str = "") -> Iterator[tuple[str, Signal]]:
    """The path of every residual block inside, with what it reads; without those that look at a content image."""
    if isinstance(layer, ResidualSpec):
        if not any(hasattr(inner, "content") for _, inner, _ in layer.inputs(read)):
            yield path, read
    elif isinstance(layer, CompositeSpec):
        for name, child, signal in layer.inputs(read):
            yield from blocks(child, signal, f"{path}.{name}".lstrip("."))


def runs(model: vvae.VideoAutoencoder, path: str, read: Signal, groups: int) -> dict[str, Run]:
    """A block of its decoder on one random clip, whole and in slices."""
    block, side = model.decoder.get_submodule(path), int(SIDE / read.stride)
    with torch.device(next(model.parameters()).device):
        x = torch.randn(1, read.channels, read.frames(groups), side, side).contiguous(
            memory_format=torch.channels_last_3d
        )

    @torch.no_grad()
    def run(pixels: int) -> None:
        with at_once(pixels):
            block(x)

    return {"whole": lambda: run(2**62), "slices": lambda: run(slices.AT_ONCE)}


def measured(name: str, rounds: int) -> dict[str, Any]:
    spec, groups = spec_of(name), GROUPS[name]
    dry, real = random_model(spec, device="meta"), random_model(spec)
    peaks = {
        (path, read): {how: peak_bytes(run) for how, run in runs(dry, path, read, groups).items()}
        for path, read in blocks(spec.decoder, spec.latents)
    }
    (path, read), peak = max(peaks.items(), key=lambda found: found[1]["whole"])
    contestants = runs(real, path, read, groups)
    for run in contestants.values():
        run()
    played = play({how: lambda run=run: timed(run) for how, run in contestants.items()}, rounds, lambda text: None)
    ratio = paired(seconds(played, "slices"), seconds(played, "whole"))
    side = int(SIDE / read.stride)
    shape = (read.channels, read.frames(groups), side, side)
    return {"model": name, "block": path, "reads": shape, "clip": 4 * math.prod(shape), **peak, "time": str(ratio)}


def page(rows: list[dict[str, Any]], threads: int) -> str:
    """The same for people."""
    lines = [
        "# Residual blocks, whole and in slices\n",
        f"The block of each decoder that needs the most, float32, {threads} threads, torch {torch.__version__}.\n",
        "| model | block | reads `c t h w` | its input | peak whole | peak in slices | time in slices / whole |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        mib = [f"{row[key] / MIB:.0f} MiB" for key in ("clip", "whole", "slices")]
        reads = "x".join(map(str, row["reads"]))
        lines.append(f"| {row['model']} | `{row['block']}` | {reads} | {' | '.join(mib)} | {row['time']} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [measured(name, options.rounds) for name in GROUPS]
    threads = torch.get_num_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "slices.json").write_text(json.dumps({"threads": threads, "blocks": rows}, indent=2) + "\n")
    (options.out / "slices.md").write_text(page(rows, threads))
    print(page(rows, threads))


if __name__ == "__main__":
    main()
