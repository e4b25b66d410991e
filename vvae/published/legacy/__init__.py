"""Parts of published code that no release is made of: kept so that everything recorded of it comes out again."""

from vvae.published.legacy import fusion, od_vae, reducio

__all__ = ["fusion", "od_vae", "reducio"]
