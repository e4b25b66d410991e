"""A block of one's own: a layer, its spec, the laws it must keep, and its place in a model that already exists.

python examples/own_block.py
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import vvae
from vvae import layers, reach, verify


class Ease(layers.Layer):
    """Mixes each frame with the one before it; shape `b c t h w`, kept. A stream keeps the last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.1))

    def run(self, x: Tensor, ctx: vvae.Context) -> Tensor:
        kept = ctx.recall(self)  # None at the start of the clip
        past = x[:, :, :1] if kept is None else kept[0]
        ctx.keep(self, x[:, :, -1:])
        return torch.lerp(x, torch.cat([past, x], 2)[:, :, :-1], self.share)


class EaseSpec(vvae.LayerSpec):
    """The layer as data."""

    kind: Literal["my_package.ease"] = "my_package.ease"

    def trace(self, signal: vvae.Signal) -> vvae.Signal:
        return signal

    def build(self, signal: vvae.Signal) -> Ease:
        return Ease()

    def reach(self, signal: vvae.Signal, frames: int) -> reach.Reach:
        return reach.window(frames, before=1, after=0)


def check() -> None:
    """The laws; each raises a LawError that says what is wrong and by how much."""
    signal = vvae.Signal(channels=4, lead=1, group=2)
    layer, clip = Ease().double(), verify.random_clip(signal, 7, 6, 6)
    verify.check_traced(EaseSpec(), signal, [(1, 6, 6), (7, 4, 8)])
    verify.check_stream(layer, signal, clip, plans=[[3], [1, 2], [0, 1, 1, 1]])
    verify.check_reach(layer, EaseSpec().reach(signal, 7), clip)
    verify.check_stateless(layer, clip)


def main() -> None:
    check()
    spec = vvae.load("vvae-small").spec.replace_at("decoder.sum.block1.act_a", EaseSpec())
    print(spec.decoder.children()["sum"].children()["block1"])
    video = torch.rand(1, 3, 13, 32, 48) * 2 - 1
    print(tuple(spec.build()(video).shape))


if __name__ == "__main__":
    main()
