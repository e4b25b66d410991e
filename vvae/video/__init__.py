"""Clips in and out, what a reconstruction is worth, and pictures of it. Needs the `cli` extra."""

from vvae.video.metrics import psnr, ssim
from vvae.video.read import ClipInfo, probe, read_clip, read_timed
from vvae.video.reconstruct import reconstruct_clip
from vvae.video.write import ClipWriter

__all__ = ["ClipInfo", "ClipWriter", "probe", "psnr", "read_clip", "read_timed", "reconstruct_clip", "ssim"]
