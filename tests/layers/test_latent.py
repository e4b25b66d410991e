"""Draws and scalings of latents inside a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvae import verify
from vvae.context import WholeClip
from vvae.framing import Fit
from vvae.gaussian import PosteriorSpec
from vvae.layers import PosteriorDraw, ShiftScale
from vvae.signal import Signal

LIMITS = (-30.0, 20.0)


def moments(scale: float = 1.0) -> Tensor:
    return scale * verify.random_clip(Signal(4), 3, 5, 6, batch=2)


def drawn(layer: PosteriorDraw, x: Tensor, noise: Tensor) -> Tensor:
    z: Tensor = layer(x, WholeClip(names={layer: "draw"}, noise={"draw": noise}))
    return z


@pytest.mark.parametrize("limits", [LIMITS, None])
def test_a_draw_is_that_of_the_posterior(limits: tuple[float, float] | None) -> None:
    noise = verify.random_clip(Signal(2), 3, 5, 6, batch=2, seed=1)
    for x in (moments(), moments(20.0)):  # beyond the limits too
        posterior = PosteriorSpec(limits=limits).posterior(x, Fit(3, 5, 6))
        assert torch.equal(drawn(PosteriorDraw(limits), x, noise), posterior.sample(noise=noise))


def test_without_noise_it_is_the_mode() -> None:
    assert torch.equal(PosteriorDraw(LIMITS)(moments()), moments()[:, :2])


def test_in_lower_precision_the_deviation_is_still_exact() -> None:
    x, noise = moments(4.0).bfloat16(), torch.ones(2, 2, 3, 5, 6)
    found = drawn(PosteriorDraw(LIMITS), x, noise)
    assert found.dtype == torch.bfloat16
    assert verify.difference(found.float(), drawn(PosteriorDraw(LIMITS), x.double(), noise.double())) <= 2e-2


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 0.18215), (0.0609, 1.5305)])
def test_shift_and_scale_are_undone(shift: float, scale: float) -> None:
    x = moments()
    there = ShiftScale(shift, scale)(x)
    assert verify.difference(there, (x - shift) * scale) <= 1e-15
    assert verify.difference(ShiftScale(-shift * scale, 1 / scale)(there), x) <= 1e-14
