"""The posterior and the scaling of latents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from vvae import Affine, ClipNorm, DiagonalGaussian, Fit, PosteriorSpec, SpecError, VideoError, verify

SHAPE = (2, 3, 2, 2, 4)
FIT = Fit(5, 16, 32)


def gaussian(seed: int = 0) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    return DiagonalGaussian(mean, logvar, FIT)


def reference(posterior: DiagonalGaussian) -> Independent:
    return Independent(Normal(posterior.mean, torch.exp(0.5 * posterior.logvar)), 4)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_kl_and_nll_are_those_of_torch(a: int, b: int) -> None:
    p, q = gaussian(a), gaussian(b + 2000)
    standard = Independent(Normal(torch.zeros(SHAPE).double(), torch.ones(SHAPE).double()), 4)
    torch.testing.assert_close(p.kl(), kl_divergence(reference(p), standard))
    torch.testing.assert_close(p.kl(q), kl_divergence(reference(p), reference(q)))
    torch.testing.assert_close(p.nll(q.mean), -reference(p).log_prob(q.mean))
    verify.check_kl(p)


def test_sample_is_mean_plus_std_times_noise() -> None:
    p, noise = gaussian(), torch.randn(SHAPE, dtype=torch.float64)
    assert torch.equal(p.sample(noise=noise), p.mean + torch.exp(0.5 * p.logvar) * noise)
    again = [p.sample(torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], p.sample(torch.Generator().manual_seed(8)))
    assert torch.equal(p.mode(), p.mean)


def test_limits_of_logvar_hold_in_the_moments_or_in_the_sample_alone() -> None:
    moments = torch.full((1, 2, 1, 1, 1), 50.0)
    free = PosteriorSpec().posterior(moments, FIT)
    clamped = PosteriorSpec(limits=(-30.0, 20.0)).posterior(moments, FIT)
    late = PosteriorSpec(limits=(-30.0, 20.0), limits_of="sample").posterior(moments, FIT)
    assert (free.logvar.item(), clamped.logvar.item(), late.logvar.item()) == (50, 20, 50)
    assert late.std == clamped.std < free.std


def test_half_precision_moments_become_float32() -> None:
    posterior = PosteriorSpec().posterior(torch.zeros(1, 4, 1, 1, 1, dtype=torch.bfloat16), FIT)
    assert posterior.mean.dtype == torch.float32
    assert posterior.fit == FIT


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_affine_scaling_is_undone(shift: float, scale: float) -> None:
    z = gaussian().mean
    for scaling in (Affine(shift=shift, scale=scale), Affine(shift=(shift,) * 3, scale=(scale, 1.0, 2 * scale))):
        torch.testing.assert_close(scaling.restore(scaling.normalize(z)), z)
    assert torch.equal(Affine(shift=shift, scale=scale).normalize(z), (z - shift) * scale)


def test_scaling_per_channel_must_fit_the_latents() -> None:
    with pytest.raises(SpecError, match="2 numbers for 3 latent channels"):
        Affine(shift=(0.0, 1.0)).check(3)


def test_clip_norm_makes_a_piece_zero_mean_and_unit_size_and_cannot_be_undone() -> None:
    z = 5 * gaussian().mean + 3
    y = ClipNorm(eps=0.0).normalize(z)
    torch.testing.assert_close(y.mean((1, 2, 3, 4)), torch.zeros(2).double())
    torch.testing.assert_close(y.var((1, 2, 3, 4), correction=0), torch.ones(2).double())
    torch.testing.assert_close(y[1:], ClipNorm(eps=0.0).normalize(z[1:]))
    with pytest.raises(SpecError, match="no inverse"):
        ClipNorm().restore(y)


def test_noise_of_another_shape_is_refused() -> None:
    posterior = gaussian()
    with pytest.raises(VideoError, match="must be that of the mean"):
        posterior.sample(noise=torch.zeros(SHAPE[1:], dtype=torch.float64))
