"""The published architectures, one file each: specs, variants, published names. Data; no module lives here."""

from vvae.arch.image_vae import image_vae
from vvae.arch.iv_vae import iv_vae
from vvae.arch.od_vae import od_vae, od_vae_streaming
from vvae.arch.open_sora import open_sora, open_sora_causal
from vvae.arch.reducio import reducio
from vvae.arch.tae import tae
from vvae.arch.wan import wan

__all__ = [
    "image_vae",
    "iv_vae",
    "od_vae",
    "od_vae_streaming",
    "open_sora",
    "open_sora_causal",
    "reducio",
    "tae",
    "wan",
]
