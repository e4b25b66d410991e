"""The unit of a model's own convolutions: recorded whole, counted as torch counts, run as recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import vvae
from vvae.bench.convolutions import ConvolutionUnit, flops, record
from vvae.bench.work import DIRECTIONS, random_model, source, whole
from vvae.models.small import vvae_small
from vvae.summary import Direction

SPECS = {
    "iv_vae": vvae.arch.iv_vae(width=4, multipliers=(1, 2), temporal=(True,), blocks=1),
    "vvae-small": vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=1),
}
CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "strided": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 9, 8)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2, bias=False), (1, 3, 9, 8)),
    "groups": (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 9, 8)),
    "same": (nn.Conv2d(4, 8, 3, padding="same"), (1, 4, 9, 8)),
    "3d": (nn.Conv3d(3, 4, (3, 1, 2)), (1, 3, 5, 4, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 4, stride=2, output_padding=1), (1, 4, 5, 6)),
}


def counted_by_torch(run: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    return sum(count for op, count in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_flops_of_a_convolution_are_those_that_torch_counts(name: str) -> None:
    layer, shape = CONVOLUTIONS[name]
    x = torch.randn(shape)
    assert flops(record(lambda: layer(x))) == counted_by_torch(lambda: layer(x)) > 0


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", SPECS)
def test_recorded_convolutions_are_all_of_the_model(name: str, direction: Direction) -> None:
    spec = SPECS[name]
    model, x = random_model(spec), next(source(spec, direction, (5, 16, 16)))
    calls = record(lambda: whole(model, direction, x))
    assert flops(calls) == counted_by_torch(lambda: whole(model, direction, x)) > 0


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_unit_runs_each_distinct_convolution_once(name: str) -> None:
    layer, shape = CONVOLUTIONS[name]
    calls = record(lambda: [layer(torch.randn(shape)) for _ in range(3)])
    assert list(calls.values()) == [3]
    assert record(ConvolutionUnit(calls).sample) == Counter(dict.fromkeys(calls, 1))


def test_a_call_is_told_from_others_by_shape_and_dtype() -> None:
    layer = nn.Conv2d(3, 4, 1)
    double = nn.Conv2d(3, 4, 1).double()
    small, large = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 8, 8)
    calls = record(lambda: (layer(small), layer(large), layer(small), double(small.double())))
    assert sorted(calls.values()) == [1, 1, 2]


class Formats(TorchDispatchMode):
    """Whether the operands of each convolution lie channels last."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.found += [channels_last(operand) for operand in args[:2]]
        return func(*args, **(kwargs or {}))


def channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


@pytest.mark.parametrize("name", ["strided", "3d"])
def test_unit_lies_channels_last(name: str) -> None:
    layer, shape = CONVOLUTIONS[name]
    unit = ConvolutionUnit(record(lambda: layer(torch.randn(shape))))
    with Formats() as seen:
        unit.sample()
    assert seen.found == [True, True]
    with Formats() as seen, torch.no_grad():
        layer(torch.randn(shape))
    assert seen.found == [False, False]


def test_seconds_count_as_often_as_the_model_performs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from vvae.bench import convolutions
    from vvae.bench.rounds import Sample

    monkeypatch.setattr(convolutions, "timed", lambda run: Sample(seconds=2.0, cpu_seconds=1.0, load=0.5))
    layer = nn.Conv2d(3, 4, 1)
    calls = record(lambda: [layer(torch.randn(1, 3, side, 4)) for side in (4, 4, 4, 5)])
    assert ConvolutionUnit(calls).sample() == Sample(seconds=8.0, cpu_seconds=4.0, load=0.5)
