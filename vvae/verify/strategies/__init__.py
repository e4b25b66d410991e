"""Signals, clips, chunks, layers, whole models and broken specs, drawn at random (hypothesis).

Small enough that one drawn layer runs in a moment; they shrink towards the smallest clip, split and spec.
"""

from vvae.verify.strategies.broken import BROKEN, broken_layers, broken_specs
from vvae.verify.strategies.broken_layers import BROKEN_LAYERS, BrokenLayer
from vvae.verify.strategies.broken_models import Broken
from vvae.verify.strategies.clips import Beside, Clip, clips, group_sizes, plans, signals, splits
from vvae.verify.strategies.layers import LEAVES, Leaf
from vvae.verify.strategies.models import model_specs
from vvae.verify.strategies.trees import TREES, layer_specs, wired
from vvae.verify.strategies.wiring import lengths, mend, side, walk, walk_model

__all__ = [
    "BROKEN",
    "BROKEN_LAYERS",
    "LEAVES",
    "TREES",
    "Beside",
    "Broken",
    "BrokenLayer",
    "Clip",
    "Leaf",
    "broken_layers",
    "broken_specs",
    "clips",
    "group_sizes",
    "layer_specs",
    "lengths",
    "mend",
    "model_specs",
    "plans",
    "side",
    "signals",
    "splits",
    "walk",
    "walk_model",
    "wired",
]
