"""Laws of the games; their published values: test_parity.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vvae.losses import LeCamState, adaptive_weight, gradient_penalty, lecam, r1
from vvae.losses.adversarial import DISCRIMINATOR, GENERATOR

GAMES = list(GENERATOR)
REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-0.25, -3.0])


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("game", GAMES)
def test_each_side_gains_where_the_other_loses(game) -> None:
    assert GENERATOR[game](FAKE + 1) < GENERATOR[game](FAKE)
    assert DISCRIMINATOR[game](REAL, FAKE + 1) > DISCRIMINATOR[game](REAL, FAKE)
    assert DISCRIMINATOR[game](REAL - 1, FAKE) > DISCRIMINATOR[game](REAL, FAKE)


def test_hinge_rests_where_logits_are_clear() -> None:
    assert DISCRIMINATOR["hinge"](torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -2.0])) == 0


def test_averages_are_those_of_a_longhand_sum_and_states_stay() -> None:
    start = state = LeCamState(number(0), number(0))
    for step in range(1, 4):
        state = state.after(number(step), number(-2 * step), 0.5)
    assert state.real == 0.5 * 3 + 0.25 * 2 + 0.125 * 1
    assert state.fake == -2 * state.real
    assert start.real == 0


def test_lecam_pulls_logits_to_the_other_average() -> None:
    state = LeCamState(number(0.5), number(-0.5))
    assert lecam(number(-0.5), number(0.5), state) == 0
    assert lecam(number(1.5), number(-1.5), state) == 8


def test_penalties_of_a_plane_are_known() -> None:
    """Logits w x have the slope w everywhere."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert gradient_penalty(x @ w, x) == pytest.approx((5 - 1) ** 2)
    assert r1(x @ w, x) == pytest.approx(25)


@pytest.mark.parametrize("penalty", [gradient_penalty, r1])
def test_penalties_train_the_discriminator(penalty) -> None:
    weight = torch.ones(2, requires_grad=True)
    x = torch.randn(3, 2, requires_grad=True)
    penalty((x * weight).tanh().sum(1), x).backward()
    assert weight.grad.abs().sum() > 0


def test_adaptive_weight_makes_both_gradients_as_long() -> None:
    p = nn.Parameter(torch.randn(4, dtype=torch.float64))
    one, other = (p * torch.arange(4)).sum() * 7, p.square().sum()
    weight = adaptive_weight(one, other, p, epsilon=1e-12)
    lengths = [torch.autograd.grad(term, p)[0].norm() for term in (one, weight * other)]
    torch.testing.assert_close(*lengths)
    assert not weight.requires_grad


def test_adaptive_weight_is_bounded_where_the_game_has_no_gradient() -> None:
    p = nn.Parameter(torch.ones(2))
    assert adaptive_weight(p.sum() * 1e6, p.sum() * 0, p) == 1e4
    assert adaptive_weight(p.sum(), p.sum() * 0, p, largest=3.0) == 3
