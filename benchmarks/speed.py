"""Speed and memory of the library, by one fixed protocol; `vvae bench` with its results under benchmarks/results.

python benchmarks/speed.py                        # IV-VAE z16_dim64, 17 frames of 128x128, and all the rest
python benchmarks/speed.py --compile              # compiled twins too
python benchmarks/speed.py --device cuda          # on a GPU: speed_cuda.json, speed_cuda.md
python benchmarks/speed.py --quick --out /tmp/x   # tiny clips, to see that it runs
"""

from __future__ import annotations

import sys
from pathlib import Path

from vvae.cli import main

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    main(["bench", "--out", str(RESULTS), *sys.argv[1:]])
