"""Training material, the linear floor, recipes and the loop. Needs the `train` extra."""

from vvae.training.loop import train
from vvae.training.recipe import Recipe

__all__ = ["Recipe", "train"]
