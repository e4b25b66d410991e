"""Video autoencoders of diffusers at their published sizes, with random weights, to stand beside ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from vvae.bench.work import SEED, Size
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


def peer_runs(peer: Peer, size: Size, dtype: torch.dtype) -> dict[Direction, Callable[[], Tensor]]:
    """Encoding (to the mode) and decoding one clip, random weights, memory format as built."""
    diffusers: Any = importlib.import_module("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = getattr(diffusers, peer.published_class)().to(dtype).eval()
        x, z = torch.randn(1, 3, *size).to(dtype), torch.randn(peer.latents(size)).to(dtype)

    @torch.no_grad()
    def encode() -> Tensor:
        mode: Tensor = model.encode(x).latent_dist.mode()
        return mode

    @torch.no_grad()
    def decode() -> Tensor:
        sample: Tensor = model.decode(z).sample
        return sample

    return {"encode": encode, "decode": decode}
