"""Scaled dot product attention as the layers call it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vvae.doctor import reference
from vvae.doctor.row import Gap, Row, measured, widest
from vvae.doctor.truth import LIMITS, gaps


@dataclass(frozen=True)
class Sight:
    """`count` images in so many heads: `tokens` positions see `seen` ones, each of so many channels."""

    name: str
    count: int
    heads: int
    tokens: int
    seen: int
    channels: int

    def inputs(self) -> dict[str, Tensor]:
        """Random queries, keys and values `n heads tokens channels`."""
        generator = torch.Generator().manual_seed(0)
        sizes = {"queries": self.tokens, "keys": self.seen, "values": self.seen}
        return {
            name: torch.randn((self.count, self.heads, size, self.channels), generator=generator, dtype=torch.float64)
            for name, size in sizes.items()
        }

    def run(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, keys, values)

    def true(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return reference.attention(queries, keys, values)


SIGHTS = (
    Sight("a frame in one head of 512 channels", 2, 1, 64, 64, 512),
    Sight("a frame in 4 heads", 3, 4, 81, 81, 16),
    Sight("704 positions", 1, 1, 704, 704, 64),
    Sight("two frames of 66,000 pixels", 66_000, 1, 2, 2, 8),  # more than a GPU counts blocks along one axis
    Sight("19 positions seen by 48", 2, 2, 48, 19, 24),
    Sight("3 positions seen by one", 2, 1, 1, 3, 32),
)


def attention_row(device: str, dtype: str) -> Row:
    """All of them; where one is wrong, tried again with torch's plainest kernel."""
    row = measured("attention", device, "attention", _worst(device, dtype), LIMITS[dtype], dtype)
    if row.verdict == "fit":
        return row
    with sdpa_kernel(SDPBackend.MATH):
        again = _worst(device, dtype)
    setting = "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
    return row.model_copy(update={"remedy": setting if again.figure <= LIMITS[dtype] else ""})


def _worst(device: str, dtype: str) -> Gap:
    def place(name: str, tensor: Tensor) -> Tensor:
        # heads are a view of tokens, as a layer splits them
        return tensor.transpose(1, 2).contiguous().to(device).transpose(1, 2)

    return widest(gap for sight in SIGHTS for gap in gaps(sight, dtype, place))
