"""What the core carries for models with a draw inside and with a content image beside the clip."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from vvae import FrameLayerSpec, Signal, VideoError, WholeClip
from vvae.arch import iv_vae
from vvae.context import WHOLE_CLIP, Context
from vvae.layers import Layer


class Noisy(Layer):
    """Adds the noise that was drawn for it; without any, nothing."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        noise = ctx.draw(self)
        return x if noise is None else x + noise


class NoisySpec(FrameLayerSpec):
    """A draw in the middle."""

    kind: Literal["tests.carries.noisy"] = "tests.carries.noisy"

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> nn.Module:
        return Noisy()

    def draws(self, signal: Signal) -> dict[str, Signal]:
        return {"": signal}


class ReadsContent(nn.Module):
    """Adds a content image to every frame."""

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        return x + ctx.content["image"]


def test_draws_inside_are_the_callers_noise_by_path() -> None:
    spec = iv_vae(width=2, latent_channels=2, blocks=1).replace_at("encoder.level2.block0.act_b", NoisySpec())
    model, x = spec.build().double(), torch.rand(2, 3, 9, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        mode = model.encode(x).mean
        assert torch.equal(model.encode(x).mean, mode)
        drawn = model.draw(x, torch.Generator().manual_seed(3))
        assert {path: tuple(noise.shape) for path, noise in drawn.items()} == {
            "encoder.level2.block0.act_b": (2, 16, 5, 4, 6)
        }
        given = model.encode(x, noise=drawn).mean
        assert not torch.equal(given, mode)
        assert torch.equal(model.encode(x, torch.Generator().manual_seed(3)).mean, given)
        assert not torch.equal(model.encode(x, torch.Generator().manual_seed(4)).mean, given)
    for wrong in ({"encoder.foo": next(iter(drawn.values()))}, {path: noise[:1] for path, noise in drawn.items()}, {}):
        with pytest.raises(VideoError, match="noise is wanted"):
            model.encode(x, noise=wrong)


def test_content_reaches_layers_by_name() -> None:
    x, image = torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 2, 1, 4, 4)
    assert torch.equal(ReadsContent()(x, WholeClip(content={"image": image})), torch.ones_like(x))
