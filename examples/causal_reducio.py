"""A causal Reducio: a decoder that streams looks at a content image, and gets a new one every 8 frames.

Reducio itself cuts a clip into pieces that do not see each other. Here the decoder goes on from image to image.

python examples/causal_reducio.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import trial

import vvae
from vvae import layers, verify
from vvae.layers import chain

EVERY = 8


def conv(channels: int) -> layers.CausalConv3dSpec:
    return layers.CausalConv3dSpec(channels=channels, before="zero")


def grow(up: layers.Upsample3dSpec) -> layers.ChainSpec:
    time, space = layers.TemporalRepeatSpec(factor=up.time), layers.SpatialRepeatSpec(factor=up.space)
    return chain(time=time, space=space, conv=conv(up.channels))


CAUSAL: Mapping[type[vvae.LayerSpec], Callable[..., vvae.LayerSpec]] = {
    layers.ClipGroupNormSpec: lambda norm: layers.FrameGroupNormSpec(groups=norm.groups),
    layers.ClipAttentionSpec: lambda attend: layers.FrameAttentionSpec(heads=attend.heads),
    layers.Conv3dSpec: lambda old: conv(old.channels),
    layers.Downsample3dSpec: lambda down: layers.CausalDownsample3dSpec(channels=down.channels),
    layers.Upsample3dSpec: grow,
}
"""What stands for each layer that sees later frames."""


def spec() -> vvae.VideoAutoencoderSpec:
    """Norms and attention of every frame by itself, causal convolutions, latents that are not normed over the clip."""
    sizes = {"widths": (8, 8, 8), "content_widths": (8, 8), "blocks": 1, "content_blocks": 1, "groups": 2, "heads": 2}
    reads = {"fuse": (None, 1, None), "positions": None, "window": None}
    changed = vvae.arch.reducio(latent_channels=4, **sizes, **reads).replace(latent=vvae.Affine())
    for kind, make in CAUSAL.items():
        changed = changed.replace_each(kind, make)
    return changed.replace(name="causal_reducio", content=changed.content.replace(every=EVERY))


@torch.no_grad()
def check_renewal(model: vvae.VideoAutoencoder, clip: torch.Tensor) -> None:
    """Another second image changes the frames from 8 on, and none before."""
    posterior = model.encode(clip)
    images = posterior.content.clone()
    images[:, :, 1] = -images[:, :, 1]
    whole, other = model.decode(posterior), model.decode(posterior.mean, content=images, frames=clip.shape[2])
    changed = (whole != other).flatten(3).any(3).any(1)[0]
    if changed.tolist() != [frame >= EVERY for frame in range(clip.shape[2])]:
        raise verify.LawError(f"renewal: the second image changes the frames {changed.nonzero().flatten().tolist()}")


def main() -> None:
    own = spec()
    trial.run(own, Path(__file__).with_suffix(".json"), groups=3)
    torch.manual_seed(0)
    check_renewal(own.build().double(), trial.video(2 * EVERY).double())
    print(f"content   a new image every {EVERY} frames; none changes a frame before its own")


if __name__ == "__main__":
    main()
