"""vvae-small, of IV-VAE's family: a lead frame, then groups of four; 4x8x8 compression; 16 numbers per position.

Encoder and decoder are each a linear path, which alone is the best linear code of the training material, plus a deep
branch that works on latent cells. Every block has two paths that both read all channels: one per frame, one that also
reads the position before.
"""

from __future__ import annotations

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.framing import Framing
from vvae.layers.activation import SiLUSpec
from vvae.layers.blocks import residual_block
from vvae.layers.compose import AfterLeadSpec, ChainSpec, ParallelSpec, ResidualSpec, chain, parallel
from vvae.layers.conv import CausalConv3dSpec, FrameConv2dSpec
from vvae.layers.norm import ChannelRMSNormSpec
from vvae.layers.space import DepthToSpaceSpec, SpaceToDepthSpec
from vvae.layers.time import TemporalDownsampleSpec, TemporalUpsampleSpec
from vvae.scaling import Affine
from vvae.spec import LayerSpec

CELL = 8
GROUP = 4
CELL_CHANNELS = 3 * CELL**2


def vvae_small(
    *,
    latent_channels: int = 16,
    encoder_width: int = 160,
    encoder_blocks: int = 1,
    decoder_width: int = 176,
    decoder_blocks: int = 4,
    latent: Affine | None = None,
) -> VideoAutoencoderSpec:
    """The spec of vvae-small; widths are channels, both paths together, `latent` what its latents are scaled by."""
    return VideoAutoencoderSpec(
        name="vvae-small",
        encoder=_encoder(2 * latent_channels, encoder_width, encoder_blocks),
        decoder=_decoder(decoder_width, decoder_blocks),
        framing=Framing(lead=1, group=GROUP),
        latent=latent or Affine(),
    )


def two_path(width: int) -> ParallelSpec:
    """Half of the channels per frame, half from this and the position before; both read all channels."""
    return parallel(
        frame=FrameConv2dSpec(channels=width - width // 2),
        motion=CausalConv3dSpec(channels=width // 2, kernel=(2, 3, 3)),
    )


def _encoder(moments: int, width: int, blocks: int) -> ChainSpec:
    branch: dict[str, LayerSpec] = {"enter": _fold(width), **_blocks(width, blocks)}
    branch["leave"] = FrameConv2dSpec(channels=moments)
    return chain(cells=SpaceToDepthSpec(factor=CELL), sum=ResidualSpec(layers=branch, shortcut=_fold(moments)))


def _decoder(width: int, blocks: int) -> ChainSpec:
    branch: dict[str, LayerSpec] = {"enter": two_path(width), **_blocks(width, blocks), "leave": _unfold()}
    return chain(sum=ResidualSpec(layers=branch, shortcut=_unfold()), cells=DepthToSpaceSpec(factor=CELL))


def _blocks(width: int, count: int) -> dict[str, LayerSpec]:
    norm = ChannelRMSNormSpec()
    blocks = {f"block{index}": _block(width) for index in range(count)}
    return {**blocks, "norm": norm, "act": SiLUSpec()}


def _block(width: int) -> ResidualSpec:
    mixed = residual_block(two_path(width), norm=ChannelRMSNormSpec())
    return ResidualSpec(layers={**mixed.layers, "conv_b": FrameConv2dSpec(channels=width)})


def _fold(channels: int) -> AfterLeadSpec:
    """A linear map of each cell of a group, and another one of each cell of the lead frame."""
    groups = TemporalDownsampleSpec(channels=channels, factor=GROUP)
    return AfterLeadSpec(layers={"groups": groups}, on_lead=FrameConv2dSpec(channels=channels, kernel=1))


def _unfold() -> AfterLeadSpec:
    """A linear map to the cells of a group, and another one to the cell of the lead frame."""
    groups = TemporalUpsampleSpec(channels=CELL_CHANNELS, factor=GROUP)
    return AfterLeadSpec(layers={"groups": groups}, on_lead=FrameConv2dSpec(channels=CELL_CHANNELS, kernel=1))
