"""Video autoencoders of diffusers at their published sizes, with random weights, to stand beside ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from vvae.bench.work import DIRECTIONS, SEED, Size
from vvae.errors import VvaeError
from vvae.spec import nearest
from vvae.summary import Direction

PREFIX = "diffusers:"


@dataclass(frozen=True)
class Peer:
    """A class of diffusers in its published size, which halves time `temporal` times and space `spatial` times."""

    published_class: str
    channels: int = 16
    temporal: int = 2
    spatial: int = 3

    def latents(self, size: Size) -> tuple[int, int, int, int, int]:
        """`b c t h w` of the latents of one clip."""
        frames, height, width = size
        return 1, self.channels, ((frames - 1) >> self.temporal) + 1, height >> self.spatial, width >> self.spatial


PEERS: Mapping[str, Peer] = {
    "cogvideox": Peer("AutoencoderKLCogVideoX"),
    "wan_2_1": Peer("AutoencoderKLWan"),
}

PUBLISHED_CLASS: Mapping[str, str] = {"wan_2.1": "diffusers:wan_2_1"}
"""By the name of a spec, the peer that is its published code."""


def is_peer(name: str) -> bool:
    return name.startswith(PREFIX)


def peer_of(name: str) -> Peer:
    """The peer of a name such as "diffusers:wan_2_1".

    Raises:
        VvaeError: diffusers is not installed, or the name is none of `PEERS`.
    """
    short = name.removeprefix(PREFIX)
    if short not in PEERS:
        raise VvaeError(f"peer {nearest(short, PEERS)}")
    if find_spec("diffusers") is None:
        raise VvaeError(f"{name} needs diffusers, which is not installed; pip install 'vvae[diffusers]'")
    return PEERS[short]


def peer_model(peer: Peer, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """The class with weights that are the same each time, memory format as built."""
    diffusers: Any = importlib.import_module("diffusers")
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(SEED)
        return getattr(diffusers, peer.published_class)().to(dtype).eval()


def peer_source(peer: Peer, direction: Direction, size: Size, device: str = "cpu") -> Tensor:
    """A clip or its latents, random, float32. `b c t h w`"""
    generator = None if device == "meta" else torch.Generator(device).manual_seed(SEED)
    shape = (1, 3, *size) if direction == "encode" else peer.latents(size)
    return torch.randn(shape, generator=generator, device=device)


@torch.no_grad()
def pass_peer(model: Any, direction: Direction, x: Tensor) -> Tensor:
    """Latents (the mode) of a clip, or the clip of latents."""
    given: Tensor = model.encode(x).latent_dist.mode() if direction == "encode" else model.decode(x).sample
    return given


def peer_runs(peer: Peer, size: Size, dtype: torch.dtype) -> dict[Direction, Callable[[], Tensor]]:
    """Encoding (to the mode) and decoding one clip, random weights, memory format as built."""
    model = peer_model(peer, dtype)
    return {d: partial(pass_peer, model, d, peer_source(peer, d, size).to(dtype)) for d in DIRECTIONS}
