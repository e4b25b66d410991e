"""Modules from elsewhere: for images on every frame, and for clips without a spec."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from inspect import signature
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vvae import reach
from vvae.context import WHOLE_CLIP, Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer, fold_frames, unfold_frames
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class PerFrame(Layer):
    """A module for images (`b c h w`) on every frame of a clip.

    >>> PerFrame(nn.Conv2d(3, 8, 3, padding=1))(torch.zeros(2, 3, 5, 16, 16)).shape
    torch.Size([2, 8, 5, 16, 16])
    """

    holds_back = True  # an unknown module says nothing of its output's shape: let it see the empty batch

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        if x.shape[2]:
            return unfold_frames(self.module(fold_frames(x)), x.shape[0])
        one: Tensor = self.module(x.new_zeros(x.shape[0], x.shape[1], *x.shape[3:]))
        return one.unsqueeze(2)[:, :, :0]


class Plain(nn.Module):
    """A module that knows nothing of streams, among layers: it is called without the context."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        out: Tensor = self.module(x)
        return out


class OpaqueSpec(LayerSpec):
    """A module without a spec. It gives `channels` channels and as many frames as it gets; it cannot be saved.

    `sees(frames)` states its reach. The module is copied at every build, and wrapped where it takes no context.
    """

    kind: Literal["opaque"] = "opaque"
    module: nn.Module
    channels: int = Field(gt=0)
    sees: Callable[[int], Reach]
    streams: bool = False

    def trace(self, signal: Signal) -> Signal:
        return signal.with_channels(self.channels)

    def build(self, signal: Signal) -> nn.Module:
        module = deepcopy(self.module)
        return module if len(signature(module.forward).parameters) > 1 else Plain(module)

    def reach(self, signal: Signal, frames: int) -> Reach:
        return self.sees(frames)

    def stream_limit(self, signal: Signal) -> str | None:
        return None if self.streams else "a module without a spec, not said to stream"

    def to_json(self) -> str:
        raise SpecError(f"{type(self.module).__name__} has no spec, so it cannot be saved; write a LayerSpec for it")


def opaque(
    module: nn.Module,
    channels: int,
    *,
    reach: Callable[[int], Reach] = reach.same_frame,
    streams: bool = False,
) -> OpaqueSpec:
    """A module without a spec, of shape `b c t h w` to `b channels t h w`; `reach(frames)` says what it sees.

    It is called as `module(x, ctx)` if it takes two arguments. A module for images stands in `PerFrame(module)`.
    """
    return OpaqueSpec(module=module, channels=channels, sees=reach, streams=streams)
