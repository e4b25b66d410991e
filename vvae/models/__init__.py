"""Models with weights, and the files that hold models and the states of streams."""

from vvae.models.files import embedded, load
from vvae.state import load_state, save_state

__all__ = ["embedded", "load", "load_state", "save_state"]
