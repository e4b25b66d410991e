"""Muon: updates with equal singular values, of a known size."""

import pytest
import torch

from vvae.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonal_levels_the_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_orthogonal_keeps_the_directions():
    matrix = torch.diag(torch.tensor([3.0, -2.0, 1.0]))
    result = orthogonal(matrix)
    assert (result.diagonal().sign() == matrix.diagonal().sign()).all()
    assert (result - torch.diag(result.diagonal())).abs().max() < 0.05


def test_muon_goes_downhill_at_the_stated_size():
    weight = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    optimizer = Muon([weight], rate=0.1)
    target = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    ((weight - target) ** 2).sum().backward()
    optimizer.step()
    assert ((weight - target) ** 2).sum() < (target**2).sum()
    size = weight.detach().square().mean().sqrt() / 0.1
    assert 0.1 < size < 0.3


def test_muon_leaves_rows_without_gradient_alone():
    weight = torch.nn.Parameter(torch.ones(6, 9))
    optimizer = Muon([weight], rate=0.1)
    weight[:3].square().sum().backward()
    optimizer.step()
    assert (weight[3:] == 1).all()
    assert (weight[:3] != 1).any()
