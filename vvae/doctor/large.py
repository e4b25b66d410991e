"""What shows on a GPU alone: clips of more bytes than 32 bits count, and the memory that a convolution takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from vvae.doctor import reference
from vvae.doctor.convolutions import LAYOUTS, exact, laid
from vvae.doctor.row import Gap, Row, measured, raised, widest
from vvae.doctor.truth import LIMITS, off_by

CLIP = (1, 16, 124, 1282, 722)
"""3.7 GB in two bytes a number: the shape at which a released cuDNN was found wrong."""
MEMORY_CLIP = (1, 64, 8, 128, 128)
MOST_MEMORY = 1.5
"""What a convolution in bfloat16 may take, times what it takes in float32. Half of it is usual."""
_WINDOW = 24


def large_row(device: str, dtype: str) -> Row:
    """conv3d on such a clip; skipped where the GPU has not the memory."""
    needed, free = 5 * 2 * torch.Size(CLIP).numel(), torch.cuda.mem_get_info(device)[0]
    if free < needed:
        told = f"needs {needed / 2**30:.0f} GiB of the GPU's memory, {free / 2**30:.0f} are free"
        return Row(
            part="convolution", device=device, check="conv3d", dtype=dtype, layout="over 2 GiB", verdict="skipped",
            found=told, advice="free some to have it checked",
        )  # fmt: skip
    gap = widest(gap for kernel in ((1, 3, 3), (3, 3, 3)) for gap in window_gaps(CLIP, kernel, device, dtype))
    torch.cuda.empty_cache()
    return measured("convolution", device, "conv3d", gap, LIMITS[dtype], dtype, "over 2 GiB")


def window_gaps(
    shape: tuple[int, ...], kernel: tuple[int, int, int], device: str, dtype: str, layout: str = LAYOUTS[1]
) -> Iterator[Gap]:
    """A convolution of a whole random clip against the truth in windows: at both ends of every axis, and between."""
    name = "x".join(map(str, kernel))
    generator = torch.Generator(device).manual_seed(0)
    try:
        clip = laid(torch.randn(shape, generator=generator, device=device, dtype=getattr(torch, dtype)), layout)
        weight, bias = (
            torch.randn(size, generator=generator, device=device, dtype=clip.dtype) for size in _shapes(shape, kernel)
        )
        output = F.conv3d(clip, weight, bias)
    except Exception as error:
        yield Gap(float("inf"), f"{name}: {raised(error)}")
        return
    for place in product(*map(_starts, output.shape[2:], kernel)):
        cut = [slice(start, start + length) for start, length in place]
        seen = [slice(start, start + length + taps - 1) for (start, length), taps in zip(place, kernel, strict=True)]
        true = _true(clip[:, :, *seen], weight, bias)
        yield Gap(
            off_by(output[:, :, *cut], true), f"{name} at frame {cut[0].start}, pixel {[c.start for c in cut[1:]]}"
        )


def _shapes(shape: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (shape[1], shape[1], *kernel), (shape[1],)


def _starts(side: int, taps: int) -> list[tuple[int, int]]:
    """Where windows of an axis begin, and their length."""
    length = min(side, 1 if taps == 1 else _WINDOW)
    return [(start, length) for start in sorted({0, (side - length) // 2, side - length})]


def _true(clip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    ones, zeros = (1, 1, 1), (0, 0, 0)
    clip, weight, bias = (tensor.cpu().double() for tensor in (clip, weight, bias))
    return reference.convolution(clip, weight, bias, ones, zeros, ones)


def memory_row(device: str) -> Row:
    """What conv3d takes in bfloat16 against float32; no fault of the results, but plans of memory then do not hold."""
    with exact(device):
        half, full = (_peak(device, dtype) for dtype in (torch.bfloat16, torch.float32))
    gap = Gap(half / full, f"{half / 2**20:.0f} MiB in bfloat16, {full / 2**20:.0f} in float32")
    row = measured("convolution", device, "conv3d", gap, MOST_MEMORY, "bfloat16", "memory")
    if row.verdict == "fit":
        return row
    told = "run in float32, give --memory less than there is, or install another release of torch or cuDNN"
    return row.model_copy(update={"verdict": "hint", "advice": told})


def _peak(device: str, dtype: torch.dtype) -> int:
    """Bytes above those before."""
    channels = MEMORY_CLIP[1]
    clip = laid(torch.zeros(MEMORY_CLIP, device=device, dtype=dtype), LAYOUTS[1])
    weight = laid(torch.zeros((channels, channels, 3, 3, 3), device=device, dtype=dtype), LAYOUTS[1])
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    F.conv3d(clip, weight)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
