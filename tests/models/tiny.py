"""Small models for tests: one that gives back what it gets, and one with random weights."""

from __future__ import annotations

import torch

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.framing import Framing
from vvae.layers import FrameConv2dSpec, chain
from vvae.models.small import vvae_small


class Identity(VideoAutoencoder):
    """Gives back every frame as it is."""

    def __init__(self, lead: int = 1, group: int = 4) -> None:
        moments, pixels = FrameConv2dSpec(channels=6, kernel=1), FrameConv2dSpec(channels=3, kernel=1)
        framing = Framing(lead=lead, group=group)
        super().__init__(
            VideoAutoencoderSpec(
                name="identity", encoder=chain(copy=moments), decoder=chain(copy=pixels), framing=framing
            )
        )
        with torch.no_grad():
            for conv in (self.encoder.get_submodule("copy"), self.decoder.get_submodule("copy")):
                for parameter in conv.parameters():
                    parameter.zero_()
                conv.get_parameter("weight")[:3].copy_(torch.eye(3)[..., None, None])


def tiny_model(seed: int = 0) -> VideoAutoencoder:
    """A model of vvae-small's kind with random weights: lead 1, groups of 4, cells of 8x8."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=1).build().eval()
