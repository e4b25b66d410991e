"""Muon: momentum whose every update is a matrix with equal singular values. K. Jordan and others, 2024."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# a quintic that drives singular values in (0, 1] to about 1 in five rounds; from the publication
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


class Muon(Optimizer):
    """For weights of two axes or more, read as matrices `out, in * kernel`.

    An update has the size that Adam's would have (0.2 per entry, root mean square), so rates mean the same.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, gradient: Tensor, rate: float, momentum: float) -> None:
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(mean, momentum).flatten(1)
        direction = orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)
        weight.add_(direction.view_as(weight), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with equal singular values of about 1, by Newton-Schulz iteration in bfloat16."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x if wide else x.T).to(matrix.dtype)
    return result
