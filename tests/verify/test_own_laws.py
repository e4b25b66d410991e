"""The laws of what only layers of this library have: each rejects a layer that breaks it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.verify.breakers import SIGNAL, Idle, Sound, SoundSpec, Trained
from vvae import SpecError, verify
from vvae.context import Context
from vvae.layers import DepthToSpace, PosteriorDraw, SpaceToDepth
from vvae.scaling import ClipNorm
from vvae.verify import LawError, layer_subject


@pytest.mark.parametrize("made", [Sound, Trained])
def test_modes_law_rejects_what_training_changes(made: type[Sound]) -> None:
    found = list(verify.verify(layer_subject(SoundSpec(made=made.__name__), SIGNAL)))
    assert [f.law for f in found if f.verdict == "violated"] == ["modes"] * (made is Trained)


class Replacing(Idle):
    """Writes into the clip where no gradients are kept."""

    def forward(self, x: Tensor, ctx: Context | None = None) -> Tensor:
        return x.mul_(0.5) if not torch.is_grad_enabled() else 0.5 * x


def test_modes_law_rejects_what_writes_over_the_clip() -> None:
    x = verify.random_clip(SIGNAL, 3, 4, 4)
    with pytest.raises(LawError, match="the clip that went in has been written over"):
        verify.check_modes(Replacing().double(), x, lambda clip: Replacing()(clip))


class ColumnsFirst(DepthToSpace):
    """Takes columns for rows inside of a cell."""

    def forward(self, x: Tensor, ctx: Context | None = None) -> Tensor:
        swapped = x.unflatten(1, (-1, self.factor, self.factor)).transpose(2, 3)
        return super().forward(swapped.flatten(1, 3))


def test_undone_law_rejects_an_inverse_that_is_none() -> None:
    x = verify.random_clip(SIGNAL, 3, 4, 4)
    assert verify.check_undone(SpaceToDepth(2), DepthToSpace(2), x) == 0.0
    with pytest.raises(LawError, match="undone: the clip that comes back"):
        verify.check_undone(SpaceToDepth(2), ColumnsFirst(2), x)


class Loud(PosteriorDraw):
    """Takes logvar for the logarithm of the deviation."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        mean, logvar = x.chunk(2, 1)
        return super().run(torch.cat([mean, 2 * logvar], 1), ctx)


class Drawing(nn.Module):
    """Draws by itself."""

    def forward(self, x: Tensor, ctx: Context | None = None) -> Tensor:
        mean, logvar = x.chunk(2, 1)
        return mean + torch.exp(logvar / 2) * torch.randn_like(mean)


def test_noise_law_rejects_another_deviation_and_own_noise() -> None:
    x = verify.random_clip(SIGNAL, 3, 4, 4)
    verify.check_draw(PosteriorDraw(), x, None)
    with pytest.raises(LawError, match="noise: with noise"):
        verify.check_draw(Loud(), x, None)
    with pytest.raises(LawError, match="noise: without noise"):
        verify.check_draw(Drawing(), x, None)


class OfTheClip(ClipNorm):
    """Of all pieces together."""

    def normalize(self, latents: Tensor) -> Tensor:
        return ClipNorm(eps=self.eps).normalize(latents)


class Undone(ClipNorm):
    def restore(self, normalized: Tensor) -> Tensor:
        return normalized


def test_scaling_law_rejects_a_norm_of_other_pieces_and_one_that_is_undone() -> None:
    z = verify.random_clip(SIGNAL, 5, 4, 4)
    verify.check_scaling(ClipNorm(piece=2), z)
    with pytest.raises(SpecError, match="no inverse"):
        ClipNorm().restore(z)
    with pytest.raises(LawError, match="scaling: normalized latents"):
        verify.check_scaling(OfTheClip(piece=2), z)
    with pytest.raises(LawError, match="was undone"):
        verify.check_scaling(Undone(piece=2), z)
