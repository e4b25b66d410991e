"""What to do about convolutions and attention that are wrong: what is known, and what was right beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vvae.doctor.row import Row


@dataclass(frozen=True)
class Defect:
    """A fault of a released library: the versions from `first` up to, but without, `fixed`; and what helps.

    where: what stands in the name of a row that shows it, or in what was found.
    """

    device: str
    check: str
    dtypes: tuple[str, ...]
    library: str
    first: tuple[int, ...]
    fixed: tuple[int, ...]
    told: str
    where: str = ""

    def fits(self, row: Row, versions: Mapping[str, str]) -> bool:
        """Whether the row may show it, with these versions of libraries."""
        if self.library not in versions or row.check != self.check or row.dtype not in self.dtypes:
            return False
        if not row.device.startswith(self.device) or self.where not in f"{row.name} {row.found}":
            return False
        return self.first <= _numbers(versions[self.library]) < self.fixed


DEFECTS = (
    Defect(
        "cuda", "conv3d", ("bfloat16", "float16"), "cuDNN", (9, 8), (9, 13),
        "is known for wrong conv3d of large clips; install 9.15 or later (nvidia-cudnn-cu12, or -cu13 for CUDA 13)",
    ),
    Defect(
        "cpu", "conv3d", ("bfloat16",), "oneDNN", (3, 12), (3, 13),
        "is known for it on CPUs with AMX", "stride 2 to one column",
    ),
    Defect(
        "cuda", "conv3d", ("bfloat16",), "torch", (2, 9), (2, 10),
        "is known for a conv3d of several times the memory in bfloat16, unless cuDNN is 9.15 or later", "memory",
    ),
)  # fmt: skip
"""Sources: pytorch/pytorch#163539, #169688, #166643."""


def advised(rows: Sequence[Row], versions: Mapping[str, str]) -> list[Row]:
    """The rows; those that are not fit say what to do, beside what they say already."""
    return [row if row.verdict == "fit" else _advised(row, rows, versions) for row in rows]


def _advised(row: Row, rows: Sequence[Row], versions: Mapping[str, str]) -> Row:
    told = [f"{d.library} {versions[d.library]} {d.told}" for d in DEFECTS if d.fits(row, versions)]
    told += [row.advice] if row.advice else [_ways(row, rows, versions)] if row.verdict == "unfit" else []
    return row.model_copy(update={"advice": "; ".join(told)})


def _ways(row: Row, rows: Iterable[Row], versions: Mapping[str, str]) -> str:
    """What was right here, or else another torch."""
    if "no kernel image" in row.found:
        return "this torch is not built for that GPU; install one that is"
    ways = [f"set {row.remedy} (right here, but slower)"] if row.remedy else []
    beside = [other for other in rows if (other.device, other.check) == (row.device, row.check) and other != row]
    if other := next((other for other in beside if other.dtype == row.dtype and _plainly_fit(other)), None):
        ways.append(f"keep clips and weights {other.layout} (right here)")
    if dtype := next((name for name in ("float32", "float64") if name != row.dtype and _right(beside, name)), None):
        ways.append(f"run in {dtype} (right here)")
    ways.append(f"install another release of torch (this is {versions.get('torch', 'unknown')})")
    return ", or ".join(ways)


def _plainly_fit(row: Row) -> bool:
    return row.verdict == "fit" and row.layout in ("contiguous", "channels last")


def _right(rows: Iterable[Row], dtype: str) -> bool:
    found = [row for row in rows if row.dtype == dtype and row.verdict != "hint"]
    return bool(found) and all(row.verdict == "fit" for row in found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))
