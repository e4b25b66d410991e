"""Convolution and attention as products of matrices: the truth to compare kernels with, by no kernel of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """A linear map of the channels for every tap of the kernel, added up. `b i ...` and `o i ...` -> `b o ...`."""
    x = F.pad(x, [side for pad in reversed(padding) for side in (pad, pad)])
    kernel: tuple[int, ...] = tuple(weight.shape[2:])
    given = [
        (side - gap * (taps - 1) - 1) // step + 1
        for side, taps, step, gap in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    y = bias.view(-1, *[1] * len(kernel))
    for number, tap in enumerate(product(*map(range, kernel))):
        places = tuple(
            slice(first * gap, first * gap + (count - 1) * step + 1, step)
            for first, gap, count, step in zip(tap, dilation, given, stride, strict=True)
        )
        y = y + torch.einsum("oi,bi...->bo...", weight.flatten(2)[:, :, number], x[(slice(None), slice(None), *places)])
    return y


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(channels)) v, for `n heads tokens channels`."""
    return torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, 3) @ v
