"""The doctor notices convolutions and attention that are wrong in one dtype, layout, shape or gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vvae.doctor import attention, convolutions, large
from vvae.doctor.attention import SIGHTS, attention_row
from vvae.doctor.convolutions import FORMS, LAYOUTS, convolution_row, tf32_row
from vvae.doctor.truth import LIMITS

Plant = Callable[[Callable[..., bool], Callable[[Tensor], Tensor]], None]
FEW = ("3x3x3", "3x3x3 of 5 channels", "1x3x3 of a lone frame", "3x3x3 with stride 2 to one column")


@pytest.fixture(autouse=True)
def few_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """conv3d in four forms, attention in four: what costs time says nothing here."""
    kept = {"conv3d": tuple(form for form in FORMS["conv3d"] if form.name in FEW), "conv2d": FORMS["conv2d"][:2]}
    monkeypatch.setattr(convolutions, "FORMS", kept)
    monkeypatch.setattr(attention, "SIGHTS", tuple(s for s in SIGHTS if s.tokens < 100 and s.count < 100))


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """`plant(when, what)` puts `what(result)` in the place of the result of conv3d, where `when(clip, weight)`."""
    conv3d = F.conv3d

    def put(when: Callable[..., bool], what: Callable[[Tensor], Tensor]) -> None:
        def planted(clip: Tensor, weight: Tensor, bias: Tensor, *options: Any) -> Tensor:
            y = conv3d(clip, weight, bias, *options)
            return what(y) if when(clip, weight) else y

        monkeypatch.setattr(F, "conv3d", planted)

    return put


def is_last(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last_3d)


def a_bit_off(y: Tensor) -> Tensor:
    return y * 1.05


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("check", ["conv2d", "conv3d"])
def test_this_torch_convolves_rightly(check: str, dtype: str, layout: str) -> None:
    row = convolution_row(check, "cpu", dtype, layout)
    assert (row.verdict, row.name, row.limit) == ("fit", f"{check} {dtype} {layout}", LIMITS[dtype])
    assert row.figure is not None
    assert 0 < row.figure <= LIMITS[dtype]


def test_wrong_in_one_dtype_and_layout_is_noticed_there_alone(plant: Plant) -> None:
    plant(lambda clip, weight: clip.dtype == torch.bfloat16 and is_last(clip), a_bit_off)
    found = {(d, o): convolution_row("conv3d", "cpu", d, o).verdict for d in LIMITS for o in LAYOUTS}
    assert [key for key, verdict in found.items() if verdict != "fit"] == [("bfloat16", "channels last")]


def test_wrong_where_only_the_clip_has_its_channels_last_is_noticed(plant: Plant) -> None:
    plant(lambda clip, weight: is_last(clip) and not is_last(weight), a_bit_off)
    row = convolution_row("conv3d", "cpu", "float32", "channels last")
    assert (row.verdict, row.found.endswith("(the weight contiguous)")) == ("unfit", True)


@pytest.mark.parametrize(
    ("when", "form"),
    [
        (lambda clip, weight: clip.shape[1] % 8 > 0, "3x3x3 of 5 channels"),
        (lambda clip, weight: clip.shape[2] == 1, "1x3x3 of a lone frame"),
        (lambda clip, weight: clip.shape[4] == 3, "3x3x3 with stride 2 to one column"),
    ],
)
def test_the_form_that_is_wrong_is_named(plant: Plant, when: Callable[..., bool], form: str) -> None:
    plant(when, a_bit_off)
    row = convolution_row("conv3d", "cpu", "bfloat16", "contiguous")
    assert (row.verdict, row.found.partition(":")[0]) == ("unfit", form)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda y: y * torch.nan, "output"),
        (lambda y: y[..., :-1], "output"),
        (lambda y: torch.zeros_like(y) + 0 * y, "output"),
        (lambda y: y.view(-1), "output"),
        (lambda y: y.expand(2, *y.shape[:-1]), "RuntimeError: "),
    ],
    ids=["nan", "column", "zeros", "flat", "raises"],
)
def test_what_is_no_number_or_another_shape_or_an_error_is_unfit(
    plant: Plant, what: Callable[[Tensor], Tensor], told: str
) -> None:
    plant(lambda clip, weight: clip.dtype == torch.float32, what)
    row = convolution_row("conv3d", "cpu", "float32", "contiguous")
    assert row.verdict == "unfit"
    assert told in row.found


class _WrongGradient(torch.autograd.Function):
    """The same forward; backward half of what pulls at the last frame is lost."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, pull: Tensor) -> Tensor:
        lost = pull.clone()
        lost[:, :, -1] /= 2
        return lost


