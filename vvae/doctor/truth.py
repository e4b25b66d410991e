"""A function and its gradients on a device, compared with float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vvae.doctor.row import Gap, raised

LIMITS = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 2e-2, "float16": 4e-3}
"""What max|a-b| / max|b| may be.

What goes in is the same number on both sides, so that what is left is rounding inside: a result that is rounded once is
off by 2^-8 in bfloat16 and 2^-11 in float16. The rest leaves room for sums of partial sums. A wrong kernel is off by
something near 1.
"""
SMALL = 2**16
"""Numbers below which threads only wait for each other, for long where something else is running."""


class Case(Hashable, Protocol):
    """A function of three tensors with a true twin."""

    @property
    def name(self) -> str:
        """In a few words."""

    def inputs(self) -> dict[str, Tensor]:
        """What it is tried on, by name: float64, on the CPU."""

    def run(self, a: Tensor, b: Tensor, c: Tensor, /) -> Tensor:
        """By torch's own kernel."""

    def true(self, a: Tensor, b: Tensor, c: Tensor, /) -> Tensor:
        """By products of matrices."""


class Truth(NamedTuple):
    """What goes in, by name, the true output, what pulls at it, and the true gradients by name. All float64."""

    inputs: dict[str, Tensor]
    output: Tensor
    pull: Tensor
    gradients: dict[str, Tensor]


def dtypes(device: str) -> tuple[str, ...]:
    """What can be computed there."""
    return tuple(name for name in LIMITS if not (name == "float64" and device == "mps"))


def off_by(found: Tensor, true: Tensor) -> float:
    """max|found - true| / max|true|, true in float64 on the CPU.

    Infinite for another shape, for what is not finite, and for anything but zeros where all of it should be zero.

    >>> off_by(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 4.0], dtype=torch.float64))
    0.25
    """
    if found.shape != true.shape:
        return math.inf
    off, size = float((found.detach().cpu().double() - true).abs().max()), float(true.abs().max())
    if not math.isfinite(off):
        return math.inf
    return off / size if size else math.inf if off else 0.0


def gaps(case: Case, dtype: str, place: Callable[[str, Tensor], Tensor]) -> Iterator[Gap]:
    """The output, and the gradient of every input. place: puts an input, by name, where and as it shall be computed.

    An error is an infinite gap.
    """
    number = getattr(torch, dtype)
    truth = _truth(case, half=number.itemsize == 2)
    small = all(tensor.numel() < SMALL for tensor in truth.inputs.values())
    try:
        tried = {name: place(name, x.to(number)).detach().requires_grad_() for name, x in truth.inputs.items()}
        with threads(1 if small else torch.get_num_threads()):
            output = case.run(*tried.values())
            output.backward(truth.pull.to(number).to(output.device))
    except Exception as error:
        yield Gap(math.inf, f"{case.name}: {raised(error)}")
        return
    yield Gap(off_by(output, truth.output), f"{case.name}: output")
    for name, tensor in tried.items():
        off = math.inf if tensor.grad is None else off_by(tensor.grad, truth.gradients[name])
        yield Gap(off, f"{case.name}: gradient of the {name}")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
@threads(1)
def _truth(case: Case, *, half: bool) -> Truth:
    """half: on numbers that bfloat16 and float16 both hold; else on such that float32 holds and TF32 does not."""
    inputs = {name: _rounded(tensor, half).requires_grad_() for name, tensor in case.inputs().items()}
    output = case.true(*inputs.values())
    # of one size everywhere and of both signs, so that no part of a gradient is drowned
    pull = torch.where(torch.arange(output.numel()) % 3 == 1, -1.0, 1.0).double().view(output.shape)
    gradients = torch.autograd.grad(output, list(inputs.values()), pull)
    plain = {name: tensor.detach() for name, tensor in inputs.items()}
    return Truth(plain, output.detach(), pull, dict(zip(inputs, gradients, strict=True)))


def _rounded(x: Tensor, half: bool) -> Tensor:
    narrow = x.bfloat16().half() if half else x.float()
    return narrow.double()
