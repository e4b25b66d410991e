"""Functions of every number by itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, Self

from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.layer import Layer
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec


class _ActivationSpec(FrameLayerSpec):
    """Keeps the signal as it is."""

    def trace(self, signal: Signal) -> Signal:
        return signal

    def halo(self, signal: Signal) -> Fraction:
        return Fraction(0)


class Activation(Layer):
    """A layer in which every number stands for itself."""

    unit = 1


class SiLU(Activation):
    """x * sigmoid(x)."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return F.silu(x)


class SiLUSpec(_ActivationSpec):
    """x * sigmoid(x)."""

    kind: Literal["silu"] = "silu"

    def build(self, signal: Signal) -> SiLU:
        return SiLU()


class ReLU(Activation):
    """max(x, 0)."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return F.relu(x)


class ReLUSpec(_ActivationSpec):
    """max(x, 0)."""

    kind: Literal["relu"] = "relu"

    def build(self, signal: Signal) -> ReLU:
        return ReLU()


class Tanh(Activation):
    """tanh(x), within (-1, 1)."""

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x.tanh()


class TanhSpec(_ActivationSpec):
    """tanh(x), within (-1, 1)."""

    kind: Literal["tanh"] = "tanh"

    def build(self, signal: Signal) -> Tanh:
        return Tanh()


class Clamp(Activation):
    """x, kept within [least, greatest]. No gradient passes where x is outside."""

    def __init__(self, least: float = -1.0, greatest: float = 1.0) -> None:
        super().__init__()
        self.least, self.greatest = least, greatest

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        return x.clamp(self.least, self.greatest)

    def extra_repr(self) -> str:
        return f"least={self.least}, greatest={self.greatest}"


class ClampSpec(_ActivationSpec):
    """x, kept within [least, greatest]."""

    kind: Literal["clamp"] = "clamp"
    least: float = -1.0
    greatest: float = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least < self.greatest:
            raise SpecError(
                f"least {self.least} and greatest {self.greatest} leave nothing between; give them in order"
            )
        return self

    def build(self, signal: Signal) -> Clamp:
        return Clamp(self.least, self.greatest)
