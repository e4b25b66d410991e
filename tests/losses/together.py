"""Two training processes played by two threads: `reduce` sums over both, and so do its gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from vvae.losses.shared import Reduce

T = TypeVar("T")
SECONDS = 60


class Table:
    """Where as many threads as sit at it lay down a tensor each, and all take the sum away."""

    def __init__(self, seats: int) -> None:
        self.laid: list[Tensor | None] = [None] * seats
        self.barrier = threading.Barrier(seats, timeout=SECONDS)

    def sum(self, seat: int, x: Tensor) -> Tensor:
        self.laid[seat] = x.detach().clone()
        self.barrier.wait()
        total = torch.stack([part for part in self.laid if part is not None]).sum(0)
        self.barrier.wait()
        return total


class Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Table, seat: int) -> Tensor:
        ctx.table, ctx.seat = table, seat
        return table.sum(seat, x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return Summed.apply(slope, ctx.table, ctx.seat), None, None  # penalties differentiate this, too


def together(seats: int, work: Callable[[int, Reduce], T]) -> list[T]:
    """What `work(seat, reduce)` gives in each of that many processes, which run side by side."""
    table = Table(seats)

    def run(seat: int) -> T:
        return work(seat, lambda x: Summed.apply(x, table, seat))

    with ThreadPoolExecutor(seats) as pool:
        return list(pool.map(run, range(seats)))
