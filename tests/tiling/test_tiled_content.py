"""Content in tiles beside a clip in tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tiling import by_hand
from vvae import VideoAutoencoder
from vvae.arch import image_vae, reducio
from vvae.arch.reducio import tiling_rule
from vvae.errors import TileError, VideoError
from vvae.tiling import Tiles, TilingRule, published

RULE = tiling_rule(16, 4)
SIZE = (4, 36, 24)


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    """Pieces of 4 frames, cells of 4 x 4 pixels."""
    torch.manual_seed(0)
    spec = reducio(
        widths=(8, 8, 8),
        blocks=1,
        groups=2,
        heads=2,
        latent_channels=2,
        time_halvings=1,
        frames=4,
        content_widths=(8, 8),
        content_blocks=1,
        fuse=(None, 1, None),
        side=16,
        window=None,
    )
    return spec.build().double().eval()


def clip(*size: int) -> Tensor:
    return torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_a_posterior_has_its_content_and_decodes_with_it_in_tiles(model: VideoAutoencoder) -> None:
    x, tiled = clip(*SIZE), published(model, RULE)
    posterior = tiled.encode(x)
    assert torch.equal(posterior.content, x[:, :, 1:2])  # type: ignore[arg-type]
    found = tiled.decode(posterior)
    assert found.shape == x.shape
    z = model.scaling.normalize(posterior.mean)
    assert torch.equal(found, tiled.decode(z, content=x[:, :, 1]))
    assert torch.equal(found, tiled.decode(z, content=tiled.content(x[:, :, 1])))
    for other in (tiled.decode(z, content=None), tiled.decode(z, content=clip(1, *SIZE[1:]).flip(3))):
        assert (other - found).abs().max() > 1e-3 * found.abs().max()


@torch.no_grad()
def test_every_piece_has_its_own_content(model: VideoAutoencoder) -> None:
    """Pieces are independent in tiles too, and the last one, which is short, repeats its last frame."""
    x, tiled = clip(9, *SIZE[1:]), published(model, RULE)
    posterior = tiled.encode(x)
    assert torch.equal(posterior.content, x[:, :, [1, 5, 8]])  # type: ignore[arg-type]
    whole = tiled.decode(posterior)
    pieces = [tiled.decode(tiled.encode(piece)) for piece in x.split(4, 2)]
    torch.testing.assert_close(whole, torch.cat(pieces, 2), rtol=0, atol=1e-12)


@torch.no_grad()
def test_features_are_blended_by_the_published_loops(model: VideoAutoencoder) -> None:
    image, encode = clip(1, *SIZE[1:]), model.content
    features = published(model, RULE).content(image)
    assert encode is not None
    rows = [[encode(image[..., i : i + 20, j : j + 20]) for j in (0, 16)] for i in (0, 16, 32)]
    assert [len(row) for row in features] == [len(row) for row in rows]
    for name in rows[0][0]:
        for i, row in enumerate(rows):
            for j, tile in enumerate(row):
                if i:
                    above = rows[i - 1][j][name]
                    by_hand.blend(above, tile[name], int(above.shape[3] / 1.25 * 0.25), 3)
                if j:
                    left = row[j - 1][name]
                    by_hand.blend(left, tile[name], int(left.shape[4] / 1.25 * 0.25), 4)
                torch.testing.assert_close(features[i][j][name], tile[name], rtol=0, atol=1e-12)


@torch.no_grad()
def test_one_tile_is_the_whole(model: VideoAutoencoder) -> None:
    x, tiled = clip(4, 16, 12), published(model, RULE)
    posterior = tiled.encode(x)
    assert torch.equal(posterior.mean, model.encode(x).mean)
    assert torch.equal(tiled.decode(posterior), model(x))
    high = published(model, RULE.replace(decode=RULE.decode.replace(above=(None, 9, None))))
    x = clip(*SIZE)
    posterior = high.encode(x)
    assert torch.equal(high.decode(posterior), model.decode(posterior))


def test_content_that_does_not_fit_is_refused(model: VideoAutoencoder) -> None:
    tiled, z = published(model, RULE), torch.zeros(1, 2, 2, 9, 6).double()
    with pytest.raises(VideoError, match="content"):
        tiled.decode(z)
    with pytest.raises(TileError, match=r"row 0, column 1: it has 1 x 1"):
        tiled.decode(z, content=clip(1, 16, 16))
    plain = TilingRule(encode=Tiles(), decode=RULE.decode)
    with pytest.raises(TileError, match="no content in tiles"):
        published(model, plain).decode(z, content=clip(1, *SIZE[1:]))
    alone = published(image_vae(widths=(4, 8), blocks=1, groups=2).build(), TilingRule())
    with pytest.raises(VideoError, match="without content"):
        alone.decode(torch.zeros(1, 4, 1, 2, 2), content=torch.zeros(1, 3, 4, 4))
