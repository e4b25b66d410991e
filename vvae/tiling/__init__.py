"""Clips that are too long or too big for a model: the rules of the releases, and models under them."""

from vvae.tiling.model import PublishedTiling, compression, published
from vvae.tiling.rules import (
    Compression,
    ContentTiles,
    SpaceTiles,
    Tiles,
    TilingRule,
    TimeTiles,
    extended,
    overlapping,
)
from vvae.tiling.tiles import in_tiles

__all__ = [
    "Compression",
    "ContentTiles",
    "PublishedTiling",
    "SpaceTiles",
    "Tiles",
    "TilingRule",
    "TimeTiles",
    "compression",
    "extended",
    "in_tiles",
    "overlapping",
    "published",
]
