"""The machine that figures were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vvae.bench.figures import Figure

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class Machine(Figure):
    """Where and with what a run was made; `load` averages the minute before it, `load_after` the last one in it.

    `large_pages`: torch asks Linux for large pages (THP_MEM_ALLOC_ENABLE), so that new large tensors cost less.
    """

    cpu: str
    cores: int
    threads: int
    bfloat16: bool
    gpu: str | None
    torch: str
    diffusers: str | None
    large_pages: bool
    load: float
    load_after: float | None = None


def look() -> Machine:
    """The machine as it is now."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    return Machine(
        cpu=next((_value(line) for line in lines if line.startswith("model name")), platform.processor()),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        bfloat16=has_bfloat16(lines),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        torch=torch.__version__,
        diffusers=installed("diffusers"),
        large_pages=os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        load=os.getloadavg()[0],
    )


def has_bfloat16(cpuinfo: Iterable[str]) -> bool:
    """Whether the CPU multiplies bfloat16 itself, by the flags in its description."""
    flags = next((_value(line).split() for line in cpuinfo if line.startswith("flags")), [])
    return not _BFLOAT16_FLAGS.isdisjoint(flags)


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _value(line: str) -> str:
    return line.partition(":")[2].strip()
