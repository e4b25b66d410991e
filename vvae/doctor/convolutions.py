"""The convolutions that models are made of, in every dtype and layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vvae.doctor import reference
from vvae.doctor.row import Gap, Row, measured, widest
from vvae.doctor.truth import LIMITS, gaps

LAYOUTS = ("contiguous", "channels last")
MOST_TF32 = 1e-2
"""What float32 may be off where a GPU rounds what goes in to 10 bits: less than 2^-10 a number, and it is no fault."""


@dataclass(frozen=True)
class Form:
    """A convolution: clip `b c ...`, channels that come out, kernel; one number for each axis of the kernel."""

    name: str
    clip: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()

    @property
    def options(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Stride, padding, dilation."""
        ones, zeros = (1,) * len(self.kernel), (0,) * len(self.kernel)
        return self.stride or ones, self.padding or zeros, self.dilation or ones

    def inputs(self) -> dict[str, Tensor]:
        """Random clip, weight and bias; what comes out is of size 1."""
        generator = torch.Generator().manual_seed(0)
        shapes = {"clip": self.clip, "weight": (self.channels, self.clip[1], *self.kernel), "bias": (self.channels,)}
        drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
        return {**drawn, "weight": drawn["weight"] / math.sqrt(self.clip[1] * math.prod(self.kernel))}

    def run(self, clip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if len(self.kernel) == 2:
            return F.conv2d(clip, weight, bias, *self.options)
        return F.conv3d(clip, weight, bias, *self.options)

    def true(self, clip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return reference.convolution(clip, weight, bias, *self.options)


FORMS = {
    "conv2d": (
        Form("3x3", (4, 8, 16, 16), 8, (3, 3), padding=(1, 1)),
        Form("3x3 of 5 channels", (2, 5, 17, 13), 3, (3, 3), padding=(1, 1)),
        Form("3x3 of a lone frame", (1, 32, 24, 24), 32, (3, 3), padding=(1, 1)),
        Form("3x3 with stride 2", (3, 16, 17, 17), 24, (3, 3), (2, 2)),  # downsampling in space
        Form("3x3 with dilation 2", (2, 16, 15, 15), 16, (3, 3), padding=(2, 2), dilation=(2, 2)),
        Form("2x2 over a wider pad", (3, 20, 9, 9), 20, (2, 2), padding=(1, 1)),  # upsampling: taps that share a cell
        Form("1x1", (2, 16, 9, 9), 48, (1, 1)),
        Form("3x1 over lines of pixels", (1, 16, 7, 96), 16, (3, 1), (2, 1), (1, 0)),  # a convolution in time
        Form("3x3 of 160x256 pixels", (2, 4, 160, 256), 4, (3, 3), padding=(1, 1)),
    ),
    "conv3d": (
        Form("3x3x3", (1, 16, 5, 12, 12), 16, (3, 3, 3), padding=(0, 1, 1)),  # causal: the frames in front are given
        Form("3x3x3 of 5 channels", (2, 5, 5, 9, 11), 3, (3, 3, 3), padding=(1, 1, 1)),
        Form("3x3x3 of RGB", (1, 3, 5, 24, 24), 32, (3, 3, 3), padding=(0, 1, 1)),
        Form("3x3x3 of 128 channels", (1, 128, 3, 8, 8), 128, (3, 3, 3), padding=(0, 1, 1)),
        Form("1x3x3 of a lone frame", (1, 32, 1, 24, 24), 32, (1, 3, 3), padding=(0, 1, 1)),
        Form("3x3x3 with stride 2 in time", (1, 32, 7, 12, 12), 32, (3, 3, 3), (2, 1, 1), (0, 1, 1)),
        Form("3x3x3 with stride 2", (1, 24, 5, 17, 17), 40, (3, 3, 3), (2, 2, 2)),
        Form("3x3x3 with stride 2 to one column", (1, 32, 5, 9, 3), 32, (3, 3, 3), (2, 2, 2)),
        Form("3x3x3 with dilation 2 in time", (1, 16, 7, 9, 9), 16, (3, 3, 3), (), (0, 1, 1), (2, 1, 1)),
        Form("2x1x1 with stride 2 in time", (1, 32, 8, 8, 8), 32, (2, 1, 1), (2, 1, 1)),
        Form("3x1x1", (1, 32, 8, 8, 8), 32, (3, 1, 1), padding=(1, 0, 0)),
        Form("2x2x2 over a wider pad", (1, 20, 5, 8, 8), 20, (2, 2, 2), padding=(1, 1, 1)),
        Form("1x1x1", (1, 16, 5, 8, 8), 48, (1, 1, 1)),
        Form("3x3x3 of 160x256 pixels", (1, 4, 4, 160, 256), 4, (3, 3, 3), padding=(0, 1, 1)),
    ),
}
"""Those of the layers, and shapes where kernels of released versions of torch were wrong or are others."""

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def convolution_row(check: str, device: str, dtype: str, layout: str) -> Row:
    """All forms of "conv2d" or "conv3d"; where one is wrong, tried again without the library that torch calls."""
    with exact(device):
        gap = _worst(check, device, dtype, layout)
    row = measured("convolution", device, check, gap, LIMITS[dtype], dtype, layout)
    if row.verdict == "fit" or device == "mps":
        return row
    setting, without = _without_library(device)
    with without:
        again = _worst(check, device, dtype, layout)
    return row.model_copy(update={"remedy": setting if again.figure <= LIMITS[dtype] else ""})


def tf32_row(device: str) -> Row:
    """conv3d in float32 as torch is set."""
    gap = _worst("conv3d", device, "float32", LAYOUTS[1])
    row = measured("convolution", device, "conv3d", gap, LIMITS["float32"], "float32", "as set")
    if row.verdict == "fit" or gap.figure > MOST_TF32:
        return row
    told = "float32 convolutions take TF32 here; torch.backends.cudnn.allow_tf32 = False makes them exact, and slower"
    return row.model_copy(update={"verdict": "hint", "advice": told})


def form_gaps(form: Form, device: str, dtype: str, layout: str) -> Iterator[Gap]:
    """A form, its weight laid out as the clip; behind a clip with channels last also a contiguous one."""

    def place(name: str, tensor: Tensor, weight_layout: str) -> Tensor:
        return laid(tensor.to(device), weight_layout if name == "weight" else layout)

    yield from gaps(form, dtype, lambda name, tensor: place(name, tensor, layout))
    if layout != LAYOUTS[0]:
        for gap in gaps(form, dtype, lambda name, tensor: place(name, tensor, LAYOUTS[0])):
            yield Gap(gap.figure, f"{gap.where} (the weight contiguous)")


def laid(tensor: Tensor, layout: str) -> Tensor:
    """In that layout, where it has one."""
    last = layout != LAYOUTS[0] and tensor.ndim in _LAST
    return tensor.contiguous(memory_format=_LAST[tensor.ndim] if last else torch.contiguous_format)


def exact(device: str) -> AbstractContextManager[None]:
    """float32 without TF32."""
    return _having(torch.backends.cudnn, allow_tf32=False) if device.startswith("cuda") else nullcontext()


def _worst(check: str, device: str, dtype: str, layout: str) -> Gap:
    return widest(gap for form in FORMS[check] for gap in form_gaps(form, device, dtype, layout))


def _without_library(device: str) -> tuple[str, AbstractContextManager[None]]:
    """A setting in words, and in force."""
    if device.startswith("cuda"):
        return "torch.backends.cudnn.enabled = False", _having(torch.backends.cudnn, enabled=False, allow_tf32=False)
    return "torch.backends.mkldnn.enabled = False", _having(torch.backends.mkldnn, enabled=False)


@contextmanager
def _having(library: Any, **settings: bool) -> Iterator[None]:
    before = {name: getattr(library, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(library, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(library, name, value)
