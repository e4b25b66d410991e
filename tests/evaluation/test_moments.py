from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vvae.errors import VvaeError
from vvae.evaluation import Moments


def vectors(seed: int, count: int = 60, size: int = 3, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixed + offset


@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_moments_of_parts_are_those_of_the_whole(lengths: list[int], seed: int) -> None:
    whole = vectors(seed, sum(lengths) + 2)
    merged = Moments.none(3)
    for part in whole.split([*lengths, 2]):
        merged = merged.merged(Moments.of(part))
    assert merged.count == len(whole)
    assert torch.allclose(merged.mean, whole.mean(0), rtol=1e-12, atol=1e-13)
    assert torch.allclose(merged.covariance(), whole.T.cov(), rtol=1e-11, atol=1e-12)
    assert torch.allclose(merged.covariance(unbiased=False), whole.T.cov(correction=0), rtol=1e-11, atol=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    """A sum of squares less the square of the sum would lose all of them."""
    near, far = vectors(1), vectors(1, offset=1e8)
    merged = Moments.none(3)
    for part in far.split(7):
        merged = merged.merged(Moments.of(part))
    assert torch.allclose(merged.covariance(), near.T.cov(), rtol=1e-6)


def test_fewer_than_two_vectors_have_no_covariance() -> None:
    with pytest.raises(VvaeError, match="2 or more"):
        Moments.of(vectors(2, 1)).covariance()


def test_one_vector_alone_does_not_vary() -> None:
    assert torch.equal(Moments.of(vectors(2, 1)).covariance(unbiased=False), torch.zeros(3, 3, dtype=torch.float64))
    with pytest.raises(VvaeError, match="1 or more"):
        Moments.none(3).covariance(unbiased=False)
