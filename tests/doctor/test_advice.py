"""What is told to do, by what was found and which versions are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vvae.doctor import machine
from vvae.doctor.advice import advised
from vvae.doctor.machine import bfloat16_row, cores, cudnn_version, pages_row, threads_row
from vvae.doctor.row import Row, Verdict

VERSIONS = {"torch": "2.9.1+cu128", "cuDNN": "9.10.2", "oneDNN": "3.7.1"}


def row(dtype: str, layout: str = "", verdict: Verdict = "fit", device: str = "cuda:0", **more: str) -> Row:
    return Row(
        part="convolution", device=device, check="conv3d", dtype=dtype, layout=layout, verdict=verdict, **more
    )  # fmt: skip


def advice(*rows: Row, **versions: str) -> str:
    """For the first of them."""
    return advised(rows, {**VERSIONS, **versions})[0].advice


WRONG = row("bfloat16", "channels last", "unfit")


def test_a_known_defect_is_named_with_the_version_that_is_here() -> None:
    assert advice(WRONG).startswith("cuDNN 9.10.2 is known for wrong conv3d of large clips; install 9.15 or later")


@pytest.mark.parametrize(
    "other",
    [{"cuDNN": "9.13.0"}, {"cuDNN": "9.7.1"}, {"cuDNN": "8.9.2"}],
    ids=str,
)
def test_other_versions_are_not_accused(other: dict[str, str]) -> None:
    assert "known" not in advice(WRONG, **other)


def test_a_defect_is_told_of_its_own_device_dtype_and_library_only() -> None:
    column = "3x3x3 with stride 2 to one column: output"
    on_cpu = row("bfloat16", "contiguous", "unfit", device="cpu", found=column)
    assert "oneDNN 3.12.0 is known" in advice(on_cpu, oneDNN="3.12.0")
    others = [
        on_cpu.model_copy(update=change)
        for change in ({"found": "3x3x3: output"}, {"dtype": "float32"}, {"check": "conv2d"}, {"device": "mps"})
    ]
    assert ["known" in advice(other, oneDNN="3.12.0") for other in others] == [False] * 4
    assert "known" not in advice(on_cpu)


def test_a_defect_of_memory_stands_beside_the_hint_about_memory_alone() -> None:
    hint = row("bfloat16", "memory", "hint", advice="run in float32")
    told = "torch 2.9.1+cu128 is known for a conv3d of several times the memory in bfloat16"
    assert told in advice(hint)
    assert advice(hint).endswith("; run in float32")
    assert told not in advice(WRONG)


def test_what_was_right_beside_it_is_told() -> None:
    right = [row("float32", layout) for layout in ("contiguous", "channels last")]
    told = advice(WRONG, row("bfloat16", "contiguous"), *right, cuDNN="9.15.0")
    assert told == (
        "keep clips and weights contiguous (right here), or run in float32 (right here), "
        "or install another release of torch (this is 2.9.1+cu128)"
    )


def test_what_was_wrong_beside_it_or_is_elsewhere_is_not_recommended() -> None:
    wrong = [row("float32", "contiguous", "unfit"), row("float32", "channels last")]
    elsewhere = [row("float64", device="cpu"), row("bfloat16", "contiguous", device="cpu")]
    told = advice(WRONG, row("bfloat16", "contiguous", "unfit"), *wrong, *elsewhere, cuDNN="9.15.0")
    assert told == "install another release of torch (this is 2.9.1+cu128)"


def test_a_setting_under_which_it_was_right_is_told() -> None:
    healed = WRONG.model_copy(update={"remedy": "torch.backends.cudnn.enabled = False"})
    assert "set torch.backends.cudnn.enabled = False (right here, but slower)" in advice(healed)


def test_a_gpu_that_torch_is_not_built_for_needs_another_torch() -> None:
    alien = row("float32", "contiguous", "unfit", found="3x3x3: RuntimeError: CUDA error: no kernel image is available")
    assert advice(alien) == "this torch is not built for that GPU; install one that is"


def test_what_is_fit_needs_no_advice_and_what_is_told_already_stays() -> None:
    assert advice(row("float32", "contiguous")) == ""
    told = Row(part="video", device="cpu", check=".mp4", verdict="unfit", advice="write another format")
    assert advice(told) == "write another format"


def test_every_row_that_is_unfit_says_what_to_do() -> None:
    bare = [Row(part=part, device="cpu", check="any", verdict="unfit") for part in ("machine", "attention", "compile")]
    assert all(found.advice for found in advised(bare, {}))


@pytest.mark.parametrize(("number", "told"), [(91002, "9.10.2"), (91500, "9.15.0"), (8902, "8.9.2"), (90100, "9.1.0")])
def test_the_version_of_cudnn_in_words(number: int, told: str) -> None:
    assert cudnn_version(number) == told


@pytest.mark.parametrize(
    ("threads", "count", "told"), [(4, 4, ""), (64, 4, "set OMP_NUM_THREADS=4"), (1, 4, "unset OMP_NUM_THREADS")]
)
def test_threads_and_cores(threads: int, count: int, told: str) -> None:
    found = threads_row(threads, count)
    assert found.verdict == ("hint" if told else "fit")
    assert found.advice.startswith(told)


@pytest.mark.parametrize(
    ("modes", "asked", "told"),
    [
        ("[always] madvise never", False, ""),
        ("always [madvise] never", True, ""),
        ("always [madvise] never", False, "set THP_MEM_ALLOC_ENABLE=1"),
        ("always madvise [never]", True, "write madvise to"),
    ],
)
def test_large_pages(modes: str, asked: bool, told: str) -> None:
    found = pages_row(modes, asked)
    assert found.verdict == ("hint" if told else "fit")
    assert found.advice.startswith(told)


def test_bfloat16_without_instructions_is_a_hint() -> None:
    assert (bfloat16_row(True).verdict, bfloat16_row(False).verdict) == ("fit", "hint")


@pytest.mark.parametrize(("share", "most"), [("100000 100000", 1), ("150000 100000", 1), ("max 100000", 10**6)])
def test_the_share_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: str, most: int
) -> None:
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "absent")
    whole = cores()
    (tmp_path / "cpu.max").write_text(f"{share}\n")
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    assert cores() == min(whole, most)
