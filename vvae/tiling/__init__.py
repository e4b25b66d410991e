"""Clips that are too long or too big: exact plans, exact tiles, the rules of the releases, any function in tiles."""

from vvae.tiling.chosen import exact_plan, preset_plan
from vvae.tiling.exact import ExactTiling, exact
from vvae.tiling.layout import Axis, Span, TilePlan, laid_out, tile_plan
from vvae.tiling.model import PublishedTiling, compression, published
from vvae.tiling.plan import Plan, plan, steps, usual_plan, within
from vvae.tiling.rules import (
    Compression,
    ContentTiles,
    SpaceTiles,
    Tiles,
    TilingRule,
    TimeTiles,
    blended,
    extended,
    overlapping,
)
from vvae.tiling.tiles import chunks_in_tiles, in_tiles
from vvae.tiling.units import Cells, Frames, Pixels, Positions
from vvae.tiling.way import Way

__all__ = [
    "Axis",
    "Cells",
    "Compression",
    "ContentTiles",
    "ExactTiling",
    "Frames",
    "Pixels",
    "Plan",
    "Positions",
    "PublishedTiling",
    "SpaceTiles",
    "Span",
    "TilePlan",
    "Tiles",
    "TilingRule",
    "TimeTiles",
    "Way",
    "blended",
    "chunks_in_tiles",
    "compression",
    "exact",
    "exact_plan",
    "extended",
    "in_tiles",
    "laid_out",
    "overlapping",
    "plan",
    "preset_plan",
    "published",
    "steps",
    "tile_plan",
    "usual_plan",
    "within",
]
