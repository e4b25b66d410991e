"""The judge: its figures are what their names say."""

import math

import pytest
import torch

from vvae.models.small import vvae_small
from vvae.training.judge import border_ratio, judge


def test_even_error_has_a_border_ratio_of_one():
    assert border_ratio(torch.ones(1, 3, 2, 32, 32)) == 1


def test_border_ratio_finds_errors_at_borders_alone():
    errors = torch.ones(1, 3, 2, 32, 32)
    errors[..., 15] = 2.0
    errors[..., 16] = 2.0
    assert border_ratio(errors) > 1.2
    inside = torch.ones(1, 3, 2, 32, 32)
    inside[..., 12] = 2.0
    assert border_ratio(inside) < 1


class Shifted:
    """A model that gives back its clip, shifted in red, and worse in the third frame of a group."""

    spec = vvae_small(encoder_width=2, decoder_width=2, decoder_blocks=1)

    def encode(self, video):
        return video

    def decode(self, video):
        result = video.clone()
        result[:, 0] += 2 * 3 / 255
        result[:, 1, 3] += 0.1
        return result


def test_judge_measures_colour_positions_and_psnr():
    figures = judge(Shifted(), torch.zeros(2, 3, 5, 16, 16))
    shift = (3 / 255) ** 2 / 3
    assert figures.colour == pytest.approx(3, abs=0.01)
    assert figures.lead == pytest.approx(-10 * math.log10(shift), abs=0.01)
    assert figures.positions[2] == pytest.approx(-10 * math.log10(shift + 0.05**2 / 3), abs=0.01)
    assert figures.spread == pytest.approx(figures.positions[0] - figures.positions[2], abs=1e-6)
    assert figures.psnr == pytest.approx((4 * figures.lead + figures.positions[2]) / 5, abs=0.01)
