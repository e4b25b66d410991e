from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vvae.video import psnr, ssim


def pictures(seed: int, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips `1 3 t 24 32` of 8 bit values in [-1, 1] that resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(20, 236, (1, 3, frames, 24, 32), generator=generator)
    b = a + torch.randint(-20, 21, a.shape, generator=generator)
    return a / 127.5 - 1, b / 127.5 - 1


def bytes_of(x: torch.Tensor) -> torch.Tensor:
    return ((x + 1) * 127.5).round().to(torch.uint8)


@pytest.mark.parametrize("error", [0.01, 0.1, 1.0])
def test_psnr_of_a_constant_error_is_known(error: float) -> None:
    source = torch.full((2, 3, 4, 8, 8), -0.5)
    found = psnr(source, source + error)
    assert found.shape == (2, 4)
    assert torch.allclose(found, torch.tensor(20 * math.log10(2 / error)), atol=1e-4)


def test_psnr_agrees_with_scikit_image_on_bytes() -> None:
    source, result = pictures(0)
    for t, found in enumerate(psnr(source, result)[0]):
        a, b = (bytes_of(x)[0, :, t].numpy() for x in (source, result))
        assert found.item() == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-3)


def test_ssim_agrees_with_scikit_image() -> None:
    source, result = pictures(1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for t, found in enumerate(ssim(source, result)[0]):
        a, b = (((x + 1) / 2)[0, :, t].numpy() for x in (source, result))
        # Not closer: scikit-image leaves the border of half a window out, torchmetrics mirrors the frame there.
        assert found.item() == pytest.approx(structural_similarity(a, b, channel_axis=0, **options), abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_each_frame_counts_for_itself(metric: type(psnr)) -> None:
    source, result = pictures(2, frames=4)
    order = [2, 0, 3, 1]
    found = metric(source, result)
    assert found.unique().numel() == 4
    assert torch.allclose(metric(source[:, :, order], result[:, :, order]), found[:, order], atol=1e-6)


def test_equal_frames_give_the_best_figures() -> None:
    source, _ = pictures(3)
    assert torch.equal(psnr(source, source), torch.full((1, 3), 100.0))
    assert torch.allclose(ssim(source, source), torch.ones(1, 3))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_values_beyond_the_range_count_as_clamped(metric: type(psnr)) -> None:
    source, result = pictures(4)
    assert torch.equal(metric(source, 2 * result), metric(source, (2 * result).clamp(-1, 1)))
    assert not torch.equal(metric(source, 2 * result), metric(source, result))
