"""What slices spare: the residual block of each architecture that needs the most memory, whole beside in slices.

python benchmarks/slices.py                    # decoders, 17 or 16 frames of 128x128
python benchmarks/slices.py --rounds 3 --out /tmp/x

Bytes alive at once are counted, input and output included; seconds are those of paired rounds, float32. Writes
results/slices.json and slices.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vvae.bench.figures import MIB, paired
from vvae.bench.rounds import play, seconds, timed
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


def blocks(layer: LayerSpec, read: Signal, path: str = "") -> Iterator[tuple[str, LayerSpec, Signal]]:
    """Every residual block inside, with what it reads."""
    if isinstance(layer, ResidualSpec):
        yield path, layer, read
    elif isinstance(layer, CompositeSpec):
        for name, child, signal in layer.inputs(read):
            yield from blocks(child, signal, f"{path}.{name}".lstrip("."))


def runs(block: LayerSpec, read: Signal, groups: int, device: str) -> dict[str, Run]:
    """The block on one random clip, whole and in slices."""
    side = int(SIDE / read.stride)
    with torch.device(device):
        torch.manual_seed(0)
        built = block.build(read).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shape = (1, read.channels, read.frames(groups), side, side)
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)

    @torch.no_grad()
    def run(pixels: int) -> None:
        with at_once(pixels):
            built(x)

    return {"whole": lambda: run(2**62), "slices": lambda: run(slices.AT_ONCE)}


def measured(name: str, rounds: int) -> dict[str, Any]:
    spec, groups = spec_of(name), GROUPS[name]

    def peaks(found: tuple[str, LayerSpec, Signal]) -> dict[str, int]:
        return {how: peak_bytes(run) for how, run in runs(*found[1:], groups, "meta").items()}

    found = max(blocks(spec.decoder, spec.latents), key=lambda one: peaks(one)["whole"])
    path, block, read = found
    contestants = runs(block, read, groups, "cpu")
    for run in contestants.values():
        run()
    played = play({how: lambda run=run: timed(run) for how, run in contestants.items()}, rounds, lambda text: None)
    shape = (read.channels, read.frames(groups), int(SIDE / read.stride), int(SIDE / read.stride))
    ratio = paired(seconds(played, "slices"), seconds(played, "whole"))
    clip = 4 * shape[0] * shape[1] * shape[2] * shape[3]
    return {"model": name, "block": path, "reads": shape, "clip": clip, **peaks(found), "time": ratio.model_dump()} | {
        "told": str(ratio)
    }


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
        lines.append(f"| {row['model']} | `{row['block']}` | {reads} | {' | '.join(mib)} | {row['told']} |")
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
