"""What is not finite, and where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def first_non_finite(module: nn.Module, run: Callable[[], Tensor]) -> str:
    """In words, the first layer of which numbers, or then gradients, are not finite when `run` gives a loss.

    What a layer gives is looked at in the order of the pass, gradients from the loss backwards.
    """
    found: list[str] = []
    with _watched(module, found):
        loss = run()
        if not found and not torch.isfinite(loss):
            return "the loss, of finite frames"
        if not found:
            loss.backward()
    if not found:
        names = (name for name, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all())
        found.append(f"the gradient of {next(names, 'nothing any more')}")
    return found[0]


@contextmanager
def _watched(module: nn.Module, found: list[str]) -> Iterator[None]:
    hooks = []
    for name, layer in module.named_modules():
        if list(layer.children()):
            continue

        def see(_: nn.Module, __: Any, out: Any, name: str = name) -> None:
            if not _finite(out):
                found.append(f"what {name} gives")

        def see_back(_: nn.Module, given: Any, __: Any, name: str = name) -> None:
            if not _finite(given):
                found.append(f"the gradient that {name} passes on")

        hooks += [layer.register_forward_hook(see), layer.register_full_backward_hook(see_back)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _finite(values: Any) -> bool:
    return all(bool(leaf.isfinite().all()) for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
