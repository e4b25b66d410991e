"""Where a model starts: as the floor, with no branch that cannot learn."""

import pytest
import torch

from tests.evaluation.test_floor import smooth_clips
from vvae.evaluation import floor
from vvae.models.small import vvae_small
from vvae.training import start


@pytest.fixture(scope="module")
def fitted():
    return floor.fit([smooth_clips()])


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
