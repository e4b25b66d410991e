"""Values together with gradients, as several laws compare them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def weighting(y: Tensor, seed: int = 3) -> Tensor:
    """Fixed normal weights of y's shape: the sum of y times these is the scalar whose gradients are compared."""
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y)


def with_gradients(module: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What `run` gives, and the gradients of a fixed weighting of it by the clip and by every parameter."""
    leaf = x.detach().clone().requires_grad_()
    named = {"the clip": leaf, **{n: p for n, p in module.named_parameters() if p.requires_grad}}
    y = run(leaf)
    total = (y * weighting(y)).sum()
    found: tuple[Tensor | None, ...] = (None,) * len(named)
    if total.requires_grad:  # zero frames depend on nothing
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    grads = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(named.items(), found, strict=True)}
    return y.detach(), grads
