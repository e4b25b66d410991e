"""What running a module costs, counted on the meta device: nothing is computed."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_CONVOLUTION = torch.ops.aten.convolution.default


class OperationCounter(TorchDispatchMode):
    """Counts dispatched operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class LiveBytes(TorchDispatchMode):
    """The most bytes that are alive at once: what goes into and comes out of operations, until it is dropped.

    `peak` counts tensors; `peak_inside` also what convolutions of the CPU take for themselves while they run.
    Parameters are not counted, nor what shares their memory. `device`: what tensors of the meta device stand for.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.live: dict[int, int] = {}
        self.parameters: set[int] = set()
        self.now = 0
        self.peak = 0
        self.peak_inside = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inside = 0
        if func is _CONVOLUTION:
            how = _convolution(args, self.device if out.is_meta else out.device.type)
            inside = how.inside
            if out.is_meta:  # a real one has the layout that its kernel gives; that of the meta device has not
                out = torch.empty_like(out, memory_format=how.layout)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        self.parameters |= {t.untyped_storage()._cdata for t in tensors if isinstance(t, nn.Parameter)}
        for tensor in tensors:
            self._add(tensor)
        self.peak_inside = max(self.peak_inside, self.now + inside)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live or key in self.parameters:
            return
        self.live[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.live.pop(key)


@dataclass(frozen=True)
class _Convolution:
    """How a convolution runs: the layout that it gives, and the bytes that it takes beside its tensors."""

    layout: torch.memory_format
    inside: int


_known: dict[Any, _Convolution] = {}


def _convolution(args: Any, device: str) -> _Convolution:
    """The same for the arguments of `aten.convolution`."""
    x, weight, _, *options = args
    about = tuple((tuple(t.shape), t.stride(), t.dtype) for t in (x, weight))
    key = (device, torch.get_num_threads(), about, str(options))
    if key not in _known:
        _known[key] = _on_cpu(*args) if device == "cpu" else _Convolution(_kept_layout(x, weight), 0)
    return _known[key]


def _kept_layout(x: Tensor, weight: Tensor) -> torch.memory_format:
    """Channels last where one of both has its channels last, as GPUs do it."""
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return last if x.ndim in (4, 5) and last in map(suggest_memory_format, (x, weight)) else torch.contiguous_format


def _on_cpu(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> _Convolution:
    """torch chooses the kernel of a convolution by its arguments; here it is asked without values."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    given = [None if t is None else t.detach() for t in (x, weight, bias)]
    with mode:
        clip, taps, offset = (None if t is None else FakeTensor(mode, t.to("meta"), _CPU) for t in given)
        assert clip is not None
        assert taps is not None
        kernel = torch._C._select_conv_backend(clip, taps, offset, *options)
        layout = torch._C._conv_determine_backend_memory_format(clip, taps, kernel)
    return _Convolution(layout, _inside(kernel.name, layout, x, weight, *options))


_CPU = torch.device("cpu")


def _inside(
    kernel: str,
    layout: torch.memory_format,
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    *_: Any,
) -> int:
    """oneDNN lays the weight out anew. torch's own kernels write down every window of the clip, and lay it out anew.

    Source: aten/src/ATen/native/ConvolutionMM2d.cpp, ConvolutionMM3d.cpp, NaiveDilatedConvolution.cpp.
    """
    if not kernel.startswith("Slow"):
        return weight.numel() * weight.element_size()
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    pixels = math.prod((side + 2 * pad - gap * (taps - 1) - 1) // step + 1 for side, taps, step, pad, gap in sides)
    plain = math.prod(weight.shape[2:]) == 1 and max(stride) == 1 and not any(padding)
    images = 1 if kernel.startswith("SlowDilated") else x.shape[0]
    windows = 0 if plain else images * weight[0].numel() * pixels
    laid = 0 if x.is_contiguous(memory_format=layout) else x.numel()
    return (windows + laid + weight.numel()) * x.element_size()


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


def live_bytes(run: Callable[[], object], device: str = "cpu") -> LiveBytes:
    """What is alive while `run` runs, parameters aside; tensors of the meta device stand for those of `device`."""
    counter = LiveBytes(device)
    with counter, _FusedAttention(), torch.no_grad():
        run()
    return counter


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak live bytes of what `run` does, parameters aside."""
    return live_bytes(run).peak


def training_bytes(run: Callable[[], object]) -> int:
    """Peak live bytes of forward and backward passes on the meta device: gradients, and what is kept for them too."""
    counter = LiveBytes()
    with counter, _FusedAttention():
        run()
    return counter.peak
