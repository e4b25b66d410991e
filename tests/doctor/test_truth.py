"""The truth that kernels are compared with, and the comparison."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vvae.doctor import reference
from vvae.doctor.convolutions import FORMS, Form
from vvae.doctor.truth import LIMITS, gaps, off_by

SMALL = Form("small", (1, 3, 4, 5, 6), 2, (3, 2, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1))


@pytest.mark.parametrize("form", [SMALL, *FORMS["conv2d"][:6], *FORMS["conv3d"][:2], *FORMS["conv3d"][5:9]])
def test_products_of_matrices_are_the_convolution(form: Form) -> None:
    clip, weight, bias = form.inputs().values()
    kernel = F.conv2d if len(form.kernel) == 2 else F.conv3d
    assert off_by(kernel(clip, weight, bias, *form.options), form.true(clip, weight, bias)) < 1e-13


def test_products_of_matrices_are_the_attention() -> None:
    q, k, v = torch.randn(2, 3, 5, 8).double(), torch.randn(2, 3, 7, 8).double(), torch.randn(2, 3, 7, 8).double()
    assert off_by(F.scaled_dot_product_attention(q, k, v), reference.attention(q, k, v)) < 1e-13


@pytest.mark.parametrize(
    ("found", "true", "off"),
    [
        ([2.0, 3.0], [2.0, 4.0], 0.25),
        ([2.0, 5.0], [2.0, 4.0], 0.25),
        ([2.0, -4.0], [2.0, -4.0], 0.0),
        ([2.0, math.nan], [2.0, 4.0], math.inf),
        ([2.0, math.inf], [2.0, 4.0], math.inf),
        ([2.0], [2.0, 4.0], math.inf),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-9], [0.0, 0.0], math.inf),
    ],
)
def test_off_by_is_relative_to_the_largest_and_infinite_for_what_is_no_result(
    found: list[float], true: list[float], off: float
) -> None:
    assert off_by(torch.tensor(found), torch.tensor(true).double()) == off


def as_given(name: str, tensor: Tensor) -> Tensor:
    return tensor


@pytest.mark.parametrize("dtype", LIMITS)
def test_output_and_gradients_are_compared(dtype: str) -> None:
    found = list(gaps(SMALL, dtype, as_given))
    whats = ["output", "gradient of the clip", "gradient of the weight", "gradient of the bias"]
    assert [gap.where for gap in found] == [f"small: {what}" for what in whats]
    assert all(gap.figure <= LIMITS[dtype] for gap in found)


def test_both_halves_are_given_the_same_numbers_and_float32_more_than_they_hold() -> None:
    given: dict[str, list[Tensor]] = {dtype: [] for dtype in LIMITS}
    for dtype, taken in given.items():
        list(gaps(SMALL, dtype, lambda name, tensor, taken=taken: taken.append(tensor.double()) or tensor))  # type: ignore[misc]
    numbers = {dtype: torch.cat([tensor.flatten() for tensor in taken]) for dtype, taken in given.items()}
    assert torch.equal(numbers["bfloat16"], numbers["float16"])
    assert torch.equal(numbers["float32"], numbers["float64"])
    assert not torch.equal(numbers["float32"], numbers["float32"].half().double())


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 10), ("float32", 12), ("bfloat16", 4), ("float16", 6)])
def test_inputs_that_lose_bits_on_their_way_are_noticed(dtype: str, bits: int) -> None:
    """float32 with 10 bits is TF32."""

    def shorter(name: str, tensor: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(tensor.double())
        return torch.ldexp((mantissa * 2 ** (bits + 1)).round() / 2 ** (bits + 1), exponent).to(tensor.dtype)

    assert max(gap.figure for gap in gaps(SMALL, dtype, shorter)) > LIMITS[dtype]


def test_float64_that_is_computed_in_float32_is_noticed() -> None:
    class Narrow(Form):
        def run(self, clip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return super().run(clip.float(), weight.float(), bias.float()).double()

    narrow = Narrow("narrow", (1, 3, 4, 5, 6), 2, (3, 3, 3))
    assert max(gap.figure for gap in gaps(narrow, "float64", as_given)) > LIMITS["float64"]
    assert max(gap.figure for gap in gaps(narrow, "float32", as_given)) <= LIMITS["float32"]
