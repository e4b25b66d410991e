"""The finished model: the shift and scale of its latents are those of the clips that it was calibrated on."""

import torch

from tests.models.tiny import tiny_model
from vvae.training.loop import _calibrate


def clips(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 5, 24, 24, generator=generator) * 2 - 1 for _ in range(count)]


def test_calibrated_latents_have_mean_0_and_variance_1_over_all_clips() -> None:
    model = tiny_model()
    _calibrate(model, iter(clips(3)), print)
    with torch.no_grad():
        means = [model.encode(clip[None]).mean for clip in clips(3)]
    latents = torch.cat([model.scaling.normalize(mean.double()).flatten(2)[0] for mean in means], 1)
    assert latents.mean(1).abs().max() < 1e-6
    assert (latents.var(1, correction=0) - 1).abs().max() < 1e-6


def test_a_channel_that_learned_nothing_leaves_the_scaling_as_it_was() -> None:
    model, told = tiny_model(), []
    before = model.spec.latent
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    _calibrate(model, iter(clips(1)), told.append)
    assert model.spec.latent == before
    assert "stay those of the spec: a channel of the latents is the same everywhere" in told[0]
