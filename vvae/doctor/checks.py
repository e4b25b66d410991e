"""The checks of a run, in their order: what may crash or hang is told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, get_args

from vvae.doctor.attention import attention_row
from vvae.doctor.codecs import OTHER_FORMAT, codec_row, formats
from vvae.doctor.compiled import BACKENDS, WITHOUT, compiled_row
from vvae.doctor.convolutions import FORMS, LAYOUTS, convolution_row, tf32_row
from vvae.doctor.large import large_row, memory_row
from vvae.doctor.machine import machine_rows
from vvae.doctor.row import Part, Row
from vvae.doctor.truth import dtypes

PARTS: tuple[Part, ...] = get_args(Part)

SLOW = f"{WITHOUT}; if it was only slow, give it longer (--compile-limit)"


class Check(NamedTuple):
    """One step: `blank` names it, for the case that it never ends; `rows` does it, within so many seconds."""

    blank: Row
    rows: Callable[[], Iterable[Row]]
    seconds: float


def checks(parts: Sequence[Part], devices: Sequence[str], seconds: float, compile_seconds: float) -> list[Check]:
    """The parts in the order of the table; every process that is given the same makes the same list."""
    found: list[Check] = []
    if "machine" in parts:
        found.append(Check(_blank("machine", "cpu", "settings"), machine_rows, seconds))
    for device in devices:
        if "convolution" in parts:
            found += _convolutions(device, seconds)
        if "attention" in parts:
            for dtype in dtypes(device):
                blank = _blank("attention", device, "attention", dtype)
                found.append(_check(blank, partial(attention_row, device, dtype), seconds))
    if "video" in parts:
        for suffix in formats():
            blank = _blank("video", "cpu", suffix).model_copy(update={"advice": OTHER_FORMAT})
            found.append(_check(blank, partial(codec_row, suffix), seconds))
    if "compile" in parts:
        for device in _one_of_each(devices):
            for backend in BACKENDS:
                blank = _blank("compile", device, backend).model_copy(update={"advice": SLOW})
                found.append(_check(blank, partial(compiled_row, device, backend), compile_seconds))
    return found


def _convolutions(device: str, seconds: float) -> Iterable[Check]:
    for check in FORMS:
        for dtype in dtypes(device):
            for layout in LAYOUTS:
                run = partial(convolution_row, check, device, dtype, layout)
                yield _check(_blank("convolution", device, check, dtype, layout), run, seconds)
    if device.startswith("cuda"):
        for dtype in ("bfloat16", "float16"):
            blank = _blank("convolution", device, "conv3d", dtype, "over 2 GiB")
            yield _check(blank, partial(large_row, device, dtype), seconds)
        blank = _blank("convolution", device, "conv3d", "bfloat16", "memory")
        yield _check(blank, partial(memory_row, device), seconds)
        yield _check(_blank("convolution", device, "conv3d", "float32", "as set"), partial(tf32_row, device), seconds)


def _one_of_each(devices: Sequence[str]) -> list[str]:
    """The first of every kind: what compiles for one GPU compiles for the others."""
    kinds: dict[str, str] = {}
    for device in devices:
        kinds.setdefault(device.partition(":")[0], device)
    return list(kinds.values())


def _check(blank: Row, row: Callable[[], Row], seconds: float) -> Check:
    return Check(blank, lambda: [row()], seconds)


def _blank(part: Part, device: str, check: str, dtype: str = "", layout: str = "") -> Row:
    return Row(part=part, device=device, check=check, dtype=dtype, layout=layout, verdict="unfit")
