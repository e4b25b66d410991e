"""Records the golden outputs; refuses unless the parity files are there and pass. Called by `make golden`."""

from __future__ import annotations

import subprocess
import sys

from safetensors.torch import save_file

from tests.golden.golden import FILE, MODELS, outputs
from tests.parity import FOLDER


def main() -> None:
    if not (FOLDER / "iv_vae" / "cases.json").exists():
        sys.exit(f"golden: no parity files in {FOLDER}; set VVAE_PARITY_DIR: outputs are recorded only behind them")
    if subprocess.run([sys.executable, "-m", "pytest", "-k", "parity"], check=False).returncode:
        sys.exit("golden: the parity files do not pass, so nothing is recorded")
    save_file({key: value for name in MODELS for key, value in outputs(name).items()}, FILE)
    print(f"golden: recorded {len(MODELS)} models in {FILE.name}")


if __name__ == "__main__":
    main()
