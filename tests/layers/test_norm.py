"""A clip that is normed piece by piece is normed."""

from __future__ import annotations

import pytest
import torch

from vvae import verify
from vvae.layers import ChannelRMSNorm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 6, 2, 40, 33), (2, 6, 3, 5, 300), (1, 6, 1, 1, 1)])
def test_norm_gives_the_same_with_and_without_gradients(size: tuple[int, ...], dtype: torch.dtype) -> None:
    norm = ChannelRMSNorm(6, parts=2, bias=True).to(dtype)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(size, dtype=dtype)
    x[..., :1] = 0  # a pixel without a direction
    whole = norm(x)
    with torch.no_grad():
        pieces = norm(x)
    assert pieces.dtype == dtype
    assert verify.difference(pieces, whole) <= {torch.float64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 0}[dtype]


@torch.no_grad()
def test_norm_of_a_view_is_the_norm_of_its_copy() -> None:
    norm, x = ChannelRMSNorm(4).double(), torch.randn(2, 8, 5, 40, 41, dtype=torch.float64)
    for view in (x[:, 4:, 1:, 3:, :40], x.transpose(3, 4)[:, ::2], x[:, :1].expand(2, 4, 5, 40, 41)):
        assert torch.equal(norm(view), norm(view.clone(memory_format=torch.contiguous_format)))
