"""Convolutions over time are what pads and torch's own convolution give, at any length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vvae import SpecError, verify
from vvae.layers import (
    FrameConv2dSpec,
    TemporalAttention,
    TemporalConv,
    TemporalConvSpec,
    TemporalConvUpsample,
    TemporalConvUpsampleSpec,
    TemporalRepeat,
    conv25d,
    pad_time,
)
from vvae.layers.pad import PadMode
from vvae.signal import Signal
from vvae.spec import LayerSpec

LENGTHS = pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8])
OUTSIDE = pytest.mark.parametrize("outside", ["replicate", "zero"])


def clip(frames: int) -> Tensor:
    return torch.randn(2, 3, frames, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(frames))


@LENGTHS
@OUTSIDE
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "ahead"), [(3, None), (3, 0), (3, 2), (5, None), (5, 1), (7, 3), (2, None)])
def test_temporal_conv_is_a_pad_and_a_convolution(
    frames: int, outside: PadMode, stride: int, kernel: int, ahead: int | None
) -> None:
    torch.manual_seed(0)
    conv, x = TemporalConv(3, 6, kernel, stride=stride, ahead=ahead, outside=outside).double(), clip(frames)
    after = kernel // 2 if ahead is None else ahead
    padded = pad_time(x, kernel - 1 - after, after, outside)
    plain = F.conv3d(padded, conv.weight, conv.bias, stride=(stride, 1, 1))
    found = conv(x)
    assert found.shape == (2, 6, -(-frames // stride), 4, 5)
    assert verify.difference(found, plain) <= 1e-12
    wanted = torch.autograd.grad(plain.square().sum(), (conv.weight, conv.bias))
    for own, want in zip(torch.autograd.grad(found.square().sum(), (conv.weight, conv.bias)), wanted, strict=True):
        assert verify.difference(own, want) <= 1e-12


@LENGTHS
@OUTSIDE
@pytest.mark.parametrize(("kernel", "factor"), [(3, 2), (1, 2), (5, 2), (3, 3), (3, 1), (7, 3)])
def test_temporal_upsample_is_a_repeat_and_a_convolution(
    frames: int, outside: PadMode, kernel: int, factor: int
) -> None:
    torch.manual_seed(0)
    up, x = TemporalConvUpsample(3, 6, kernel, factor=factor, outside=outside).double(), clip(frames)
    repeated = pad_time(TemporalRepeat(factor)(x), kernel // 2, kernel // 2, outside)
    plain = F.conv3d(repeated, up.weight, up.bias)
    found = up(x)
    assert found.shape == (2, 6, factor * frames, 4, 5)
    assert verify.difference(found, plain) <= 1e-12


SPECS: dict[str, LayerSpec] = {
    "conv": TemporalConvSpec(channels=2),
    "conv_5_zero": TemporalConvSpec(channels=2, kernel=5, outside="zero"),
    "conv_tail": TemporalConvSpec(channels=2, stride=2, ahead=2),
    "conv_stride_2": TemporalConvSpec(channels=2, stride=2),
    "conv_stride_4": TemporalConvSpec(channels=2, stride=4),
    "conv25d": conv25d(2),
    "conv25d_pointwise": conv25d(2, kernel=1),
    "upsample": TemporalConvUpsampleSpec(channels=2),
    "upsample_3": TemporalConvUpsampleSpec(channels=2, kernel=5, factor=3, outside="replicate"),
}


@LENGTHS
@pytest.mark.parametrize("name", SPECS)
def test_declared_reach_is_the_measured_one_at_a_ragged_end(name: str, frames: int) -> None:
    torch.manual_seed(0)
    spec, signal = SPECS[name], Signal(3, group=4)
    module, x = spec.build(signal).double(), clip(frames)
    verify.check_reach(module, spec.reach(signal, frames), x)
    assert spec.frames(signal, frames) == module(x).shape[2]


def test_pointwise_pair_can_stream_and_others_cannot() -> None:
    assert conv25d(2, kernel=1).stream_limit(Signal(3)) is None
    assert str(conv25d(2).stream_limit(Signal(3))).startswith("time: its convolution sees later frames")


@torch.no_grad()
def test_attention_over_time_sees_one_position_alone() -> None:
    torch.manual_seed(0)
    attend = TemporalAttention(6, heads=2).double()
    x = torch.randn(2, 6, 5, 3, 4, dtype=torch.float64)
    whole = attend(x)
    for row in range(3):
        for column in range(4):
            one = (..., slice(row, row + 1), slice(column, column + 1))
            assert verify.difference(attend(x[one]), whole[one]) <= 1e-12
    q, k, v = F.conv2d(x[:, :, :, 0, 0].unsqueeze(3), attend.qkv.weight, attend.qkv.bias).chunk(3, 1)
    q, k, v = (part.reshape(2, 2, 3, 5).transpose(2, 3) for part in (q, k, v))  # b heads t c/heads
    y = ((q @ k.transpose(2, 3) / 3**0.5).softmax(3) @ v).transpose(2, 3).reshape(2, 6, 5, 1)
    assert verify.difference(F.conv2d(y, attend.out.weight, attend.out.bias)[..., 0], whole[:, :, :, 0, 0]) <= 1e-12


WRONG: dict[str, tuple[LayerSpec, Signal, str]] = {
    "pointwise": (TemporalConvSpec(channels=2, kernel=1), Signal(3), "take frame_conv2d"),
    "ahead": (TemporalConvSpec(channels=2, ahead=3), Signal(3), "take 2 at most"),
    "lead": (TemporalConvSpec(channels=2, stride=2), Signal(3, lead=1, group=2), "take a lead of 0"),
    "group": (TemporalConvSpec(channels=2, stride=2), Signal(3, group=3), "cannot be made 2 times shorter"),
    "even": (TemporalConvUpsampleSpec(channels=2, kernel=2), Signal(3), "take an odd kernel"),
    "repeated_lead": (TemporalConvUpsampleSpec(channels=2), Signal(3, lead=1), "wrap it in after_lead"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_found_by_trace(name: str) -> None:
    spec, signal, told = WRONG[name]
    with pytest.raises(SpecError, match=told):
        spec.trace(signal)
    assert FrameConv2dSpec(channels=2).trace(signal).channels == 2


def test_constructors_are_ordinary() -> None:
    assert TemporalConv(3, 4, stride=2)(torch.zeros(1, 3, 5, 2, 2)).shape == (1, 4, 3, 2, 2)
    assert TemporalConvUpsample(3, 4)(torch.zeros(1, 3, 5, 2, 2)).shape == (1, 4, 10, 2, 2)
