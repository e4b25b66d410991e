"""The floor: the best linear code of its material, and where a model starts."""

import pytest
import torch

from vvae.models.small import vvae_small
from vvae.training import floor, start

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


def test_model_starts_as_the_floor(fitted):
    model = vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=2).build()
    start.start_from(model, fitted)
    clips = smooth_clips(2)
    with torch.no_grad():
        posterior = model.encode(clips)
        torch.testing.assert_close(posterior.mean, fitted.encode(clips), atol=1e-4, rtol=0)
        assert (posterior.logvar == start.LOG_VARIANCE).all()
        torch.testing.assert_close(model.decode(posterior), fitted.decode(fitted.encode(clips)), atol=1e-4, rtol=0)


def test_start_leaves_no_branch_without_gradient(fitted):
    model = vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=1).build()
    start.start_from(model, fitted)
    clips = smooth_clips(1)
    (model.decode(model.encode(clips)) - clips).square().mean().backward()
    for name in ("encoder.sum.leave.weight", "decoder.sum.leave.groups.weight", "decoder.sum.leave.on_lead.weight"):
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None
        if name.startswith("decoder"):
            assert gradient.abs().sum() > 0
        else:
            assert gradient[:16].abs().sum() > 0
            assert gradient[16:].abs().sum() == 0  # logvar stays constant