def test_a_wrong_gradient_behind_a_right_output_is_noticed(plant: Plant) -> None:
    plant(lambda clip, weight: True, _WrongGradient.apply)
    row = convolution_row("conv3d", "cpu", "float64", "contiguous")
    assert (row.verdict, "gradient of the" in row.found) == ("unfit", True)


def test_what_is_right_without_the_library_is_told(plant: Plant) -> None:
    plant(lambda clip, weight: torch.backends.mkldnn.enabled, a_bit_off)
    row = convolution_row("conv3d", "cpu", "float32", "contiguous")
    assert (row.verdict, row.remedy) == ("unfit", "torch.backends.mkldnn.enabled = False")
    assert torch.backends.mkldnn.enabled


def test_what_is_wrong_without_the_library_too_has_no_such_remedy(plant: Plant) -> None:
    plant(lambda clip, weight: True, a_bit_off)
    assert convolution_row("conv3d", "cpu", "float32", "contiguous").remedy == ""


def test_float32_that_is_rounded_as_torch_is_set_is_a_hint(plant: Plant) -> None:
    assert tf32_row("cpu").verdict == "fit"
    plant(lambda clip, weight: clip.dtype == torch.float32, lambda y: y.half().float())
    row = tf32_row("cpu")
    assert (row.verdict, "allow_tf32 = False" in row.advice) == ("hint", True)


@pytest.mark.parametrize("what", [a_bit_off, lambda y: y * torch.nan])
def test_float32_that_is_wrong_as_torch_is_set_is_no_hint(plant: Plant, what: Callable[[Tensor], Tensor]) -> None:
    plant(lambda clip, weight: True, what)
    assert tf32_row("cpu").verdict == "unfit"


@pytest.mark.parametrize("dtype", LIMITS)
def test_this_torch_attends_rightly(dtype: str) -> None:
    row = attention_row("cpu", dtype)
    assert (row.verdict, row.name) == ("fit", f"attention {dtype}")


def test_attention_that_is_wrong_in_one_shape_and_dtype_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = F.scaled_dot_product_attention

    def planted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = attend(q, k, v)
        return y * 1.05 if q.dtype == torch.float16 and q.shape[2] != k.shape[2] else y

    monkeypatch.setattr(F, "scaled_dot_product_attention", planted)
    rows = {dtype: attention_row("cpu", dtype) for dtype in LIMITS}
    assert [dtype for dtype, row in rows.items() if row.verdict != "fit"] == ["float16"]
    assert "19 positions" in rows["float16"].found or "3 positions" in rows["float16"].found
    assert rows["float16"].remedy == ""


def test_attention_that_is_right_in_its_plainest_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = F.scaled_dot_product_attention

    def planted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v) * (1.05 if torch.backends.cuda.flash_sdp_enabled() else 1)

    monkeypatch.setattr(F, "scaled_dot_product_attention", planted)
    assert attention_row("cpu", "float32").remedy == "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"


SHAPE = (1, 4, 7, 60, 50)


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("place", [(0, 0, 0), (-1, -1, -1), (-1, 0, -1)])
def test_a_large_clip_is_looked_at_up_to_its_ends(
    plant: Plant, kernel: tuple[int, int, int], place: tuple[int, int, int]
) -> None:
    assert max(gap.figure for gap in large.window_gaps(SHAPE, kernel, "cpu", "bfloat16")) < LIMITS["bfloat16"]

    def broken(y: Tensor) -> Tensor:
        y[:, :, place[0], place[1], place[2]] += 9
        return y

    plant(lambda clip, weight: True, broken)
    assert max(gap.figure for gap in large.window_gaps(SHAPE, kernel, "cpu", "bfloat16")) > LIMITS["bfloat16"]


def test_a_large_clip_without_the_memory_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**34))
    row = large.large_row("cuda:0", "bfloat16")
    assert (row.verdict, "1 are free" in row.found) == ("skipped", True)


@pytest.mark.parametrize(("half", "verdict"), [(2.9, "hint"), (0.5, "fit")])
def test_a_convolution_that_takes_more_memory_in_half_the_bytes_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, half: float, verdict: str
) -> None:
    taken = {torch.bfloat16: int(half * 2**30), torch.float32: 2**30}
    monkeypatch.setattr(large, "_peak", lambda device, dtype: taken[dtype])
    row = large.memory_row("cpu")
    assert (row.verdict, row.figure) == (verdict, pytest.approx(half))
