"""The published architectures, one file each: specs, variants, published names. Data; no module lives here."""

from vvae.arch.image_vae import image_vae
from vvae.arch.iv_vae import iv_vae

__all__ = ["image_vae", "iv_vae"]
