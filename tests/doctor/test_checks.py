"""Which checks there are, for which parts and devices. None is run here."""

from __future__ import annotations

import pytest

from vvae.doctor.checks import PARTS, checks
from vvae.doctor.row import Row


def planned(*devices: str, parts: tuple[str, ...] = PARTS) -> list[Row]:
    return [check.blank for check in checks(parts, devices, 60, 120)]  # type: ignore[arg-type]


def names(rows: list[Row], device: str) -> set[str]:
    return {row.name for row in rows if row.device == device}


def test_every_check_stands_once_and_says_what_to_do_if_it_never_ends() -> None:
    rows = planned("cpu", "cuda:0", "cuda:1")
    assert len({(row.device, row.name) for row in rows}) == len(rows)
    assert all(row.verdict == "unfit" for row in rows)
    assert all(row.advice for row in rows if row.part in ("video", "compile"))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_is_that_part(part: str) -> None:
    found = planned("cpu", parts=(part,))
    assert {row.part for row in found} == {part}
    assert found == [row for row in planned("cpu") if row.part == part]


def test_every_dtype_and_layout_is_there() -> None:
    found = names(planned("cpu", parts=("convolution", "attention")), "cpu")
    dtypes = ("float64", "float32", "bfloat16", "float16")
    kernels = {f"{c} {d} {o}" for c in ("conv2d", "conv3d") for d in dtypes for o in ("contiguous", "channels last")}
    assert found == kernels | {f"attention {dtype}" for dtype in dtypes}


def test_a_gpu_has_checks_of_its_own_and_compiles_once_for_all_of_them() -> None:
    rows = planned("cpu", "cuda:0", "cuda:1")
    own = {"conv3d bfloat16 over 2 GiB", "conv3d float16 over 2 GiB", "conv3d bfloat16 memory", "conv3d float32 as set"}
    assert names(rows, "cuda:1") - names(rows, "cpu") == own
    assert names(rows, "cuda:0") - names(rows, "cuda:1") == {"aot_eager", "inductor"}


def test_what_a_device_has_not_is_not_asked_of_it() -> None:
    assert not [name for name in names(planned("mps"), "mps") if "float64" in name]


def test_compiling_has_its_own_limit() -> None:
    limits = {check.blank.part: check.seconds for check in checks(PARTS, ["cpu"], 60, 120)}
    assert limits == {**dict.fromkeys(PARTS, 60), "compile": 120}
