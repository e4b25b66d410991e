"""C, the unit of a model's own convolutions: every one that it performs, recorded and run alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vvae.bench.rounds import Sample, timed


@dataclass(frozen=True)
class Convolution:
    """One call of a convolution: shapes of input, weight and output (`b c ...`), and its arguments."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """2 per multiply-add; a transposed one multiplies each number of its input."""
        places = self.input if self.transposed else self.output
        return 2 * places[0] * math.prod(places[2:]) * math.prod(self.weight)


class Recorder(TorchDispatchMode):
    """Counts the distinct convolutions that run under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[Convolution] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self.calls[_call(out, *args)] += 1
        return out


def _call(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Convolution:
    return Convolution(
        input=tuple(x.shape),
        weight=tuple(weight.shape),
        output=tuple(out.shape),
        bias=bias is not None,
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        transposed=transposed,
        output_padding=tuple(output_padding),
        groups=groups,
        dtype=x.dtype,
    )


def record(run: Callable[[], object]) -> Counter[Convolution]:
    """The convolutions of what `run` does, with how often each comes."""
    recorder = Recorder()
    with recorder, torch.no_grad():
        run()
    return recorder.calls


def flops(calls: Mapping[Convolution, int]) -> int:
    return sum(count * call.flops for call, count in calls.items())


class ConvolutionUnit:
    """The same convolutions on random numbers, inputs and weights channels last; each distinct one runs once a round.

    Its seconds count as often as the model performs it.
    """

    def __init__(self, calls: Mapping[Convolution, int]) -> None:
        self.calls = dict(calls)
        # inputs are cut from one pool: what they hold does not matter, and they need not lie in memory side by side
        most: Counter[torch.dtype] = Counter()
        for call in calls:
            most[call.dtype] = max(most[call.dtype], math.prod(call.input), math.prod(call.weight))
        self.pools = {dtype: torch.randn(count).to(dtype) for dtype, count in most.items()}

    @torch.no_grad()
    def sample(self) -> Sample:
        samples = [(timed(self._prepared(call)), count) for call, count in self.calls.items()]
        return Sample(
            seconds=sum(count * sample.seconds for sample, count in samples),
            cpu_seconds=sum(count * sample.cpu_seconds for sample, count in samples),
            load=max(sample.load for sample, _ in samples),
        )

    def _prepared(self, call: Convolution) -> Callable[[], Tensor]:
        pool = self.pools[call.dtype]
        x, weight = _channels_last(pool, call.input), _channels_last(pool, call.weight)
        bias = pool[: call.output[1]] if call.bias else None
        rest = (call.stride, call.padding, call.dilation, call.transposed, call.output_padding, call.groups)
        return lambda: torch.ops.aten.convolution.default(x, weight, bias, *rest)


def _channels_last(pool: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The head of the pool as `b c ...`, the channels innermost in memory."""
    batch, channels, *places = shape
    return pool[: math.prod(shape)].view(batch, *places, channels).movedim(-1, 1)
