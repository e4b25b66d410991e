"""Functions of every number by itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from vvae.context import Context
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
