"""Work that is saved changes no value."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vvae import verify
from vvae.cost import flops
from vvae.layers import SpatialAverage, SpatialRepeat, SpatialUpsample


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_upsample_is_a_convolution_of_repeated_cells(kernel: int, factor: int, bias: bool) -> None:
    layer = SpatialUpsample(3, 5, kernel, factor=factor).double()
    if not bias:
        layer.bias = None
    x = torch.randn(2, 3, 2, 4, 6, dtype=torch.float64)
    for frame in range(2):
        repeated = x[:, :, frame].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        plain = F.conv2d(repeated, layer.weight, layer.bias, padding=kernel // 2)
        assert verify.difference(layer(x)[:, :, frame], plain) <= 1e-12


def test_upsample_does_four_ninths_of_the_work() -> None:
    layer, height, width = SpatialUpsample(8, 8), 16, 24
    x = torch.zeros(1, 8, 3, height, width)
    plain = 2 * 3 * (2 * height) * (2 * width) * 9 * 8 * 8
    border = (height + 1) * (width + 1) / (height * width)
    convolved = flops(lambda: F.conv2d(torch.zeros(3, 8, height, width), torch.zeros(32, 8, 2, 2), padding=1))["Global"]
    assert convolved == pytest.approx(plain * 4 / 9 * border)
    folding = 2 * 8 * 8 * (4 * 9 + 8 * 9) * 2  # of the kernel: a few taps, whatever the clip's size
    assert flops(lambda: layer(x))["Global"] <= convolved + folding


@torch.no_grad()
def test_average_undoes_repetition_and_drops_what_is_left_over() -> None:
    x = torch.randn(2, 3, 2, 4, 6, dtype=torch.float64)
    repeated = SpatialRepeat(3)(x)
    assert torch.equal(repeated[:, :, :, 1::3, 2::3], x)
    assert verify.difference(SpatialAverage(3)(repeated), x) <= 1e-15
    left_over = F.pad(repeated, (0, 2, 0, 1), value=100.0)
    assert verify.difference(SpatialAverage(3)(left_over), x) <= 1e-15
