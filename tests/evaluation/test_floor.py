"""The floor: the best linear code of its material."""

import pytest
import torch

from vvae.errors import VvaeError
from vvae.evaluation import floor

GENERATOR_SEED = 3


def smooth_clips(count: int = 6) -> torch.Tensor:
    """Clips `n 3 9 32 32` whose neighbours are alike, in [-1, 1]."""
    noise = torch.randn(count, 3, 5, 10, 10, generator=torch.Generator().manual_seed(GENERATOR_SEED))
    clips = torch.nn.functional.interpolate(noise, (9, 32, 32), mode="trilinear")
    return (clips / clips.abs().max()).contiguous()


@pytest.fixture(scope="module")
def fitted():
    return floor.fit([smooth_clips()])


def test_blocks_come_back():
    video = torch.randn(2, 3, 8, 16, 24)
    assert torch.equal(floor.from_blocks(floor.to_blocks(video, 4), 4), video)


@pytest.mark.parametrize("part", ["lead", "group"])
def test_components_are_orthonormal(fitted, part):
    basis = getattr(fitted, part).basis.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16), atol=1e-5, rtol=0)


def test_floor_is_a_projection(fitted):
    once = fitted.decode(fitted.encode(smooth_clips()))
    torch.testing.assert_close(fitted.decode(fitted.encode(once)), once, atol=1e-5, rtol=0)


def test_latents_have_unit_variance_over_the_material(fitted):
    latents = fitted.group.encode(smooth_clips()[:, :, :8])
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4)), torch.ones(16), atol=2e-2, rtol=0)


def test_no_other_linear_code_is_better(fitted):
    clips = smooth_clips()[:, :, :8]
    other = torch.linalg.qr(torch.randn(768, 16, generator=torch.Generator().manual_seed(0)))[0].T
    rotated = fitted.group.basis.flatten(1) + 0.05 * other
    rotated = torch.linalg.qr(rotated.T)[0].T.reshape(fitted.group.basis.shape)
    worse = floor.Components(fitted.group.mean, rotated, fitted.group.scale)
    best_error = (fitted.group.decode(fitted.group.encode(clips)) - clips).square().mean()
    assert best_error < (worse.decode(worse.encode(clips)) - clips).square().mean()


def test_floor_of_clips_is_the_same_one_by_one_and_at_once(fitted):
    again = floor.fit(smooth_clips().split(1))
    for part in ("lead", "group"):
        one, other = getattr(fitted, part), getattr(again, part)
        torch.testing.assert_close(one.mean, other.mean, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.scale, other.scale, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.basis, other.basis, atol=1e-5, rtol=0)


def test_floor_of_single_frames_takes_groups_that_stand_still():
    frames = smooth_clips()[:, :, :1]
    fitted = floor.fit([frames])
    still = fitted.group.decode(fitted.group.encode(frames.expand(-1, -1, 4, -1, -1)))
    torch.testing.assert_close(still[:, :, 3:], fitted.lead.decode(fitted.lead.encode(frames)), atol=1e-5, rtol=0)


def test_no_floor_is_fitted_to_nothing():
    with pytest.raises(VvaeError, match="a covariance of 0 vectors; it takes 1 or more"):
        floor.fit([])
