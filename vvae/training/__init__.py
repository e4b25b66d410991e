"""Training material, recipes and the loop. Needs the `train` extra."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vvae.training.loop import train
    from vvae.training.outlook import Outlook, look_ahead
    from vvae.training.recipe import Recipe
    from vvae.training.recipe_file import read, shipped

__all__ = ["Outlook", "Recipe", "look_ahead", "read", "shipped", "train"]

_HOME = {
    "Outlook": "outlook",
    "Recipe": "recipe",
    "look_ahead": "outlook",
    "read": "recipe_file",
    "shipped": "recipe_file",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    """Public names are fetched when they are first used: processes that read clips come by here, and need no loop."""
    if name not in _HOME:
        raise AttributeError(f"module 'vvae.training' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"vvae.training.{_HOME[name]}"), name)
    return value
