"""What several training processes must agree on goes through one callable, `reduce`, given where a thing is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Reduce: TypeAlias = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes, a new tensor.

Gradients pass it as their own sum over all processes, and may be differentiated again, as penalties do.
"""


def alone(x: Tensor) -> Tensor:
    """The reduction of a process that runs alone."""
    return x


def shared_mean(x: Tensor, reduce: Reduce) -> Tensor:
    """The mean of a tensor over all processes."""
    return reduce(x) / reduce(x.new_ones(()))
