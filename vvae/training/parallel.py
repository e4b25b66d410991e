"""One process or several: what they share, and how a model is spread over them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from vvae.layers import Residual

PATIENCE = timedelta(minutes=10)
"""How long processes in a step wait for one that says nothing. One that ends is seen at once."""
LONG_PATIENCE = timedelta(days=1)
"""How long they wait for what one does for all: rendering clips, judging, writing the model."""


@dataclass(frozen=True)
class World:
    """This process among those of a run: its number, how many there are, the device that it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    waiting: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this one writes what is written once."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes; gradients pass as their sum over all processes."""
        summed: Tensor = x if self.size == 1 else _Sum.apply(x)  # type: ignore[no-untyped-call]
        return summed

    def mean(self, x: Tensor) -> Tensor:
        return self.sum(x.detach()) / self.size

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Each becomes its mean over all processes, in place."""
        for tensor in tensors if self.size > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.size

    def wait(self) -> None:
        """Until all are here, however long what one of them does takes."""
        if self.size > 1:
            dist.barrier(self.waiting)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradient)  # type: ignore[no-untyped-call]
        return summed


def processes() -> int:
    """How many processes `joined` gives."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined() -> Iterator[World]:
    """The world that `torchrun` made, or the one that this process is in already, or this process alone."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield _world(device)
        return
    if "WORLD_SIZE" not in os.environ:
        yield World(device=device)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield _world(device)
    finally:
        dist.destroy_process_group()


def _world(device: torch.device) -> World:
    waiting = dist.new_group(backend="gloo", timeout=LONG_PATIENCE)
    return World(dist.get_rank(), dist.get_world_size(), device, waiting)


# --------------------------------------------------------------------------- models


def blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost residual blocks: what is checkpointed, and what is sharded, one by one."""
    found: list[nn.Module] = []
    for module in model.children():
        found += [module] if isinstance(module, Residual) else blocks(module)
    return found


def checkpoint_blocks(model: nn.Module) -> None:
    """Blocks keep their inputs alone, and compute the rest again for the gradient."""
    for block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def spread(pair: nn.Module, how: Literal["ddp", "fsdp"], world: World, whole: Sequence[nn.Parameter] = ()) -> nn.Module:
    """The module over all processes: a copy in each (ddp), or its blocks' parameters sharded (fsdp).

    `whole` are parameters that no process has a shard of alone.
    """
    if world.size == 1:
        return pair
    if how == "ddp":
        # of single frames, layers that look at several learn nothing
        return DistributedDataParallel(pair, find_unused_parameters=True)
    for block in blocks(pair):
        fully_shard(block, ignored_params=set(whole))
    fully_shard(pair, ignored_params=set(whole))
    return pair


@contextmanager
def together(pair: nn.Module, last: bool) -> Iterator[None]:
    """A pass whose gradients are exchanged with other processes only where it is the last before a step."""
    if isinstance(pair, FSDPModule):
        pair.set_requires_gradient_sync(last)
    if isinstance(pair, DistributedDataParallel) and not last:
        with pair.no_sync():
            yield
        return
    yield
