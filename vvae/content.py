"""What is made of one frame of a clip, the content image, for layers of the decoder to read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from vvae.context import WHOLE_CLIP
from vvae.errors import SpecError, VideoError
from vvae.layers.compose import Chain, ChainSpec, own_layers
from vvae.layers.layer import fold_frames, unfold_frames
from vvae.signal import Signal
from vvae.spec import Layers, Spec


class ContentEncoder(Chain):
    """`layers` one after the other; what each gives is a feature, under the layer's name. Those in `read` are kept.

    Images `b c n h w` in [-1, 1], n of them for each clip (or `b c h w`, one), each by itself; features `b c n h w`.

    >>> ContentEncoder({"a": FrameConv2d(3, 8)}, read={"a"})(torch.zeros(2, 3, 6, 6))["a"].shape
    torch.Size([2, 8, 1, 6, 6])

    Raises:
        VideoError: no images of that many channels.
    """

    def __init__(self, layers: Mapping[str, nn.Module], read: Collection[str], channels: int = 3) -> None:
        super().__init__(layers)
        self.read = frozenset(read)
        self.channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        x = images.unsqueeze(2) if images.ndim == 4 else images
        if x.ndim != 5 or x.shape[1] != self.channels or not x.numel():
            raise VideoError(
                f"content of shape {tuple(images.shape)}; give an image `b c h w` with c = {self.channels}, or images "
                f"`b c n h w`"
            )
        batch, given = x.shape[0], {}
        own = next((parameter.dtype for parameter in self.parameters()), x.dtype)
        x = fold_frames(x).unsqueeze(2).to(own).contiguous(memory_format=torch.channels_last_3d)
        for name, layer in own_layers(self).items():
            x = layer(x, WHOLE_CLIP)
            if name in self.read:
                given[name] = unfold_frames(x.squeeze(2), batch)
        return given


class ContentSpec(Spec):
    """`stages` one after the other, the first of which reads the content image; each gives the feature of its name.

    `frame`: which frame of a piece is its content image. With `every` the content is renewed: a piece falls into
    stretches of so many frames, each with an image of its own, and the decoder goes on from stretch to stretch. A layer
    of the decoder reads a feature by its name, in `trace` from `signal.content` and in `run` from `ctx.content`.
    Source: Reducio-VAE (the middle frame of a piece).
    """

    stages: Layers = Field(min_length=1)
    frame: Literal["first", "middle", "last"] = "middle"
    every: PositiveInt | None = None

    def index(self, frames: int) -> int:
        """Which frame of so many is the content image; the earlier one where two are in the middle."""
        return {"first": 0, "middle": (frames - 1) // 2, "last": frames - 1}[self.frame]

    def images(self, frames: int) -> list[int]:
        """Which frames of a piece of so many are content images: one, or one of each stretch."""
        length = self.every or max(frames, 1)
        return [start + self.index(min(length, frames - start)) for start in range(0, frames, length)]

    def trace(self, pixels: Signal) -> dict[str, Signal]:
        """The feature of each stage.

        Raises:
            SpecError: the stages cannot stand one behind the other, or one does not give one frame for one.
        """
        image, stages = self._image(pixels), ChainSpec(layers=self.stages)
        stages.trace(image)
        features = {name: stage.trace(read) for name, stage, read in stages.inputs(image)}
        for name, feature in features.items():
            if (feature.lead, feature.group) != (0, 1):
                raise SpecError(f"makes {feature.group} frames of one image; it must give one for one", (name,))
        return features

    def build(self, pixels: Signal, read: Collection[str]) -> ContentEncoder:
        """The encoder that gives the features named in `read`, without the stages behind the last of them."""
        stages = self._up_to(read)
        return ContentEncoder(stages.build_children(self._image(pixels)), read, pixels.channels)

    def cell(self, pixels: Signal, read: Collection[str]) -> int:
        """Pixels of which height and width of the image must be multiples, so that no stage meets a broken cell."""
        return self._up_to(read).cell(self._image(pixels))

    def _up_to(self, read: Collection[str]) -> ChainSpec:
        """The stages without those behind the last one in `read`."""
        names = list(self.stages)
        last = max((names.index(name) for name in read), default=-1)
        return ChainSpec(layers=dict(list(self.stages.items())[: last + 1]))

    @staticmethod
    def _image(pixels: Signal) -> Signal:
        return Signal(channels=pixels.channels, stride=pixels.stride)
