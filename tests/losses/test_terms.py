"""Laws of the plain terms; their published values: test_parity.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian
from vvae.losses import (
    identity,
    kl_map,
    kl_per_clip,
    kl_per_frame,
    l1,
    l2,
    latent_outliers,
    mean_by_position,
    mean_over_frames,
    nll_map,
    pixel_outliers,
    temporal_difference,
    vector_outliers,
    wavelet_detail,
)


def clip(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B = clip(2, 3, 4, 6, 8), clip(2, 3, 4, 6, 8, seed=1)


@pytest.mark.parametrize("term", [l1, l2, temporal_difference, wavelet_detail, identity])
def test_equal_clips_cost_nothing_and_others_do(term) -> None:
    assert term(A, A) == 0
    assert term(A, B) > 0
    torch.testing.assert_close(term(A, B), term(B, A))


def test_reductions_are_those_of_their_docstrings() -> None:
    error = (A - B).abs()
    torch.testing.assert_close(l1(A, B), error.sum() / A.numel())
    torch.testing.assert_close(l2(A, B), (error**2).sum() / A.numel())
    torch.testing.assert_close(mean_over_frames(error), error.sum() / 8)
    torch.testing.assert_close(mean_over_frames(error.sum(), 8), error.sum() / 8)
    torch.testing.assert_close(identity(A, B), error.sum() / 8)


def test_log_variance_that_fits_best_is_the_log_of_the_mean_error() -> None:
    error = (A - B).abs()
    best = error.mean().log().requires_grad_()
    nll_map(error, best).mean().backward()
    assert best.grad.abs() < 1e-12
    assert nll_map(error, best + 0.1).mean() > nll_map(error, best).mean()


def test_what_stands_still_is_no_flicker() -> None:
    still = clip(2, 3, 1, 6, 8, seed=2).expand_as(A)
    torch.testing.assert_close(temporal_difference(A, B + still), temporal_difference(A, B))
    assert temporal_difference(A, A + still) < 1e-12
    assert temporal_difference(A[:, :, :1], B[:, :, :1]) == 0
    blink = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 4, 1, 1)
    torch.testing.assert_close(temporal_difference(A, A + blink), torch.tensor(1.0, dtype=torch.float64))


def test_details_of_a_frame_are_blind_to_its_brightness() -> None:
    assert wavelet_detail(A, A + 0.5, levels=1) < 1e-12
    bright = clip(2, 3, 4, 3, 4, seed=2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert wavelet_detail(A, A + bright, levels=1) < 1e-12
    assert wavelet_detail(A, A + bright, levels=2) > 0.1


def test_details_are_an_orthonormal_transform() -> None:
    """With the smooth band its energy is the clip's: here by bases of one level written out."""
    error = clip(1, 1, 1, 2, 2)
    bases = torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64) / 2
    want = (bases @ error.flatten()).abs().mean()
    torch.testing.assert_close(wavelet_detail(torch.zeros_like(error), error), want)


def test_a_level_takes_over_the_smooth_band_of_the_one_before() -> None:
    smooth = 2 * torch.nn.functional.avg_pool2d(A.transpose(1, 2).flatten(0, 1), 2).unsqueeze(2)
    zero = torch.zeros((), dtype=torch.float64)
    levels = wavelet_detail(zero.expand_as(A), A), wavelet_detail(zero.expand_as(smooth), smooth)
    torch.testing.assert_close(wavelet_detail(zero.expand_as(A), A, 2), sum(levels) / 2)


def test_odd_sides_are_filled_by_copies() -> None:
    odd = A[..., :5, :7]
    filled = torch.cat([odd, odd[..., -1:]], 4)
    filled = torch.cat([filled, filled[..., -1:, :]], 3)
    zero = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(
        wavelet_detail(zero.expand_as(odd), odd, 2), wavelet_detail(zero.expand_as(filled), filled, 2)
    )


def test_divergence_is_the_sum_of_its_map() -> None:
    posterior = DiagonalGaussian(A, B, Fit(4, 6, 8))
    torch.testing.assert_close(kl_map(posterior).flatten(1).sum(1), posterior.kl())
    torch.testing.assert_close(kl_per_clip(posterior), posterior.kl().sum() / 2)
    torch.testing.assert_close(kl_per_frame(posterior, 17), posterior.kl().sum() / 17)


@pytest.mark.parametrize("penalty", [pixel_outliers, latent_outliers, vector_outliers])
def test_only_what_lies_far_out_is_punished(penalty) -> None:
    calm = A.clamp(-1, 1)
    assert penalty(calm) == 0
    wild = calm.clone()
    wild[0, 0, 0, 0, 0] = 50
    wild.requires_grad_()
    penalty(wild).backward()
    assert wild.grad[0, 0, 0, 0, 0] > 0
    assert (wild.grad[:, :, 1:] == 0).all()
    assert (wild.grad[1] == 0).all()


def test_outliers_below_count_for_latents_alone() -> None:
    dark = A.clamp(-1, 1)
    dark[0, 0, 0, 0, 0] = -50
    assert pixel_outliers(dark) == 0
    assert latent_outliers(dark) > 0
    assert vector_outliers(dark) > 0


def test_vectors_far_out_need_no_channel_far_out() -> None:
    """Channels that lie out together at one position: each by less than the radius, all of them by more."""
    z = torch.zeros(1, 16, 1, 8, 8, dtype=torch.float64)
    z[..., ::2] = 1.0
    z[:, :, 0, 0, 0] = 3.0
    lengths = (z - z.mean((3, 4), keepdim=True)).norm(dim=1)
    spread = z.std((3, 4), correction=0).norm(dim=1)
    want = torch.relu(lengths - 3.0 * spread[..., None, None]).mean()
    torch.testing.assert_close(vector_outliers(z), want)
    assert vector_outliers(z) > 0


@pytest.mark.parametrize("penalty", [pixel_outliers, latent_outliers, vector_outliers])
def test_a_frame_of_one_value_has_a_gradient(penalty) -> None:
    flat = torch.zeros(1, 2, 1, 4, 4, requires_grad=True)
    penalty(flat).backward()
    assert torch.isfinite(flat.grad).all()


def test_frames_count_by_their_place_in_the_group() -> None:
    values = torch.zeros(1, 3, 7, 2, 2)
    assert mean_by_position(values + 2, (3, 1, 1)) == 2
    for place, weight in enumerate((1, 3, 1, 2, 3, 1, 2)):
        one = values.clone()
        one[:, :, place] = 1
        assert mean_by_position(one, (3, 1, 2)) == pytest.approx(weight / 13)
        assert l1(one, values, (3, 1, 2)) == mean_by_position(one, (3, 1, 2))
    assert mean_by_position(values[:, :, :1] + 1, (3, 1)) == 1
