"""OD-VAE with a norm of every frame by itself and a group causal decoder: what comes later changes nothing before it.

python examples/od_vae_group_causal.py
"""

from __future__ import annotations

from pathlib import Path

import trial

import vvae
from vvae.layers import CausalConv3dSpec, GroupCausalConv3dSpec, LinearTemporalUpsampleSpec, TemporalRepeatSpec


def spec() -> vvae.VideoAutoencoderSpec:
    """OD-VAE interpolates frames from the next latent; here a latent makes its own frames, which see each other."""
    causal = vvae.arch.od_vae_streaming("v1_2", width=4, groups=2, blocks=1)
    decoder = causal.decoder.replace_each(
        CausalConv3dSpec, lambda conv: GroupCausalConv3dSpec(channels=conv.channels, kernel=conv.kernel)
    ).replace_each(LinearTemporalUpsampleSpec, lambda up: TemporalRepeatSpec(factor=up.factor))
    return causal.replace(name="od_vae_group_causal", decoder=decoder)


if __name__ == "__main__":
    trial.run(spec(), Path(__file__).with_suffix(".json"))
