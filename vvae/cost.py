"""What running a module costs, counted on the meta device: nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class OperationCounter(TorchDispatchMode):
    """Counts dispatched operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class LiveBytes(TorchDispatchMode):
    """The most bytes that are alive at once: what goes into and comes out of operations, until it is dropped."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and out.is_meta and out.ndim == 5:
            # a real one keeps the layout of the clip; that of the meta device does not
            out = torch.empty_like(out, memory_format=torch.channels_last_3d)
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter):
                self._add(leaf)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live:
            return
        self.live[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.live.pop(key)


class _FusedAttention(TorchFunctionMode):
    """On the meta device torch takes the attention that stores every pair of positions; on real ones it does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and args[0].is_meta and not kwargs:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args)[0]
        return func(*args, **(kwargs or {}))


def flops(run: Callable[[], object]) -> dict[str, int]:
    """FLOPs (2 per multiply-add) of what `run` does, by module path below the class of the outermost module.

    The whole stands under "Global".
    """
    counter = FlopCounterMode(display=False, depth=99)
    with counter, torch.no_grad():
        run()
    return {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak live bytes of what `run` does, parameters aside."""
    counter = LiveBytes()
    with counter, _FusedAttention(), torch.no_grad():
        run()
    return counter.peak
