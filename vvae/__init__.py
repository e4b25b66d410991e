"""Composable parts for video autoencoders: exact, streaming, verifiable."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vvae import arch, layers
    from vvae.autoencoder import VideoAutoencoder
    from vvae.autoencoder_spec import VideoAutoencoderSpec
    from vvae.context import WHOLE_CLIP, Context, StreamState, StreamStep, WholeClip
    from vvae.errors import CheckpointError, SpecError, StreamError, TileError, VideoError, VvaeError
    from vvae.framing import Fit, Framing
    from vvae.gaussian import DiagonalGaussian, PosteriorSpec
    from vvae.models import load, load_state, save_state
    from vvae.models.released import load_published
    from vvae.scaling import Affine, ClipNorm
    from vvae.signal import Signal
    from vvae.spec import FrameLayerSpec, LayerSpec

__version__ = "0.1.0"

__all__ = [
    "WHOLE_CLIP",
    "Affine",
    "CheckpointError",
    "ClipNorm",
    "Context",
    "DiagonalGaussian",
    "Fit",
    "FrameLayerSpec",
    "Framing",
    "LayerSpec",
    "PosteriorSpec",
    "Signal",
    "SpecError",
    "StreamError",
    "StreamState",
    "StreamStep",
    "TileError",
    "VideoAutoencoder",
    "VideoAutoencoderSpec",
    "VideoError",
    "VvaeError",
    "WholeClip",
    "arch",
    "layers",
    "load",
    "load_published",
    "load_state",
    "save_state",
]

_HOMES = {
    "autoencoder": ("VideoAutoencoder",),
    "autoencoder_spec": ("VideoAutoencoderSpec",),
    "context": ("WHOLE_CLIP", "Context", "StreamState", "StreamStep", "WholeClip"),
    "errors": ("CheckpointError", "SpecError", "StreamError", "TileError", "VideoError", "VvaeError"),
    "framing": ("Fit", "Framing"),
    "gaussian": ("DiagonalGaussian", "PosteriorSpec"),
    "models": ("load", "load_state", "save_state"),
    "models.released": ("load_published",),
    "scaling": ("Affine", "ClipNorm"),
    "signal": ("Signal",),
    "spec": ("FrameLayerSpec", "LayerSpec"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are fetched when they are first used: torch takes seconds, and `vvae --help` needs none of it."""
    if name in _HOME:
        value = getattr(import_module(f"vvae.{_HOME[name]}"), name)
    elif name.startswith("_"):
        raise AttributeError(f"module 'vvae' has no attribute {name!r}")
    else:
        try:
            value = import_module(f"vvae.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vvae.{name}":
                raise
            raise AttributeError(f"module 'vvae' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
