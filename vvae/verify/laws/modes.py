"""Laws of modes: training or evaluation, gradients kept or not, a short clip or one that passes in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vvae.signal import Signal
from vvae.verify.clips import split, stream
from vvae.verify.findings import LawError, near
from vvae.verify.measure import Run, tensor_of

MODES_LIMIT = 1e-10
"""Without gradients a norm is written in other operators, and sums are taken in another order; a norm may divide by a
pixel's small length, so that their rounding grows. A defect is off by 1e-6 and more."""


def check_modes(
    module: nn.Module,
    x: Tensor,
    run: Run | None = None,
    *,
    training: bool = True,
    signal: Signal | None = None,
    plan: Sequence[int] = (),
) -> float:
    """f(x; training, gradients kept) = f(x; evaluation) = f(x; without gradients), in chunks too; x stays as it was.

    What a clip passes through depends on these: without gradients a long one goes through in slices, and results may
    take the place of what nobody else has. Give one that is long enough. `training`: whether to look at that mode as
    well. `plan` are groups per chunk of a clip of that `signal`. Tolerance: MODES_LIMIT.
    """
    forward = run or module
    want, given, worst = tensor_of(forward(x)).detach(), x.clone(), 0.0
    ways: dict[str, Callable[[], Tensor]] = {"whole": lambda: tensor_of(forward(x))}
    if signal is not None and plan:
        ways["in chunks"] = lambda: torch.cat(stream(module, split(x, signal, plan)), 2)
    modes = [(False, False), (True, True), (True, False)] if training else [(False, False)]
    for trains, keeps in modes:
        for way, call in ways.items():
            told = f"{'training' if trains else 'evaluation'}, gradients {'kept' if keeps else 'not kept'}, {way}"
            with in_mode(module, trains), torch.set_grad_enabled(keeps):
                found = call()
            worst = max(worst, near("modes", told, found.detach(), want, MODES_LIMIT, mode=told))
            if not torch.equal(x, given):
                raise LawError("modes", f"{told}: the clip that went in has been written over", mode=told)
    return worst


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """The module in training or in evaluation, and then as it was."""
    before = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode
