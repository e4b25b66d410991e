"""The standard set that laws are pointed at: every kind of layer by itself, a few small models, each architecture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from tests.layers.test_layer_laws import LAYERS as STREAMING
from tests.layers.test_whole_clip_laws import LAYERS as WHOLE
from vvae import Affine, Framing, VideoAutoencoderSpec, arch
from vvae.autoencoder import VideoAutoencoder
from vvae.content import ContentSpec
from vvae.layers import (
    AfterLeadSpec,
    CausalConv3dSpec,
    ChannelRMSNormSpec,
    ContentAttentionSpec,
    DepthToSpaceSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    KeyframeBranchesSpec,
    PerFrame,
    ResidualSpec,
    SiLUSpec,
    SpaceToDepthSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    TemporalUpsampleSpec,
    WithContentSpec,
    chain,
    opaque,
    residual_block,
)
from vvae.layers.keyframe import BetweenKeyframesSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify import Subject, layer_subject, model_subject
from vvae.verify.small import RELEASED, SMALL

NAMES = Path(__file__).parent / "names.json"
"""The names of tensors in releases, as `record` wrote them."""

LED = Signal(4, lead=1, group=4)
MORE: Mapping[str, tuple[LayerSpec, Signal]] = MappingProxyType(
    {
        "frame_by_frame": (opaque(PerFrame(nn.Conv2d(4, 6, 3, padding=1)), 6, streams=True), LED),
        "keyframes_apart_and_together": (
            KeyframeBranchesSpec(keyframe=chain(), between=chain(cut=BetweenKeyframesSpec())),
            LED,
        ),
        "norm_of_zeros": (
            chain(
                none=CausalConv3dSpec(channels=4, kernel=(2, 1, 1), before="zero", bias=False), n=ChannelRMSNormSpec()
            ),
            LED,
        ),
        "block_of_frames": (residual_block(CausalConv3dSpec(channels=4), norm=FrameGroupNormSpec(groups=2)), LED),
    }
)


@dataclass(frozen=True)
class Standard:
    """One of the set: its name, how it is made, and whether the laws of compilers, which take long, look at it."""

    name: str
    make: Callable[[], Subject]
    compiled: bool = False
    model: bool = False

    @cached_property
    def subject(self) -> Subject:
        """The same weights every time, none of them such that it could be left out unseen."""
        torch.manual_seed(0)
        subject = self.make()
        modules = [part.module for part in subject.parts]
        if subject.model is not None:
            modules = [subject.model.module, *([subject.model.released] if subject.model.released else [])]
        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return subject

    @cached_property
    def modules(self) -> frozenset[str]:
        """The modules of the package that it is made of."""
        found = {"vvae.arch." + self.name, f"vvae.arch.{self.name}_names"}
        for part in self.subject.parts:
            found |= {kind.__module__ for module in part.module.modules() for kind in type(module).__mro__}
            found |= {type(spec).__module__ for spec in _tree(part.spec)}
        return frozenset(found)


def _tree(spec: Any) -> Iterator[Any]:
    yield spec
    for child in spec.children().values() if spec is not None else ():
        yield from _tree(child)


def _layers() -> Iterator[Standard]:
    """Each kind compiles once."""
    seen: set[str] = set()
    for name, (spec, signal) in {**STREAMING, **WHOLE, **MORE}.items():
        yield Standard(name, partial(layer_subject, spec, signal), compiled=spec.kind not in seen)
        seen.add(spec.kind)


# --------------------------------------------------------------------------- small models


def local() -> VideoAutoencoderSpec:
    """Sees its own cell and group alone, so that tiles of any kind give what the whole clip gives."""
    lead = FrameConv2dSpec(channels=6, kernel=1)
    return VideoAutoencoderSpec(
        name="local",
        encoder=chain(
            cells=SpaceToDepthSpec(factor=2),
            fewer=AfterLeadSpec(layers={"mix": TemporalDownsampleSpec(channels=6)}, on_lead=lead),
            act=SiLUSpec(),
            moments=FrameConv2dSpec(channels=8, kernel=1),
        ),
        decoder=chain(
            more=AfterLeadSpec(
                layers={"make": TemporalUpsampleSpec(channels=12)}, on_lead=FrameConv2dSpec(channels=12, kernel=1)
            ),
            cells=DepthToSpaceSpec(factor=2),
        ),
        framing=Framing(lead=1, group=2),
        latent=Affine(shift=(0.5, -1.0, 0.25, 0.0), scale=(2.0, 0.5, 1.0, -1.5)),
    )


def causal() -> VideoAutoencoderSpec:
    """A causal convolution, a norm and a change of size on both sides."""
    block = residual_block(CausalConv3dSpec(channels=4), norm=ChannelRMSNormSpec())
    return VideoAutoencoderSpec(
        name="causal",
        encoder=chain(down=SpatialDownsampleSpec(channels=4), block=block, past=CausalConv3dSpec(channels=6, stride=2)),
        decoder=chain(
            past=CausalConv3dSpec(channels=4),
            block=block,
            more=AfterLeadSpec(layers={"repeat": TemporalRepeatSpec()}),
            up=SpatialUpsampleSpec(channels=3),
        ),
        framing=Framing(lead=1, group=2),
        latent=Affine(shift=-0.5, scale=2.0),
    )


def renewed() -> VideoAutoencoderSpec:
    """Every four frames have a content image of their own."""
    look = ResidualSpec(layers={"look": ContentAttentionSpec(content="coarse", heads=2, head_width=4)})
    return VideoAutoencoderSpec(
        name="renewed",
        encoder=chain(
            down=SpatialDownsampleSpec(channels=4),
            fewer=TemporalDownsampleSpec(channels=4),
            past=CausalConv3dSpec(channels=8),
        ),
        decoder=chain(
            past=CausalConv3dSpec(channels=4),
            content=WithContentSpec(layers={"look": look}),
            more=TemporalRepeatSpec(),
            up=SpatialUpsampleSpec(channels=4),
            out=CausalConv3dSpec(channels=3),
        ),
        framing=Framing(group=2),
        content=ContentSpec(stages={"coarse": SpatialDownsampleSpec(channels=4)}, every=4),
        latent=Affine(scale=0.5),
    )


def _own(spec: Callable[[], VideoAutoencoderSpec]) -> Subject:
    return model_subject(VideoAutoencoder(spec()))


FIELDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "iv_vae": {"shift": 0.25, "scale": 0.8},
        "open_sora": {"scale": 0.5},
        "wan": {"latent_channels": 4, "shift": (0.5, -1.0, 0.25, 0.0), "scale": (2.0, 0.5, 1.0, 1.5)},
    }
)
"""Fields beside those of `SMALL`: latents that are shifted and scaled."""
ORDER = ("wan", "image_vae", "tae", "reducio", "iv_vae", "od_vae", "open_sora_causal", "od_vae_streaming", "open_sora")
"""Architectures, those that run fast before the others."""


def _architecture(name: str) -> Subject:
    make = getattr(arch, name)
    model = make(**{**SMALL[name], **FIELDS.get(name, {})}).build()
    subject = model_subject(model, make(**RELEASED[name]).build() if name in RELEASED else None)
    assert subject.model is not None
    return replace(subject, model=replace(subject.model, names=json.loads(NAMES.read_text()).get(name, {})))


def standard() -> list[Standard]:
    """The whole set: what runs fast before what does not."""
    assert set(ORDER) == set(SMALL), "an architecture is missing here"
    own = {"local": local, "causal": causal, "renewed": renewed}
    return [
        *_layers(),
        *(Standard(name, partial(_own, spec), model=True, compiled=True) for name, spec in own.items()),
        *(Standard(name, partial(_architecture, name), model=True) for name in ORDER),
    ]
