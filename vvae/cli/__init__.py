"""The command line: `vvae reconstruct clip.mp4`. Needs the `cli` extra."""

import sys
from importlib.util import find_spec

_NEEDED = ("av", "matplotlib", "PIL", "rich", "torchmetrics", "typer")

if _missing := [name for name in _NEEDED if find_spec(name) is None]:
    print(f"vvae: the command line needs {', '.join(_missing)}: pip install 'vvae[cli]'", file=sys.stderr)
    raise SystemExit(2)

from vvae.cli.commands import main  # noqa: E402

__all__ = ["main"]
