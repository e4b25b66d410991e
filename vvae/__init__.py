"""Composable parts for video autoencoders: exact, streaming, verifiable."""

from vvae import arch, layers
from vvae.autoencoder import VideoAutoencoder, VideoAutoencoderSpec
from vvae.context import WHOLE_CLIP, Context, StreamState, StreamStep, WholeClip
from vvae.errors import CheckpointError, SpecError, StreamError, TileError, VideoError, VvaeError
from vvae.framing import Fit, Framing
from vvae.gaussian import DiagonalGaussian, PosteriorSpec
from vvae.models import load, load_state, save_state
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
    "load_state",
    "save_state",
]
