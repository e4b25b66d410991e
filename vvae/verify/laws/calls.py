"""Laws of calls: a module is a function, whoever calls it, how often, in which company, in which number format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vvae.verify.clips import unrelated
from vvae.verify.findings import TOLERANCE, LawError, difference, near
from vvae.verify.measure import Run, tensor_of

HALF_LIMIT = 0.25
"""bfloat16 has 8 bits: a rounding is 0.4 % of a value, and some hundred layers add theirs. A wrong kernel is off by
all."""


_OF_TORCH = frozenset(name for name in vars(nn.Module()) if name.startswith("_"))
"""Names of attributes of torch's own: what they hold is compared as parameters and buffers, or is no state."""


class _InterruptError(RuntimeError):
    """Raised inside a layer on purpose."""


def calls_inside(module: nn.Module, run: Callable[[], object]) -> list[nn.Module]:
    """The innermost modules that a run calls, in order, each once."""
    seen: dict[nn.Module, None] = {}
    leaves = [part for part in module.modules() if not list(part.children())]

    def visited(part: nn.Module, _: object) -> None:
        seen.setdefault(part)

    hooks = [leaf.register_forward_pre_hook(visited) for leaf in leaves]
    try:
        with torch.no_grad():
            run()
    finally:
        _remove(hooks)
    return list(seen)


def spread(parts: Sequence[nn.Module], most: int = 3) -> list[nn.Module]:
    """The first, some between and the last."""
    count = min(most, len(parts))
    return [parts[round(i * (len(parts) - 1) / max(1, count - 1))] for i in range(count)]


