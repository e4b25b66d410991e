"""Training material, the linear floor, recipes and the loop. Needs the `train` extra."""

from vvae.training.loop import train
from vvae.training.outlook import Outlook, look_ahead
from vvae.training.recipe import Recipe
from vvae.training.recipe_file import read, shipped

__all__ = ["Outlook", "Recipe", "look_ahead", "read", "shipped", "train"]
