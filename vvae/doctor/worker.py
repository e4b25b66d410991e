"""The process that does the checks: `python -m vvae.doctor.worker ORDER START PIPE`.

A first line of JSON into the pipe, a file descriptor, says that it is there; one for each check from START on holds its
rows. Compilers and libraries may print what they like.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO


def main(order: str, start: int, pipe: int) -> None:
    """order: the arguments of `checks` as JSON."""
    from vvae.doctor.checks import checks
    from vvae.doctor.row import raised

    planned = checks(**json.loads(order))
    with os.fdopen(pipe, "w") as told:
        _tell(told, {"ready": True})
        for check in planned[start:]:
            try:
                rows = list(check.rows())
            except Exception as error:
                rows = [check.blank.model_copy(update={"found": raised(error)})]
            _tell(told, {"rows": [row.model_dump() for row in rows]})


def _tell(pipe: TextIO, message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
