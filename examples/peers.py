"""Video autoencoders of diffusers, in small widths with random weights: somebody else's models, to be checked.

Each function builds one, with the same weights each time, ready to run. Its docstring says what the class says of
itself: a clip is `lead` frames that stand alone and then groups of `group` frames, one latent per group; `space` is
pixels per latent along height and width; causal means that nothing depends on a later group. All but the widths is
as published unless the docstring says otherwise.

    model = peers.wan()
    posterior = model.encode(clip).latent_dist   # clip: b 3 t h w, about -1 to 1
    frames = model.decode(posterior.mode()).sample
    findings = verify(claimed_subject(model, peers.CLAIMS["wan"]))

What each says of itself is in CLAIMS, too. Needs diffusers; written against 0.42.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from vvae.verify import Claims

SEED = 0
CLAIMS: Mapping[str, Claims] = MappingProxyType(
    {
        "cogvideox": Claims((1, 3, 9, 32, 32), lead=1, group=4, causal=True),
        "wan": Claims((1, 3, 9, 32, 32), lead=1, group=4, causal=True),
        "hunyuan_video": Claims((1, 3, 9, 32, 32), lead=1, group=4, causal=True),
        "ltx": Claims((1, 3, 17, 32, 32), lead=1, group=8, causal="encoder"),
        "mochi": Claims((1, 3, 13, 16, 16), lead=1, group=6, causal=True),
        "cosmos": Claims((1, 3, 17, 32, 32), lead=1, group=8, causal=True),
        "magvit": Claims((1, 3, 9, 32, 32), lead=1, group=4, causal=True),
        "image_kl": Claims((1, 3, 5, 32, 32), lead=0, group=1, causal=True),
    }
)
"""Function -> a small clip that its model takes, of two groups and more, and what is said of it."""


def cogvideox() -> nn.Module:
    """AutoencoderKLCogVideoX: lead 1, group 4, space 8, causal both ways.

    Its comments expect 1, 8 k or 8 k + 1 frames; it works through the clip in pieces of 8 frames (2 latents), with
    the remainder in the first piece.
    """
    return built(
        diffusers.AutoencoderKLCogVideoX,
        block_out_channels=(8, 8, 8, 16),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


def wan() -> nn.Module:
    """AutoencoderKLWan (2.1): lead 1, group 4, space 8, causal both ways; decoded frames are clamped to [-1, 1]."""
    return built(
        diffusers.AutoencoderKLWan,
        base_dim=8,
        dim_mult=[1, 1, 2, 2],
        z_dim=4,
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def hunyuan_video() -> nn.Module:
    """AutoencoderKLHunyuanVideo: lead 1, group 4, space 8, causal both ways.

    More than 16 frames (4 latents) go in overlapping pieces of 17 that are blended, unless `use_framewise_encoding`
    and `use_framewise_decoding` are False; more than 256 pixels only after `enable_tiling`.
    """
    return built(
        diffusers.AutoencoderKLHunyuanVideo,
        block_out_channels=(8, 8, 8, 16),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


def ltx() -> nn.Module:
    """AutoencoderKLLTXVideo: lead 1, group 8, space 16, the encoder causal, the decoder not (as published).

    The published one has patches of 4 pixels, hence space 32; these are of 2.
    """
    return built(
        diffusers.AutoencoderKLLTXVideo,
        block_out_channels=(8, 8, 8, 16),
        decoder_block_out_channels=(8, 8, 8, 16),
        latent_channels=4,
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=2,
    )


def mochi() -> nn.Module:
    """AutoencoderKLMochi: lead 1, group 6, space 8, causal both ways. Its norms take multiples of 32 channels."""
    return built(
        diffusers.AutoencoderKLMochi,
        encoder_block_out_channels=(32, 32, 32, 64),
        decoder_block_out_channels=(32, 32, 32, 64),
        latent_channels=4,
        layers_per_block=(1, 1, 1, 1, 1),
        latents_mean=(0.0,) * 4,
        latents_std=(1.0,) * 4,
    )


def cosmos() -> nn.Module:
    """AutoencoderKLCosmos: lead 1, group 8, space 8, causal both ways; no Gaussian: its posterior is the latents."""
    return built(
        diffusers.AutoencoderKLCosmos,
        encoder_block_out_channels=(8, 8, 8, 16),
        decode_block_out_channels=(8, 8, 8, 16),
        latent_channels=4,
        num_layers=1,
    )


def magvit() -> nn.Module:
    """AutoencoderKLMagvit (EasyAnimate): lead 1, group 4, space 8, causal both ways.

    It works through the clip one frame and then 4 frames (1 latent) at a time, and keeps the past in its layers.
    """
    return built(
        diffusers.AutoencoderKLMagvit,
        block_out_channels=(8, 8, 8, 16),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


def image_kl() -> nn.Module:
    """AutoencoderKL on each frame alone: lead 0, group 1, space 8, causal both ways.

    It takes images, `b c h w`; `PerFrame` gives it the frames of a clip as a batch of images.
    """
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (8, 8, 8, 16), "latent_channels": 4, "norm_num_groups": 2}
    return PerFrame(built(diffusers.AutoencoderKL, **kinds, **widths)).eval()


class PerFrame(nn.Module):
    """Gives an image autoencoder the frames of clips `b c t h w` as images, and puts them together again."""

    def __init__(self, image: nn.Module) -> None:
        super().__init__()
        self.image = image

    def encode(self, clip: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=ClipOfImages(self.image.encode(as_images(clip)).latent_dist, len(clip)))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=as_clip(self.image.decode(as_images(latents)).sample, len(latents)))

    def enable_tiling(self) -> None:
        self.image.enable_tiling()

    def disable_tiling(self) -> None:
        self.image.disable_tiling()


class ClipOfImages:
    """The posteriors of a clip's frames as one: `mean` and `logvar` are `b c t h w`."""

    def __init__(self, images: Any, batch: int) -> None:
        self.images, self.batch = images, batch
        self.mean, self.logvar = as_clip(images.mean, batch), as_clip(images.logvar, batch)

    def mode(self) -> Tensor:
        return as_clip(self.images.mode(), self.batch)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return as_clip(self.images.sample(generator), self.batch)

    def kl(self) -> Tensor:
        """The sum over a clip's frames. `b`"""
        return self.images.kl().unflatten(0, (self.batch, -1)).sum(1)


def as_images(clip: Tensor) -> Tensor:
    """`b c t h w` -> `(b t) c h w`"""
    return clip.movedim(2, 1).flatten(0, 1)


def as_clip(images: Tensor, batch: int) -> Tensor:
    """`(b t) c h w` -> `b c t h w`"""
    return images.unflatten(0, (batch, -1)).movedim(1, 2)


def built(kind: type[nn.Module], **config: Any) -> nn.Module:
    """The model with the same lively weights each time; the generator of everybody else is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = kind(**config).eval()
        enliven(model)
    return model


@torch.no_grad()
def enliven(model: nn.Module) -> None:
    """Weights that keep a signal's size, biases and scales of norms that differ, so that no dependence fades."""
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.1)
        elif weight.numel() == len(weight):  # the scale of a norm, with axes of one or without
            nn.init.normal_(weight, mean=1.0, std=0.2)
        else:
            nn.init.normal_(weight, std=(len(weight) / weight.numel()) ** 0.5)
