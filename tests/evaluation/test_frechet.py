from __future__ import annotations

import math

import pytest
import torch

from vvae.errors import VvaeError
from vvae.evaluation import Moments, features_of, frechet_distance


def gaussian(mean: list[float], covariance: torch.Tensor, count: int = 1000) -> Moments:
    """Moments that are exactly these."""
    return Moments(count, torch.tensor(mean, dtype=torch.float64), covariance.double() * (count - 1))


def symmetric(seed: int, size: int) -> torch.Tensor:
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0, 4.0, 9.0], [1.0, 4.0, 9.0]), ([1.0, 4.0, 9.0], [4.0, 1.0, 0.25]), ([2.0, 0, 0], [0, 3.0, 0])]
)
def test_distance_of_independent_gaussians_is_that_of_their_deviations(a: list[float], b: list[float]) -> None:
    one = gaussian([0.0, 1.0, 2.0], torch.diag(torch.tensor(a)))
    two = gaussian([3.0, 1.0, 1.0], torch.diag(torch.tensor(b)))
    expected = 9 + 0 + 1 + sum((math.sqrt(x) - math.sqrt(y)) ** 2 for x, y in zip(a, b, strict=True))
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_distance_of_two_numbers_that_depend_has_the_closed_form(seed: int) -> None:
    """Of 2 x 2 matrices, tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    a, b = symmetric(seed, 2), symmetric(seed + 50, 2)
    assert (a @ b - b @ a).abs().max() > 1e-3, "they must not commute"
    shared = math.sqrt((a @ b).trace() + 2 * math.sqrt(torch.linalg.det(a @ b)))
    expected = 0.25 + (a.trace() + b.trace()).item() - 2 * shared
    assert frechet_distance(gaussian([0.5, 0], a), gaussian([0, 0], b)) == pytest.approx(expected, rel=1e-10)


def test_distance_keeps_under_rotation_and_swap_and_grows_with_scale_squared() -> None:
    a, b = symmetric(1, 5), symmetric(2, 5)
    turn, _ = torch.linalg.qr(symmetric(3, 5))
    zero = [0.0] * 5
    plain = frechet_distance(gaussian(zero, a), gaussian(zero, b))
    assert plain > 0.1
    assert frechet_distance(gaussian(zero, b), gaussian(zero, a)) == pytest.approx(plain, rel=1e-10)
    turned = (gaussian(zero, turn @ x @ turn.T) for x in (a, b))
    assert frechet_distance(*turned) == pytest.approx(plain, rel=1e-10)
    assert frechet_distance(gaussian(zero, 9 * a), gaussian(zero, 9 * b)) == pytest.approx(9 * plain, rel=1e-10)


def test_distance_to_itself_is_zero_even_for_few_vectors() -> None:
    few = Moments.of(torch.randn(4, 30, generator=torch.Generator().manual_seed(0)))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-12 * few.covariance().trace().item())


def test_distance_of_samples_nears_that_of_their_distributions() -> None:
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(50, 3, 2, 4, 4, generator=generator) * s + m for s, m in [(1.0, 0.0), (2.0, 0.5)]]

    def features(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(3)[:, :, 0, :2].flatten(1)  # 6 independent numbers

    many = [torch.cat([x.roll(k, 4).roll(j, 3) for k in range(4) for j in range(4)]) for x in clips]
    found = frechet_distance(*(features_of(x.split(37), features) for x in many))
    assert found == pytest.approx(6 * (0.5**2 + 1.0**2), rel=0.1)


def test_features_do_not_depend_on_how_clips_are_batched() -> None:
    clips = torch.randn(12, 3, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    whole = features_of([clips], lambda x: x.mean(dim=(2, 3)).flatten(1))
    parts = features_of(clips.split(5), lambda x: x.mean(dim=(2, 3)).flatten(1))
    assert torch.allclose(whole.covariance(), parts.covariance(), rtol=1e-6)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (torch.zeros(3, 2), "shape"),
        (torch.zeros(2), "shape"),
        ("text", "a str"),
        (torch.tensor([[math.nan], [0.0]]), "not finite"),
    ],
)
def test_features_that_are_none_are_refused(found: object, told: str) -> None:
    with pytest.raises(VvaeError, match=told):
        features_of([torch.zeros(2, 3, 1, 1, 1)], lambda x: found)


def test_features_of_two_sizes_are_refused() -> None:
    with pytest.raises(VvaeError, match="of 2 and of 3 numbers"):
        frechet_distance(gaussian([0, 0], torch.eye(2)), gaussian([0, 0, 0], torch.eye(3)))
