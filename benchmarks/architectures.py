"""Every published architecture at full size beside the published code and two peers, by the protocol of `vvae bench`.

python benchmarks/architectures.py                    # all, 17 or 16 frames of 128x128; an hour on two cores
python benchmarks/architectures.py od_vae:v1_2        # one of them
python benchmarks/architectures.py --rounds 1 --out /tmp/x

Writes results/architectures/NAME.json and NAME.md for each, random weights. The peers need the extra `diffusers`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "architectures"
SIZES = {
    "od_vae:v1_2": (17, 128, 128),
    "open_sora:v1_2": (17, 128, 128),
    "reducio:ft4": (16, 128, 128),
    "tae:zero": (16, 128, 128),
    "image_vae:sd": (17, 128, 128),
    "wan:2.1": (17, 128, 128),
    "diffusers:cogvideox": (17, 128, 128),
    "diffusers:wan_2_1": (17, 128, 128),
}
BESIDE = {"wan:2.1": ("diffusers:wan_2_1",)}
"""Peers that take part in the run of a spec, since they are its published code; its streams do, too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(SIZES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", action="append", choices=("speed", "memory", "costs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in SIZES]:
        parser.error(f"{unknown[0]!r} is unknown; it is one of {', '.join(SIZES)}")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as `vvae bench`
    from vvae.bench import Plan, run, write

    for name in given.names or SIZES:
        size = SIZES[name]
        parts = tuple(given.part or ("speed", "memory", "costs"))
        # without float64: its 3D convolutions unfold whole clips and need more memory than most machines have
        plan = Plan(
            specs=(name, *BESIDE.get(name, ())),
            sizes=(size,),
            rounds=given.rounds,
            parts=parts,
            exact=False,
            streams=name in BESIDE,
            memory_sizes=(size,),
            longer=None,
        )
        report = run(plan, lambda text: print(text, flush=True))
        for path in write(report, given.out, name.replace(":", "_")):
            print(path)


if __name__ == "__main__":
    main()
