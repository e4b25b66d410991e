"""How the weights of an image VAE start a video VAE: the rule of each publication, as rows from own name to own name.

The names on both sides are those of `vvae.arch`; `vvae.published.inflate` applies the rows. A row is read from the
video VAE's name, the first that fits is taken, and every tensor of the image VAE must be used.

What comes out of it is the image VAE's in these cases alone:

| video VAE                     | one frame encoded | a still clip | one latent decoded | equal latents |
|-------------------------------|-------------------|--------------|--------------------|---------------|
| OD-VAE v1.0                   | yes               | no           | yes                | no            |
| OD-VAE v1.1                   | no                | no           | no                 | no            |
| OD-VAE v1.2                   | yes               | yes          | no                 | no            |
| TAE without attention in time | yes               | yes          | yes, eight times   | yes           |
| TAE as released               | no                | no           | no                 | no            |
| IV-VAE                        | yes               | no           | yes                | no            |

Of Open-Sora an image VAE is one part, and nothing starts the temporal one. None starts Reducio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.framing import Framing
from vvae.layers.activation import SiLUSpec
from vvae.layers.compose import AfterLeadSpec, ChainSpec, ParallelSpec, ResidualSpec
from vvae.layers.conv import FrameConv2dSpec
from vvae.layers.keyframe import KeyframeBranchesSpec
from vvae.layers.norm import ChannelRMSNormSpec
from vvae.layers.space import ChannelInterleaveSpec
from vvae.published.inflation import How, Inflation
from vvae.spec import LayerSpec, at


def _made(how: How, *own: str) -> tuple[Inflation, ...]:
    return tuple(Inflation(name, None, how) for name in own)


TAE: tuple[Inflation, ...] = (
    *_made("fresh", "*.time.norm.{tensor}", "*.time.attend.{layer}.{tensor}"),
    *_made("pass", "*.time.weight", "*.down_time.weight", "*.up_time.weight"),
    *_made("zero", "*.time.bias", "*.down_time.bias", "*.up_time.bias"),
    Inflation("*.space.attend.{layer}.{tensor}", "*.attend.{layer}.{tensor}", "copy"),
    Inflation("*.space.norm.{tensor}", "*.norm.{tensor}", "copy"),
    Inflation("*.space.{tensor}", "*.{tensor}", "copy"),
    Inflation("*", "*", "copy"),
)
"""Convolutions in time pass every frame on; attention over time starts as in any new model.

Source: `tools/inflate_vae_to_tae.py` and "centric" initialisation of TAE's code (mindone). With attention over time it
is not exact, though the report says that an image VAE is kept.
"""

OD_VAE: tuple[Inflation, ...] = (
    *_made("fresh", "{half}.{level}.time."),
    Inflation("*.up.conv.{tensor}", "*.up.{tensor}", "last"),
    Inflation("*", "*", "last"),
)
"""The 2D kernel at the last tap, the frame itself; what changes the frame rate starts as in any new model.

Source: "tail initialization" of the report of OD-VAE; `inflate_vae2d_to_vae3d` of mindone's port.
"""

IV_VAE: tuple[Inflation, ...] = (
    *_made("fresh", "*.motion.time.{layer}.{tensor}"),
    Inflation("decoder.head.keyframe.{tensor}", "decoder.head.{tensor}", "copy"),
    Inflation("decoder.head.between.{tensor}", "decoder.head.{tensor}", "centre", half=1),
    *(
        Inflation(f"*.{path}{below}.{{tensor}}", f"*{below}.{{tensor}}", "centre", half=half)
        for half, path in enumerate(("keyframe", "motion"))
        for below in (".attend.{layer}", ".{layer}", "")
    ),
    Inflation("*", "*", "copy"),
)
"""Both halves start from the image VAE of one half (`one_half`), and neither reads the other; 3D kernels hold the 2D
kernel at the tap in the middle. What changes the frame rate starts as in any new model.

Source: the report of IV-VAE; its code has none of it.
"""

OPEN_SORA: tuple[Inflation, ...] = (
    Inflation("encoder.spatial.image.*", "encoder.*", "copy"),
    Inflation("decoder.spatial.image.*", "decoder.*", "copy"),
    *_made("fresh", "*"),
)
"""The part that sees single frames is the image VAE; the temporal part starts as in any new model."""

INFLATIONS: Mapping[str, tuple[Inflation, ...]] = MappingProxyType(
    {"iv_vae": IV_VAE, "od_vae": OD_VAE, "open_sora": OPEN_SORA, "tae": TAE}
)
"""By architecture."""


def one_half(spec: VideoAutoencoderSpec) -> VideoAutoencoderSpec:
    """The image VAE that both halves of an IV-VAE start from: one half alone, of half the latent channels.

    Raises:
        SpecError: a layer that no IV-VAE with groups has.
    """
    decoder = spec.decoder
    head = decoder.layers.get("head") if isinstance(decoder, ChainSpec) else None
    if not isinstance(decoder, ChainSpec) or not isinstance(head, KeyframeBranchesSpec):
        raise SpecError("has no head for keyframes, so it is no IV-VAE with groups; take one", ("decoder",))
    with at("encoder"):
        encoder = _half(spec.encoder)
    with at("decoder"):
        layers = _halves({name: layer for name, layer in decoder.layers.items() if name != "head"})
    return VideoAutoencoderSpec(
        name=f"{spec.name}_half",
        encoder=encoder,
        decoder=ChainSpec(layers={**layers, "head": head.keyframe}),
        framing=Framing(channels=spec.framing.channels),
        latent=spec.latent,
    )


def _halves(layers: Mapping[str, LayerSpec]) -> dict[str, LayerSpec]:
    found = {}
    for name, layer in layers.items():
        with at(name):
            found[name] = _half(layer)
    return found


def _half(layer: LayerSpec) -> LayerSpec:
    """What one half of the channels passes through, frame by frame."""
    if isinstance(layer, ResidualSpec):
        return ResidualSpec(layers=_halves(layer.layers), shortcut=layer.shortcut and _half(layer.shortcut))
    if isinstance(layer, ChainSpec):
        return ChainSpec(layers=_halves(layer.layers))
    if isinstance(layer, ParallelSpec):
        path = layer.branches.get("keyframe")
        return ParallelSpec(branches=_halves(layer.branches)) if path is None else _without_time(path)
    if type(layer) not in _LEAVES:
        raise SpecError(f"{layer.kind} has no half; this is no IV-VAE with groups; take one")
    return layer.replace(**_LEAVES[type(layer)](layer))


def _without_time(path: LayerSpec) -> LayerSpec:
    if not isinstance(path, ChainSpec):
        return path
    return ChainSpec(layers={name: own for name, own in path.layers.items() if not isinstance(own, AfterLeadSpec)})


_LEAVES: Mapping[type[LayerSpec], Callable[[Any], dict[str, int]]] = {
    FrameConv2dSpec: lambda layer: {"channels": layer.channels // 2},
    ChannelRMSNormSpec: lambda layer: {"parts": 1},
    ChannelInterleaveSpec: lambda layer: {"inner": 1},
    SiLUSpec: lambda layer: {},
}
"""What changes of a layer that reads both halves."""
