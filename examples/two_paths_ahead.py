"""IV-VAE whose moving path is a block of TAE: it looks ahead inside its branch, and a stream holds back what must wait.

The branch beside it waits for it, in the encoder and between the keyframes of the decoder alike.

python examples/two_paths_ahead.py
"""

from __future__ import annotations

from pathlib import Path

import trial

import vvae
from vvae.arch.tae import TAEFields
from vvae.layers import (
    ClipGroupNormSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    GroupCausalConv3dSpec,
    LookAheadConvSpec,
    ResidualSpec,
    TemporalConvSpec,
    chain,
    parallel,
)

NORM = FrameGroupNormSpec(groups=2)


def block(width_in: int, width: int, norm: vvae.LayerSpec) -> ResidualSpec:
    """The residual block of TAE: each convolution is one in space and one in time. The latter hold back here."""
    published = TAEFields().block(width_in, width)
    ahead = published.replace_each(TemporalConvSpec, lambda conv: LookAheadConvSpec(channels=conv.channels))
    return ahead.replace_each(ClipGroupNormSpec, lambda _: norm)


def spec(norm: vvae.LayerSpec = NORM) -> vvae.VideoAutoencoderSpec:
    """With the norm over the whole clip, that of TAE, the model is as good, but no stream is possible."""
    base = vvae.arch.iv_vae(width=4, latent_channels=4, multipliers=(1, 2, 2), temporal=(True, True), blocks=1)
    paths = parallel(keyframe=FrameConv2dSpec(channels=4), motion=block(8, 4, norm))
    between = chain(block=block(8, 8, norm), cut=GroupCausalConv3dSpec(channels=3, skip=1))
    changed = base.replace_at("encoder.level0.block0", paths).replace_at("decoder.head.between", between)
    return changed.replace(name="two_paths_ahead")


def refused() -> str:
    """What a stream is told by the model with whole-clip norms."""
    whole = spec(ClipGroupNormSpec(groups=2)).build()
    try:
        whole.encode_chunk(trial.video(5))
    except vvae.StreamError as error:
        return str(error)
    raise AssertionError("a norm over the whole clip streamed")


if __name__ == "__main__":
    trial.run(spec(), Path(__file__).with_suffix(".json"))
    print(f"refused   {refused()}")
