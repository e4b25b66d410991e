"""An hour of 1080p through a model, in steps, as `vvae reconstruct` takes it: does memory stay, how long does it take?

The source is simulated: a picture that moves, made frame by frame; results are dropped. The first frames are measured,
the rest of the hour is estimated from them.

python benchmarks/long_clip.py                                # 2,000 frames of 1080x1920, vvae-small
python benchmarks/long_clip.py --minutes 20 --memory 4GiB     # as many frames as pass in that time, in larger steps
python benchmarks/long_clip.py --frames 24 --size 64x96 --out /tmp/x
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import vvae
from vvae.bench.memory import forget_peak
from vvae.tiling import Plan, plan
from vvae.tiling.budget import resident, told
from vvae.video.selection import Shown
from vvae.video.steps import decoded, encoded, in_steps

RESULTS = Path(__file__).parent / "results"
HOUR, RATE = 3600, Fraction(30)
EVERY = 20  # frames between two looks at the memory
MIB = 2**20


def scene(height: int, width: int) -> Iterator[Tensor]:
    """Frames `1 3 1 h w` in [-1, 1] without end: a picture with fine and coarse detail that moves both ways."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 32 + 2, width // 32 + 2, generator=generator)
    picture = F.interpolate(coarse, (height, width), mode="bilinear") * 1.6 - 0.8
    picture += 0.2 * torch.rand(1, 3, height, width, generator=generator)
    frame = 0
    while True:
        yield torch.roll(picture, (2 * frame % height, 3 * frame % width), (2, 3)).unsqueeze(2)
        frame += 1


@dataclass
class Watch:
    """What was in memory after how many frames."""

    since: float = field(default_factory=time.perf_counter)
    frames: int = 0
    looks: list[tuple[int, int]] = field(default_factory=list)

    def count(self) -> None:
        self.frames += 1
        if self.frames % EVERY == 0:
            self.looks.append((self.frames, resident() or 0))

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.since

    @property
    def growth(self) -> float:
        """Bytes per frame by which the most of the second half of the looks is above that of the first."""
        first, second = self.halves
        return max(0, second - first) / max(1, self.frames // 2)

    @property
    def halves(self) -> tuple[int, int]:
        """The most that was seen in the first half of the looks, and in the second."""
        held, middle = [bytes_ for _, bytes_ in self.looks], max(1, len(self.looks) // 2)
        return max(held[:middle], default=0), max(held[middle:], default=0)


def go(model: vvae.VideoAutoencoder, chosen: Plan, size: tuple[int, int], frames: int, minutes: float) -> Watch:
    """Encodes and decodes the scene; so many frames, or those that pass in that time."""
    shown: Iterator[Shown] = ((frame, None) for frame in islice(scene(*size), frames))
    ways = {direction: chosen.way(direction) for direction in ("encode", "decode")}
    steps = in_steps(shown, model.spec.chunks("encode"), ways["encode"].groups)
    posteriors = (done.posterior for done in encoded(model, steps))
    watch = Watch()
    for _ in decoded(model, posteriors, ways["decode"].groups):
        watch.count()
        if watch.seconds > 60 * minutes:
            break
    return watch


def report(name: str, size: tuple[int, int], chosen: Plan, loaded: int, watch: Watch) -> dict[str, Any]:
    first, second = watch.halves
    rate, hour = watch.frames / watch.seconds, int(HOUR * RATE)
    return {
        "model": name,
        "height": size[0],
        "width": size[1],
        "dtype": str(chosen.asked.dtype).removeprefix("torch.") if chosen.asked else "",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "plan": chosen.to_dict(),
        "frames": watch.frames,
        "seconds": round(watch.seconds, 1),
        "frames_per_second": round(rate, 4),
        "loaded": loaded,
        "peak": resident("VmHWM") or 0,
        "most_in_first_half": first,
        "most_in_second_half": second,
        "growth_per_frame": round(watch.growth, 1),
        "resident": watch.looks,
        "hour": {
            "frames": hour,
            "hours_to_run": round(hour / rate / 3600, 2),
            "peak": (resident("VmHWM") or 0) + int(watch.growth * (hour - watch.frames)),
        },
    }


def page(found: dict[str, Any]) -> str:
    """The same for people."""
    mib = {
        key: f"{found[key] / MIB:.0f} MiB" for key in ("loaded", "peak", "most_in_first_half", "most_in_second_half")
    }
    hour, needs = found["hour"], found["plan"]["needs"]
    rows = {
        "frames measured": f"{found['frames']} in {found['seconds']:.0f} s, {found['frames_per_second']:.3f} a second",
        "predicted need of the process": told(needs),
        "process with the model loaded": mib["loaded"],
        "peak of the process": mib["peak"],
        "most in the first, second half": f"{mib['most_in_first_half']}, {mib['most_in_second_half']}",
        "growth from the first half to the second": f"{found['growth_per_frame'] / 1024:.2f} KiB a frame",
        f"an hour at {RATE} frames a second, estimated": f"{hour['frames']} frames: {hour['hours_to_run']} hours, "
        f"peak {hour['peak'] / MIB:.0f} MiB",
    }
    head = (
        f"{found['model']}, {found['height']}x{found['width']} pixels, {found['dtype']}, encoded and decoded in steps"
    )
    lines = [
        f"# An hour of 1080p\n\n{head}; {found['threads']} threads, torch {found['torch']}.\n",
        "| | |",
        "| --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vvae-small")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--size", default="1080x1920")
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    dtype = getattr(torch, options.dtype)
    model = vvae.load(options.model).to(dtype).eval()
    chosen = plan(model.spec, (None, height, width), options.memory, dtype=dtype, files=True)
    print(chosen, flush=True)
    loaded = resident() or 0
    forget_peak()
    with torch.inference_mode():
        watch = go(model, chosen, (height, width), options.frames, options.minutes)
    found = report(options.model, (height, width), chosen, loaded, watch)
    os.makedirs(options.out, exist_ok=True)
    (options.out / "long_clip.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.out / "long_clip.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
