"""What stands under torch: versions, devices, threads, pages of memory."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vvae.bench.machine import look
from vvae.doctor.row import Row, Verdict
from vvae.errors import VvaeError

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
NVIDIA = Path("/proc/driver/nvidia/version")


def devices() -> dict[str, str]:
    """What torch can compute on here, by name, and what it is."""
    machine = look()
    found = {"cpu": machine.cpu}
    found |= {f"cuda:{n}": torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())}
    return found | ({"mps": "the GPU of this Mac"} if torch.backends.mps.is_available() else {})


def chosen_devices(asked: tuple[str, ...]) -> dict[str, str]:
    """Those of them that are asked for; none asked: all. Errors: VvaeError for one that is not here."""
    here = devices()
    names = {"cuda": "cuda:0"}
    for device in asked:
        if names.get(device, device) not in here:
            raise VvaeError(f"device {device}: is not here; torch finds {', '.join(here)}")
    return {name: here[name] for name in (names.get(device, device) for device in asked or here)}


def versions() -> dict[str, str]:
    """Of Python, torch, and what torch and vvae call; what is not there is left out."""
    found = {"Python": platform.python_version(), "torch": torch.__version__}
    if one := re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show()):
        found["oneDNN"] = one[1]
    if torch.version.cuda is not None:
        found["CUDA"] = torch.version.cuda
    if torch.cuda.is_available() and (number := torch.backends.cudnn.version()):
        found["cuDNN"] = cudnn_version(number)
    with suppress(PackageNotFoundError):
        found["PyAV"] = version("av")
    return found


def cudnn_version(number: int) -> str:
    """As torch tells it, in words.

    >>> cudnn_version(91002), cudnn_version(8902)
    ('9.10.2', '8.9.2')
    """
    thousands = 10_000 if number >= 90_000 else 1000
    return f"{number // thousands}.{number % thousands // 100}.{number % 100}"


def machine_rows() -> Iterator[Row]:
    """Hints about threads, pages of memory, bfloat16, and a GPU that torch does not see."""
    machine = look()
    yield threads_row(machine.threads, cores())
    if PAGES.exists():
        yield pages_row(PAGES.read_text(), asked=machine.large_pages)
    if platform.machine() in ("x86_64", "AMD64"):
        yield bfloat16_row(machine.bfloat16)
    if NVIDIA.exists() and not torch.cuda.is_available():
        yield _row("GPU", "hint", "an NVIDIA GPU is here, and torch does not see it", _gpu_advice(torch.version.cuda))


def cores() -> int:
    """What this process may use, a container's share of the machine counted."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = QUOTA.read_text().split() if QUOTA.exists() else ["max"]
    return count if share[0] == "max" else max(1, min(count, int(share[0]) // int(share[1])))


def threads_row(threads: int, cores: int) -> Row:
    """As many threads as cores are usual. More of them wait for each other."""
    found = f"{threads} threads of torch on {cores} cores"
    if threads > cores:
        return _row("threads", "hint", found, f"set OMP_NUM_THREADS={cores}: more threads than cores are slower")
    if threads < cores:
        return _row("threads", "hint", found, "unset OMP_NUM_THREADS, or measure both: cores are left idle")
    return _row("threads", "fit", found)


def pages_row(modes: str, asked: bool) -> Row:
    """modes: what Linux says of large pages, as "always [madvise] never". asked: whether torch asks for them."""
    mode = next(iter(re.findall(r"\[(\w+)\]", modes)), modes.strip())
    if mode == "always" or (mode == "madvise" and asked):
        return _row("large pages", "fit", f"the system says {mode}")
    if mode == "madvise":
        told = "set THP_MEM_ALLOC_ENABLE=1: new large tensors then cost less"
        return _row("large pages", "hint", "torch does not ask for them", told)
    told = f"write madvise to {PAGES} and set THP_MEM_ALLOC_ENABLE=1: new large tensors then cost less"
    return _row("large pages", "hint", "the system gives none", told)


def bfloat16_row(native: bool) -> Row:
    """native: whether the CPU computes in bfloat16 itself."""
    if native:
        return _row("bfloat16", "fit", "the CPU has instructions for it")
    told = "take float32 on the CPU: bfloat16 is no faster there, and less exact"
    return _row("bfloat16", "hint", "the CPU has no instructions for it", told)


def _gpu_advice(cuda: str | None) -> str:
    if cuda is None:
        return "this torch is built without CUDA; install one with it"
    return (
        f"this torch is built for CUDA {cuda}; compare it with the driver's (nvidia-smi), and see CUDA_VISIBLE_DEVICES"
    )


def _row(check: str, verdict: Verdict, found: str, advice: str = "") -> Row:
    return Row(part="machine", device="cpu", check=check, verdict=verdict, found=found, advice=advice)