def _remove(hooks: Sequence[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def check_stateless(module: nn.Module, x: Tensor, run: Run | None = None) -> float:
    """f(x) after other calls = f(x) before: after another clip, a shorter one, a broken one, one that fails inside of a
    layer. No tolerance: the same work is done."""
    forward = run or module
    others = {
        "another clip": unrelated(x),
        "a clip of one frame": x[:, :, :1],
        "a clip of two frames": x[:, :, :2],
        "a clip of too many channels": x.repeat(1, 2, 1, 1, 1),
    }
    with torch.no_grad():
        first = tensor_of(forward(x))
        near("stateless", "the same clip twice", tensor_of(forward(x)), first, 0.0)
        for told, clip in others.items():
            with suppress(Exception):  # whatever a foreign model raises is its own matter
                forward(clip)
            near("stateless", f"after {told}", _again(forward, x, told), first, 0.0, after=told)
        for part in spread(calls_inside(module, lambda: forward(x))):
            hook = part.register_forward_pre_hook(_interrupt)
            with suppress(Exception):
                forward(x)
            hook.remove()
            told = f"a call that failed in {_name(module, part)}"
            near("stateless", f"after {told}", _again(forward, x, told), first, 0.0, after=told)
    return 0.0


def _again(forward: Run, x: Tensor, told: str) -> Tensor:
    try:
        return tensor_of(forward(x))
    except Exception as error:
        raise LawError("stateless", f"after {told} the next call fails: {error!r:.200}", after=told) from error


def _interrupt(*_: object) -> None:
    raise _InterruptError("on purpose")


def _name(module: nn.Module, part: nn.Module) -> str:
    return next((name for name, found in module.named_modules() if found is part), "") or "the layer"


def check_untouched(module: nn.Module, x: Tensor, run: Run | None = None) -> float:
    """f after f(x) = f before: a call leaves no trace on attributes, buffers and parameters. No tolerance."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = _attributes(module)
    with torch.no_grad():
        (run or module)(x)
    if changed := sorted(dict(attributes.items() ^ _attributes(module).items())):
        raise LawError("untouched", f"a call changed {', '.join(changed[:3])}")
    for name, value in module.state_dict().items():
        if not torch.equal(before[name], value):
            raise LawError("untouched", f"a call changed {name}")
    return 0.0


def _attributes(module: nn.Module) -> dict[str, str]:
    """The plain attributes of all modules below, by path: names, numbers, and which tensors they hold."""
    return {
        f"{path}.{name}".lstrip("."): f"{type(value).__name__} "
        f"{id(value) if isinstance(value, Tensor) else repr(value)[:200]}"
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _OF_TORCH
    }


def check_batch(run: Run, x: Tensor, *, tolerance: float | None = None) -> float:
    """f(x and y in one batch)[x] = f(x). Tolerance: that of chunks (TOLERANCE), kernels choose by the batch's size."""
    with torch.no_grad():
        alone, together = tensor_of(run(x)), tensor_of(run(torch.cat([unrelated(x), x])))
    limit = TOLERANCE[x.dtype] if tolerance is None else tolerance
    return near("batch", "a clip beside another one", together[len(x) :], alone, limit)


def check_threads(inside: nn.Module, runs: Sequence[Callable[[], Any]], *, patience: float = 30.0) -> float:
    """f(x) beside f(y) in another thread = f(x) alone: threads are held in one layer, all at each of its calls, then
    one of them at its first call until the others are done.

    No tolerance: the same work is done. `patience`: seconds until a thread that waits for the others gives up.
    """
    with torch.no_grad():
        alone = [tensor_of(run()) for run in runs]
    _check_held(inside, runs, alone, _meeting(len(runs), patience))
    _check_held(inside, runs, alone, _one_behind(len(runs), patience))
    return 0.0


@dataclass(frozen=True)
class _Hold:
    """What a thread does at each call of the layer, and at its end."""

    wait: Callable[[], object]
    done: Callable[[], object]


def _meeting(count: int, patience: float) -> _Hold:
    barrier = threading.Barrier(count, timeout=patience)

    def wait() -> None:
        with suppress(threading.BrokenBarrierError):  # another one is done, or a lock of the model keeps it out
            barrier.wait()

    return _Hold(wait, barrier.abort)


def _one_behind(count: int, patience: float) -> _Hold:
    """The first thread that comes waits until all others are done."""
    first, others, left = threading.Lock(), threading.Event(), iter(range(count - 2, -1, -1))

    def wait() -> None:
        if first.acquire(blocking=False):
            others.wait(patience)

    def done() -> None:
        if not next(left, 0):
            others.set()

    return _Hold(wait, done)


def _check_held(inside: nn.Module, runs: Sequence[Callable[[], Any]], alone: Sequence[Tensor], hold: _Hold) -> None:
    def held(run: Callable[[], Any]) -> Tensor:
        try:
            with torch.no_grad():
                return tensor_of(run())
        finally:
            hold.done()

    def wait(*_: object) -> None:
        hold.wait()

    hook = inside.register_forward_pre_hook(wait)
    with ThreadPoolExecutor(len(runs)) as pool:
        together = [pool.submit(held, run) for run in runs]
    hook.remove()
    for which, (want, result) in enumerate(zip(alone, together, strict=True)):
        if error := result.exception():
            raise LawError("threads", f"thread {which} fails beside the others: {error!r:.200}", thread=which)
        near("threads", f"thread {which} beside the others", result.result(), want, 0.0, thread=which)


def check_layout(module: Run, x: Tensor) -> float:
    """f(x channels-last) = f(x contiguous), and is channels-last. Tolerance: that of chunks (TOLERANCE)."""
    last = torch.channels_last_3d
    with torch.no_grad():
        y, plain = tensor_of(module(x.to(memory_format=last))), tensor_of(module(x.contiguous()))
    if y.stride(1) != 1:
        raise LawError("layout", f"channels-last went in, strides {y.stride()} for {tuple(y.shape)} came out")
    return near("layout", "channels-last and contiguous input", y, plain, TOLERANCE[x.dtype])


CLIPS = ("black", "grey", "bright", "faint", "loud")


def _check_finite(run: Run, half: Run, clip: Tensor, wide: torch.dtype, told: str) -> None:
    """LawError where a value, with gradients kept or not, or a gradient is finite in the wider format alone."""
    for what, want, found in zip(_KINDS, _learnt(run, clip.to(wide)), _learnt(half, clip), strict=True):
        if lost := int((want.isfinite() & ~found.isfinite()).sum()):
            of = f" of a {told} clip" if told else ""
            message = f"{lost} of {found.numel()} {what}{of} are not finite"
            raise LawError("bfloat16", message, figure=float(lost), clip=told or "random")


_KINDS = ("numbers", "numbers with gradients", "gradients")


def _learnt(run: Run, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What comes out without and with gradients, and the gradient of its sum by the clip."""
    leaf = clip.detach().clone().requires_grad_()
    with torch.no_grad():
        plain = tensor_of(run(clip))
    y = tensor_of(run(leaf))
    (gradient,) = torch.autograd.grad(y.sum(), leaf) if y.requires_grad else (torch.zeros_like(leaf),)
    return plain, y.detach(), gradient


def check_bfloat16(run: Run, half: Run, x: Tensor) -> float:
    """|half(x) - f(x)| <= HALF_LIMIT max|f(x)|, and finite wherever f(x) is.

    `half` is f with parameters in bfloat16; x is float64 or float32, and is rounded for both. Tolerance: HALF_LIMIT.
    """
    rounded = x.to(torch.bfloat16)
    with torch.no_grad():
        want, found = tensor_of(run(rounded.to(x.dtype))), tensor_of(half(rounded))
    # black, one grey, bright with few differences, faint, loud: there divisors vanish and differences of squares too
    others = (0 * rounded, 0 * rounded + 0.7, 1 + 0.01 * rounded, 1e-4 * rounded, 1e3 * rounded)
    for told, clip in zip(("", *CLIPS), (rounded, *others), strict=True):
        _check_finite(run, half, clip, x.dtype, told)
    if (error := difference(found, want)) > HALF_LIMIT:
        told = f"differs by {error:.2f} of the largest value (allowed {HALF_LIMIT})"
        raise LawError("bfloat16", told, figure=error)
    return error


def check_compiled(
    run: Run, x: Tensor, *, backend: str = "aot_eager", tolerance: float = 1e-10, fast: Run | None = None
) -> float:
    """torch.compile(f)(x) = f(x). Tolerance: a compiler may order sums anew, which in float64 is far below 1e-10.

    `fast` is f where some layer inside of it is compiled, and not all of it.
    """
    torch._dynamo.reset()
    fast = fast or torch.compile(lambda clip: tensor_of(run(clip)), backend=backend)
    with torch.no_grad():
        want, found = tensor_of(run(x)), fast(x)
    return near("compiled", f"backend {backend}", found, want, tolerance, backend=backend)
