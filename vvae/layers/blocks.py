"""Shared blocks: functions that return specs."""

from __future__ import annotations

from collections.abc import Sequence

from vvae.layers.activation import SiLUSpec
from vvae.layers.attention import FrameAttentionSpec
from vvae.layers.compose import ChainSpec, ParallelSpec, ResidualSpec, chain
from vvae.layers.conv import FrameConv2dSpec
from vvae.layers.norm import ChannelRMSNormSpec
from vvae.layers.space import ChannelInterleaveSpec
from vvae.spec import LayerSpec

SILU, RMS_NORM = SiLUSpec(), ChannelRMSNormSpec()


def residual_block(
    conv: LayerSpec, *, norm: LayerSpec, act: LayerSpec = SILU, shortcut: LayerSpec | None = None
) -> ResidualSpec:
    """norm, activation, conv, twice, plus the shortcut."""
    layers = {"norm_a": norm, "act_a": act, "conv_a": conv, "norm_b": norm, "act_b": act, "conv_b": conv}
    return ResidualSpec(layers=layers, shortcut=shortcut)


def attention_block(*, norm: LayerSpec = RMS_NORM, heads: int = 1, attend: LayerSpec | None = None) -> ResidualSpec:
    """A norm (over channels unless given) and attention (over each frame unless given), plus the input."""
    return ResidualSpec(layers={"norm": norm, "attend": attend or FrameAttentionSpec(heads=heads)})


def atrous_head(channels: int, *, dilations: Sequence[int] = (1, 3, 6, 9, 12), halves: int = 2) -> ChainSpec:
    """A pointwise and several dilated convolutions side by side, mixed by a pointwise one; linear throughout.

    The branches' channels are joined share by share (`halves` shares), so that the halves of a two-path map stay apart.
    Source: `PAC` of IV-VAE's code (TMPE in the paper).
    """
    branches: dict[str, LayerSpec] = {"point": FrameConv2dSpec(channels=channels, kernel=1)}
    branches.update({f"dilated{d}": FrameConv2dSpec(channels=channels, dilation=d) for d in dilations})
    return chain(
        branches=ParallelSpec(branches=branches),
        order=ChannelInterleaveSpec(outer=len(branches), inner=halves),
        mix=FrameConv2dSpec(channels=channels, kernel=1),
    )
