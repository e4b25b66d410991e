"""Small layers inside a large one that hold, together, one of every kind: to look at each kind without all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

import torch
from torch import nn

MOST_CALLS = 20
"""Innermost layers that a small layer calls at most."""
Kind: TypeAlias = tuple[Hashable, ...]


def kind(module: nn.Module) -> Kind:
    """What decides which way a module goes: its class, its switches and what it does without, not its sizes."""
    switches = ((name, value) for name, value in vars(module).items() if isinstance(value, bool | str | None))
    return (type(module), *sorted(((n, str(v)) for n, v in switches if n != "training")))


def one_of_every_kind(
    module: nn.Module, run: Callable[[], object], but: Iterable[Kind] = (), most: int = MOST_CALLS
) -> list[str]:
    """Paths of small layers that a run calls, such that every kind that is called is one of them or inside of one.

    Left out are kinds of which even the smallest calls more than `most` innermost layers, and those of `but`.
    """
    calls = _calls(module, run)
    names = {found: name for name, found in module.named_modules()}
    smallest: dict[Kind, nn.Module] = {}
    for found in sorted(calls, key=lambda part: calls[part]):
        smallest.setdefault(kind(found), found)
    chosen: list[str] = []
    seen = set(but)
    for own, found in sorted(smallest.items(), key=lambda pair: -calls[pair[1]]):
        if own not in seen and calls[found] <= most:
            chosen.append(names[found])
            seen |= {kind(part) for part in found.modules() if part in calls}
    return chosen


def kinds_inside(module: nn.Module, paths: Iterable[str]) -> set[Kind]:
    """The kinds of the layers at these paths and inside of them."""
    return {kind(part) for path in paths for part in module.get_submodule(path).modules()}


def _calls(module: nn.Module, run: Callable[[], object]) -> dict[nn.Module, int]:
    """The modules that a run calls, and how many innermost ones each calls at its first call."""
    calls: dict[nn.Module, int] = {}
    begun: list[int] = []
    count = 0

    def before(part: nn.Module, _: object) -> None:
        nonlocal count
        begun.append(count)
        count += not list(part.children())

    def behind(part: nn.Module, _: object, __: object) -> None:
        calls.setdefault(part, count - begun.pop())

    hooks = [part.register_forward_pre_hook(before) for part in module.modules()]
    hooks += [part.register_forward_hook(behind) for part in module.modules()]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return calls
