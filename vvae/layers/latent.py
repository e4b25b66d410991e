"""What is done to latents inside a model: a draw from their posterior, a shift and a scale."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec


class PosteriorDraw(Layer):
    """Latents from moments: mean + exp(logvar / 2) * noise, with the noise that was drawn for this layer.

    Without noise the mean. Shapes: `b 2*c t h w`, the means before the logvars -> `b c t h w`. logvar is clamped to
    `limits` (least, greatest); the deviation is computed in float32 or wider.
    """

    def __init__(self, limits: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.limits = limits

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        mean, logvar = x.chunk(2, 1)
        noise = ctx.draw(self)
        if noise is None:
            return mean
        logvar = logvar.to(torch.promote_types(x.dtype, torch.float32))
        if self.limits is not None:
            logvar = logvar.clamp(*self.limits)
        return mean + (torch.exp(0.5 * logvar) * noise).to(x.dtype)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels // 2, height, width


class PosteriorDrawSpec(FrameLayerSpec):
    """Latents from moments, by noise that is drawn before the clip passes; without noise the mean."""

    kind: Literal["posterior_draw"] = "posterior_draw"
    limits: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise SpecError(f"limits {self.limits} are in no order; give (least, greatest)")
        return self

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % 2:
            raise SpecError(f"{signal.channels} channels are no mean and logvar; give an even number")
        return signal.with_channels(signal.channels // 2)

    def build(self, signal: Signal) -> PosteriorDraw:
        return PosteriorDraw(self.limits)

    def draws(self, signal: Signal) -> dict[str, Signal]:
        return {"": self.trace(signal)}

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class ShiftScale(Layer):
    """(x - shift) * scale, both fixed numbers. Undone by shift = -shift * scale, scale = 1 / scale."""

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return (x - self.shift) * self.scale if self.shift else x * self.scale

    def extra_repr(self) -> str:
        return f"shift={self.shift}, scale={self.scale}"


class ShiftScaleSpec(FrameLayerSpec):
    """(x - shift) * scale, both fixed numbers."""

    kind: Literal["shift_scale"] = "shift_scale"
    shift: float = 0.0
    scale: float = 1.0

    def trace(self, signal: Signal) -> Signal:
        return signal

    def build(self, signal: Signal) -> ShiftScale:
        return ShiftScale(self.shift, self.scale)

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)
