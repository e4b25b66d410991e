"""Whether torch on this machine is fit for the work: kernels against the truth, compilers, codecs, settings.

report = doctor.examine()
report.fit, [row.name for row in report.rows if row.verdict == "unfit"]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, computed_field

from vvae.bench.machine import Machine, look
from vvae.doctor.advice import advised
from vvae.doctor.checks import PARTS, Check, checks
from vvae.doctor.machine import chosen_devices, versions
from vvae.doctor.row import Row
from vvae.doctor.watch import watch
from vvae.errors import VvaeError

__all__ = ["PARTS", "Report", "Row", "examine"]

SECONDS, COMPILE_SECONDS = 60.0, 180.0
"""What one check may take, and what compiling may: inductor needs half a minute of an idle core."""


class Report(BaseModel):
    """What was found: the machine, versions by name, devices by name, and a row for every check."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    versions: dict[str, str]
    devices: dict[str, str]
    rows: tuple[Row, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fit(self) -> bool:
        """Nothing that was checked is unfit."""
        return all(row.verdict != "unfit" for row in self.rows)


def examine(
    parts: Sequence[str] = (),
    devices: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
    compile_seconds: float = COMPILE_SECONDS,
    say: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Report:
    """Checks the machine, in a process of its own: what crashes or hangs there is a row that says so.

    parts: of `PARTS`, none given: all. devices: as "cpu" or "cuda:0", none given: the CPU and all GPUs. seconds: what
    one check may take. say: called before each with its name, how many are done, and of how many.

    Errors: VvaeError for a part or a device that is not there.
    """
    known = [part for part in PARTS if part in (parts or PARTS)]
    if unknown := [part for part in parts if part not in PARTS]:
        raise VvaeError(f"part {unknown[0]}: is unknown; it is one of {', '.join(PARTS)}")
    here, found = chosen_devices(tuple(devices)), versions()
    order = {"parts": known, "devices": list(here), "seconds": seconds, "compile_seconds": compile_seconds}
    rows = list(_watched(json.dumps(order), checks(known, list(here), seconds, compile_seconds), say))
    return Report(machine=look(), versions=found, devices=here, rows=tuple(advised(rows, found)))


def _watched(order: str, planned: Sequence[Check], say: Callable[[str, int, int], None]) -> Iterator[Row]:
    with TemporaryDirectory() as cache:
        # compiled anew: what an earlier call left behind would hide that a compiler is gone
        fresh = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        answers = watch(
            [check.seconds for check in planned],
            lambda start, pipe: [sys.executable, "-m", "vvae.doctor.worker", order, str(start), str(pipe)],
            {**os.environ, **fresh},
            lambda step: say(planned[step].blank.name, step, len(planned)),
        )
        for answer in answers:
            if answer.message is None:
                yield planned[answer.step].blank.model_copy(update={"found": answer.ended})
            else:
                yield from map(Row.model_validate, answer.message["rows"])
