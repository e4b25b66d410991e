"""Laws of learning: gradients are those of the values, whole, checkpointed, and for every parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vvae.context import Kept, StreamStep, module_names
from vvae.signal import Signal
from vvae.verify.clips import split
from vvae.verify.findings import TOLERANCE, LawError, near
from vvae.verify.gradients import weighting, with_gradients
from vvae.verify.laws.modes import in_mode
from vvae.verify.measure import Run, tensor_of

STEPS, SLOPE_LIMIT = (1e-5, 1e-6, 1e-7), 1e-5
"""Central differences in float64 are off by step^2 (1e-10 for the first) and by rounding over the step (1e-9 for the
last); 1e-5 of the slope leaves room for curvature, and a missing or wrong factor is off by all. The smaller steps are
for clamps: fewer values cross their edge on the way."""
ROUGH_STEPS, ROUGH_LIMIT = (1e-5, 1e-4, 1e-3, 1e-2), 2e-2
"""The same where something inside is computed in float32: its rounding over the step is 1e-2 of the slope for the
first, and less for the larger steps."""
FAINT = 1e-2
"""A slope below this part of the output is compared with that: a bias before a norm moves nothing but roundings."""


def check_checkpointing(
    module: nn.Module,
    x: Tensor,
    run: Run | None = None,
    *,
    training: bool = False,
    signal: Signal | None = None,
    plan: Sequence[int] = (),
) -> float:
    """checkpoint(f)(x) = f(x), gradients of x and of parameters too: whole and, by a plan, in a stream; not reentrant.

    Tolerance: that of chunks (TOLERANCE). `training`: what is checkpointed is in training, where nothing may be drawn
    either. `plan` are groups per chunk of a clip of that `signal`.
    """
    forward = run or (lambda clip: module(clip))
    want, grads = with_gradients(module, x, lambda clip: tensor_of(forward(clip)))
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "whole clip": lambda clip: checkpoint(lambda c: tensor_of(forward(c)), clip, use_reentrant=False)
    }
    if signal is not None and plan:
        ways["stream"] = lambda clip: torch.cat(list(_checkpointed_steps(module, split(clip, signal, plan))), 2)
    worst = 0.0
    for what, way in ways.items():
        with in_mode(module, training or module.training):
            found, own = with_gradients(module, x, way)
        worst = max(worst, near("checkpointing", what, found, want, TOLERANCE[x.dtype]))
        for name, gradient in grads.items():
            told = f"gradient of {name}, {what}"
            worst = max(worst, near("checkpointing", told, own[name], gradient, TOLERANCE[x.dtype], parameter=name))
    return worst


def _checkpointed_steps(module: nn.Module, chunks: Sequence[Tensor]) -> Iterator[Tensor]:
    names = module_names(module)
    state: dict[str, Kept] = {}
    for number, chunk in enumerate(chunks):
        step = StreamStep(names, state, last=number == len(chunks) - 1)
        yield checkpoint(module, chunk, step, use_reentrant=False)
        state = step.close()


def check_gradients(
    module: nn.Module, x: Tensor, run: Run | None = None, *, parameters: int = 4, rough: bool = False
) -> float:
    """<df/dv, d> = (f(v + h d) - f(v - h d)) / 2h, for v the clip, all parameters at once, and some of them alone.

    f is a fixed weighting of the output, d a random direction, all in float64. Tolerance: SLOPE_LIMIT of the size that
    slopes in random directions have, ROUGH_LIMIT where something inside is computed in float32 (`rough`).
    """
    forward = run or module
    named: dict[str, Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad}
    y, grads = with_gradients(module, x, lambda clip: tensor_of(forward(clip)))
    faint = FAINT * (y * weighting(y)).norm().item()
    ways: list[dict[str, Tensor]] = [{"the clip": x}, *([named] if named else [])]
    ways += [{name: named[name]} for name in list(named)[:: max(1, -(-len(named) // max(1, parameters)))]]
    return max(_slope(forward, moved, grads, x, faint, rough) for moved in ways)


def _slope(
    forward: Run, moved: dict[str, Tensor], grads: dict[str, Tensor], x: Tensor, faint: float, rough: bool
) -> float:
    generator = torch.Generator().manual_seed(4)
    ways = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for n, v in moved.items()}
    terms = [grads[name] * way for name, way in ways.items()]
    told = sum(term.sum().item() for term in terms)
    scale = math.hypot(faint, *(term.norm().item() for term in terms))
    error, found = math.inf, math.nan
    for step in ROUGH_STEPS if rough else STEPS:
        above, below = (_value(forward, moved, ways, x, sign) for sign in (step, -step))
        found = (above - below) / (2 * step)
        error = min(error, abs(found - told) / scale if scale else abs(found))
        if error <= (ROUGH_LIMIT if rough else SLOPE_LIMIT):
            return error
    what = "the clip" if "the clip" in moved else (next(iter(moved)) if len(moved) == 1 else "all parameters")
    message = f"of {what}: slope {told:.6g}, finite difference {found:.6g}"
    raise LawError("gradients", message, figure=error, variable=what)


def _value(forward: Run, moved: dict[str, Tensor], ways: dict[str, Tensor], x: Tensor, step: float) -> float:
    """The weighted output, a step away from where all is."""
    clip = x + step * ways["the clip"] if "the clip" in moved else x
    inside = {name: value for name, value in moved.items() if name != "the clip"}
    before = {name: value.detach().clone() for name, value in inside.items()}
    with torch.no_grad():
        try:
            for name, value in inside.items():
                value.add_(ways[name], alpha=step)
            y = tensor_of(forward(clip))
            return (y * weighting(y)).sum().item()
        finally:
            for name, value in inside.items():
                value.copy_(before[name])


def check_parameters(module: nn.Module, x: Tensor, run: Run | None = None) -> float:
    """df/dp != 0 for every parameter p that is trained: none is carried along without a use.

    No tolerance. Returns how many there are.
    """
    _, grads = with_gradients(module, x, lambda clip: tensor_of((run or module)(clip)))
    unused = [name for name, gradient in grads.items() if name != "the clip" and not gradient.any()]
    if unused:
        told = f"{len(unused)} of {len(grads) - 1} parameters have no gradient: {', '.join(unused[:3])}"
        raise LawError("parameters", told, figure=float(len(unused)), parameters=unused)
    return float(len(grads) - 1)
