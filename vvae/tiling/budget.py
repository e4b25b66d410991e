"""How much memory there is: as it is written, as the system says it, as groups of processes are limited."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from vvae.errors import VideoError

SHARE = 0.9
"""Of what the system says is free, so much is planned with: others take memory too while a clip runs."""

_ROOT = Path("/")
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power for power, letter in enumerate("KMGT", 1) for end, base in (("B", 1000), ("IB", 1024))
}


def parse_bytes(text: str) -> int:
    """Bytes of a text such as "2GiB", "500MB" or "1.5 GB".

    Raises:
        VideoError: nothing of the kind.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or (count := int(float(found[1]) * unit)) < 1:
        raise VideoError(f"memory {text!r} is no amount; write it as 2GiB, 500MB or 1.5GB")
    return count


def told(count: int) -> str:
    """Bytes as `parse_bytes` reads them, rounded up."""
    unit, name = (2**30, "GiB") if count >= 2**30 else (2**20, "MiB")
    return f"{math.ceil(10 * count / unit) / 10:g}{name}" if name == "GiB" else f"{math.ceil(count / unit)}{name}"


def usable(device: torch.device | str = "cpu") -> int | None:
    """What this process may take altogether on a device, what it has already included; None: the system does not say.

    Of a CPU the smaller of what the system has left and what a limit leaves to the process's group, since Linux ends a
    process that takes more instead of refusing it; of a GPU what its allocator can still get.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    left = available()
    return None if left is None else int(SHARE * left) + (resident() or 0)


def available(root: Path = _ROOT) -> int | None:
    """Bytes that can still be taken: of the system, and of every group of processes that this one is in (cgroup v1
    and v2). `root`: where the system's files are. None where there are no such files.
    """
    return min([*_of_system(root), *_of_groups(root)], default=None)


def resident(name: str = "VmRSS", root: Path = _ROOT) -> int | None:
    """Bytes that this process has in memory, or another entry of its status; None where the system does not say."""
    return _entry(root / "proc/self/status", f"{name}:")


def _of_system(root: Path) -> Iterator[int]:
    if (left := _entry(root / "proc/meminfo", "MemAvailable:")) is not None:
        yield left


def _entry(file: Path, name: str) -> int | None:
    """An entry in kB, as /proc writes them."""
    lines = (line.split() for line in _read(file).splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[:1] == [name]), None)


def _of_groups(root: Path) -> Iterator[int]:
    """What each limit leaves, from the process's own group up to the outermost."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            files, bases = ("memory.max", "memory.current", "inactive_file"), ("sys/fs/cgroup", "sys/fs/cgroup/unified")
        elif "memory" in names.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            bases = ("sys/fs/cgroup/memory", "sys/fs/cgroup")
        else:
            continue
        inside = Path(path.lstrip("/"))
        for base in bases:
            for folder in (inside, *inside.parents):
                yield from _left(root / base / folder, *files)


def _left(folder: Path, limit: str, used: str, spare: str) -> Iterator[int]:
    """What one limit leaves; files that the system read ahead count as free, since it drops them first."""
    most, now = (_read(folder / name).strip() for name in (limit, used))
    if most.isdecimal() and now.isdecimal():
        lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
        dropped = next((int(words[1]) for words in lines if words[:1] == [spare]), 0)
        yield max(0, int(most) - max(0, int(now) - dropped))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
