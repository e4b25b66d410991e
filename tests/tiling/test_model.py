"""Models under the rules of releases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vvae import VideoAutoencoder, VideoAutoencoderSpec
from vvae.arch import image_vae, iv_vae, od_vae, reducio, tae
from vvae.arch.image_vae import tiling_rule
from vvae.arch.od_vae import tiling_rule as od_vae_rule
from vvae.arch.reducio import tiling_rule as reducio_rule
from vvae.arch.tae import tiling_rule as tae_rule
from vvae.errors import TileError, VideoError
from vvae.tiling import Compression, Tiles, TilingRule, TimeTiles, compression, published

RULE = tiling_rule(16, 4)


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    """Cells of 4 x 4 pixels."""
    torch.manual_seed(0)
    return image_vae(widths=(4, 4, 8), blocks=1, groups=2, latent_channels=2).build().double().eval()


def clip(*size: int) -> Tensor:
    return torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_a_clip_within_the_limits_passes_whole(model: VideoAutoencoder) -> None:
    x = clip(2, 16, 13)
    tiled, posterior = published(model, RULE), model.encode(x)
    found = tiled.encode(x)
    assert torch.equal(found.mean, posterior.mean)
    assert torch.equal(found.logvar, posterior.logvar)
    assert found.fit == posterior.fit
    assert torch.equal(tiled.decode(found), model.decode(posterior))


@torch.no_grad()
@pytest.mark.parametrize("size", [(17, 16), (24, 40), (33, 21)])
def test_a_big_clip_comes_back_in_its_size_and_is_another_one(model: VideoAutoencoder, size: tuple[int, int]) -> None:
    x, tiled = clip(1, *size), published(model, RULE)
    posterior = tiled.encode(x)
    assert posterior.mean.shape == model.encode(x).mean.shape
    found = tiled.decode(posterior)
    assert found.shape == x.shape
    whole = model(x)
    assert (found - whole).abs().max() > 1e-3 * whole.abs().max()


@torch.no_grad()
def test_what_comes_back_is_laid_into_the_tensor_that_is_given(model: VideoAutoencoder) -> None:
    tiled = published(model, RULE)
    for size in ((24, 40), (33, 21), (8, 8)):
        posterior = tiled.encode(clip(2, *size))
        wanted = tiled.decode(posterior)
        own = torch.zeros_like(wanted)
        assert tiled.decode(posterior, into=own) is own
        assert torch.equal(own, wanted)
        with pytest.raises(TileError, match=r"into holds \(1, 3, 2, 7, 7\), but \(1, 3, 2, "):
            tiled.decode(posterior, into=torch.zeros(1, 3, 2, 7, 7).double())


@torch.no_grad()
def test_sizes_are_floored_filled_or_refused(model: VideoAutoencoder) -> None:
    x, tiled = clip(1, 29, 30), published(model, RULE)
    assert tiled.decode(tiled.encode(x, framing="published")).shape[3:] == (28, 28)
    assert tiled.decode(tiled.encode(x).mode()).shape[3:] == (32, 32)
    assert tiled.decode(tiled.encode(x).mode(), frames=1, size=(5, 7)).shape[2:] == (1, 5, 7)
    with pytest.raises(VideoError, match=r"32, 32"):
        tiled.encode(x, framing="refuse")
    with pytest.raises(VideoError, match="at most"):
        tiled.decode(tiled.encode(x), size=(33, 30))
    with pytest.raises(VideoError, match="nothing is left"):
        tiled.encode(x[..., :26], framing="published")
    with pytest.raises(VideoError, match="b c t h w"):
        tiled.encode(x[0])


@torch.no_grad()
def test_tiles_are_blended_before_logvar_is_limited(model: VideoAutoencoder) -> None:
    x = clip(1, 24, 24)
    limited = model.spec.replace(posterior=model.spec.posterior.replace(limits=(-1e-3, 1e-3))).build().double()
    limited.load_state_dict(model.state_dict())
    free, bound = (published(one, RULE) for one in (model, limited))
    assert torch.equal(bound.moments(x), free.moments(x))
    assert torch.equal(bound.encode(x).logvar, free.encode(x).logvar.clamp(-1e-3, 1e-3))


def test_a_rule_that_joins_unlike_rows_runs_only_as_published(model: VideoAutoencoder) -> None:
    unlike = tiling_rule(16, 4, 0.2)
    with pytest.raises(TileError, match=r"encode: .*; decode: .*as_published=True"):
        published(model, unlike)
    assert published(model, unlike, as_published=True).rule == unlike


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (od_vae(width=4, groups=2), od_vae_rule(32, 4, 0.25, frames=8, positions=3)),
        (od_vae(width=4, groups=2), od_vae_rule(32, 4, 0.125, frames=9, positions=3)),
        (reducio("ft4"), reducio_rule(overlap=0.2)),
        (tae(widths=(8, 8, 8, 8), groups=2), tae_rule(encode=12)),
    ],
    ids=["od_vae_chunks", "od_vae_tiles", "reducio_default", "tae_chunks"],
)
def test_published_sizes_that_join_unlike_rows_are_refused(spec: VideoAutoencoderSpec, rule: TilingRule) -> None:
    with torch.device("meta"):
        model = spec.build()
    with pytest.raises(TileError, match="as_published=True"):
        published(model, rule)


def test_chunks_that_break_groups_run_only_as_published() -> None:
    model = iv_vae(width=2, blocks=1).build()
    wrong = TilingRule(encode=Tiles(time=TimeTiles(window=8, overlap=1, shared=1)))
    with pytest.raises(TileError, match=r"chunks of 8 frames .* groups of 4"):
        published(model, wrong)
    video = published(model, wrong, as_published=True).encode(clip(1, 8, 8).expand(-1, -1, 17, -1, -1).float())
    assert video.mean.shape[2] != model.spec.latent_frames(17)


def test_a_model_says_how_it_compresses() -> None:
    assert compression(image_vae("sd")) == Compression(8, 1, 0)
    assert compression(iv_vae(width=2)) == Compression(8, 4, 1)
    assert compression(iv_vae(width=2), in_time=False) == Compression(8)
    assert compression(tae()) == Compression(8, 8, 0)
    assert compression(reducio(), in_time=False) == Compression(32)


@pytest.mark.parametrize("arch", [image_vae, od_vae, reducio, tae], ids=lambda arch: arch.__name__)
def test_the_rules_of_the_releases_are_aligned(arch: Any) -> None:
    assert arch.tiling
    for rule in arch.tiling.values():
        assert rule.encode.space or rule.encode.time
        assert rule.faults(compression(arch(), in_time=rule.in_time)) == []


@torch.no_grad()
@pytest.mark.parametrize("rule", [tae_rule(8, 16, 8), tae_rule(8, 16, 8, join="ramp")], ids=["code", "paper"])
def test_what_chunks_share_goes_over_from_one_to_the_next(rule: TilingRule) -> None:
    """By the mean of both, or from the weights of one to those of the other."""
    torch.manual_seed(0)
    model = tae(widths=(8, 8, 8, 8), blocks=1, groups=2, latent_channels=2).build().double()
    z = torch.randn(1, 2, 3, 1, 2, dtype=torch.float64)
    first, second = model.decode(z[:, :, :2]), model.decode(z[:, :, 1:])
    weight = torch.full((8,), 0.5) if rule.decode.time and rule.decode.time.join == "mean" else torch.arange(8) / 8
    weight = weight.double()[:, None, None]
    shared = first[:, :, 8:] * (1 - weight) + second[:, :, :8] * weight
    wanted = torch.cat([first[:, :, :8], shared, second[:, :, 8:]], 2)
    torch.testing.assert_close(published(model, rule).decode(z), wanted, rtol=0, atol=1e-12)
