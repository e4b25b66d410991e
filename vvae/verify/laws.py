"""Laws of layers and models, as functions that anyone can point at their own: each raises LawError or returns None.

The laws of one layer take its spec and the signal before it (or a module, where no spec is needed).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vvae.context import WHOLE_CLIP, Kept, StreamStep, module_names
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec

TOLERANCE: Mapping[torch.dtype, float] = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest difference between chunks and the whole clip, as a part of the largest value."""


class LawError(AssertionError):
    """A law does not hold; says which one, where and by how much."""


def difference(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|; where b is all zero, 0 for equal and infinity for unequal."""
    if a.shape != b.shape:
        raise LawError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    if not a.numel():
        return 0.0
    gap, size = (a.double() - b.double()).abs().max().item(), b.double().abs().max().item()
    if math.isnan(gap):
        return math.inf
    return gap / size if size else (0.0 if gap == 0 else math.inf)


def random_clip(signal: Signal, frames: int, height: int, width: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    """A clip of that signal, float64, normal noise of unit size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, signal.channels, frames, height, width, generator=generator, dtype=torch.float64)


def stream(module: nn.Module, chunks: Sequence[Tensor], before: Mapping[str, Kept] | None = None) -> list[Tensor]:
    """What the module gives for chunks one after the other, the last one being the last."""
    names, state, given = module_names(module), dict(before or {}), []
    for number, chunk in enumerate(chunks):
        step = StreamStep(names, state, last=number == len(chunks) - 1)
        given.append(module(chunk, step))
        state = step.close()
    return given


def split(x: Tensor, signal: Signal, groups: Sequence[int]) -> list[Tensor]:
    """x cut in chunks of so many groups; -1: an empty chunk before the lead, which then comes with the next one."""
    chunks, at, led = [], 0, False
    for count in groups:
        end = at if count < 0 else at + signal.group * count + (0 if led else signal.lead)
        led = led or count >= 0
        chunks.append(x[:, :, at:end])
        at = end
    if at != x.shape[2]:
        raise LawError(f"the plan {list(groups)} covers {at} of {x.shape[2]} frames")
    return chunks


def check_shape(spec: LayerSpec, signal: Signal, sizes: Sequence[tuple[int, int, int]]) -> None:
    """What trace accepts builds, and the forward pass gives the traced shape at each size (frames, height, width)."""
    out, module = spec.trace(signal), spec.build(signal).double()
    for frames, height, width in sizes:
        with torch.no_grad():
            y = module(random_clip(signal, frames, height, width))
        ratio = signal.stride / out.stride
        want = (1, out.channels, spec.frames(signal, frames), int(height * ratio), int(width * ratio))
        if tuple(y.shape) != want:
            raise LawError(f"traced {want} for {frames} x {height} x {width}, but {tuple(y.shape)} came out")
        if (rows := spec.reach(signal, frames).shape) != (want[2], frames):
            raise LawError(f"reach has shape {rows} for {want[2]} frames out of {frames}")


def check_stream(
    module: nn.Module, signal: Signal, x: Tensor, plans: Sequence[Sequence[int]], *, tolerance: float | None = None
) -> None:
    """The outputs for chunks, one after the other, are the output for the whole clip; gradients too.

    `plans` are lists of groups per chunk, see `split`.
    """
    limit = TOLERANCE[x.dtype] if tolerance is None else tolerance
    whole, grads = _with_gradients(module, x, lambda clip: module(clip))
    for plan in plans:

        def chunked(clip: Tensor, plan: Sequence[int] = plan) -> Tensor:
            return torch.cat(stream(module, split(clip, signal, plan)), 2)

        given, own = _with_gradients(module, x, chunked)
        _near("stream", f"chunks of {list(plan)} groups", given, whole, limit)
        for name, gradient in grads.items():
            _near("stream", f"gradient of {name}, chunks of {list(plan)} groups", own[name], gradient, limit)


def check_reach(
    module: nn.Module, declared: Reach, x: Tensor, run: Callable[[Tensor], Tensor] | None = None, *, seed: int = 1
) -> None:
    """Declared and measured reach agree.

    Where no dependency is declared, exchanging the input frame for unrelated content leaves the output frame exactly
    unchanged; where one is declared, the gradient is not zero.
    """
    forward = run or module
    with torch.no_grad():
        base = forward(x)
        if declared.shape != (base.shape[2], x.shape[2]):
            raise LawError(f"reach: declared {declared.shape}, but {base.shape[2]} frames come out of {x.shape[2]}")
        for column in range(x.shape[2]):
            other = x.clone()
            other[:, :, column] = torch.randn_like(x[:, :, column]) * 3 + seed
            moved = (forward(other) != base).flatten(3).any(3).any(1).any(0).numpy()
            if (wrong := np.flatnonzero(moved & ~declared[:, column])).size:
                raise LawError(f"reach: output frames {wrong.tolist()} depend on input frame {column}, not declared")
    _check_gradients_reach(forward, declared, x)


def _check_gradients_reach(forward: Callable[[Tensor], Tensor], declared: Reach, x: Tensor) -> None:
    leaf = x.detach().clone().requires_grad_()
    y = forward(leaf)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    for row in range(y.shape[2]):
        (gradient,) = torch.autograd.grad((y * weights)[:, :, row].sum(), leaf, retain_graph=True, allow_unused=True)
        seen = torch.zeros(x.shape[2], dtype=torch.bool) if gradient is None else _any_per_frame(gradient)
        if (wrong := np.flatnonzero(declared[row] & ~seen.numpy())).size:
            raise LawError(f"reach: output frame {row} is declared to depend on {wrong.tolist()}, but does not")


def _any_per_frame(x: Tensor) -> Tensor:
    return (x != 0).flatten(3).any(3).any(1).any(0)


def check_group_causal(module: nn.Module, signal: Signal, x: Tensor, out: Signal) -> None:
    """No output group changes when later groups of the input are exchanged for unrelated content."""
    groups = (x.shape[2] - signal.lead) // signal.group
    with torch.no_grad():
        base = module(x)
        for kept in range(groups):
            other = x.clone()
            start, end = signal.frames(kept), out.frames(kept)
            other[:, :, start:] = torch.randn_like(other[:, :, start:]) * 3 + 1
            if not torch.equal(module(other)[:, :, :end], base[:, :, :end]):
                raise LawError(f"group causality: what comes after group {kept} changes what came before it")


def check_prefix(module: nn.Module, signal: Signal, x: Tensor, out: Signal) -> None:
    """A shorter clip gives the start of what the longer clip gives; a lone lead frame gives the first outputs."""
    groups = (x.shape[2] - signal.lead) // signal.group
    with torch.no_grad():
        base = module(x)
        for kept in range(0 if signal.lead else 1, groups):
            short = module(x[:, :, : signal.frames(kept)])
            _near("prefix", f"a clip of {kept} groups", short, base[:, :, : out.frames(kept)], TOLERANCE[x.dtype])


def check_stateless(module: nn.Module, x: Tensor) -> None:
    """No call leaves anything behind: a failed call and a call with another clip change nothing after them."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = _attributes(module)
    with torch.no_grad():
        first = module(x)
        module(torch.randn_like(x))
        with suppress(RuntimeError, ValueError):
            module(x[:, :1].repeat(1, x.shape[1] + 1, 1, 1, 1))
        if not torch.equal(module(x), first):
            raise LawError("state: the same clip gives another result after other calls")
    if attributes != _attributes(module) or any(not torch.equal(before[n], v) for n, v in module.state_dict().items()):
        raise LawError("state: a call changed the module")


def _attributes(module: nn.Module) -> dict[str, str]:
    """The plain attributes of all modules below, by path: names, numbers, and which tensors they hold."""
    return {
        f"{path}.{name}": f"{type(value).__name__} {id(value) if isinstance(value, Tensor) else repr(value)[:200]}"
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if not name.startswith("_")
    }


def check_interleaved(module: nn.Module, signal: Signal, a: Tensor, b: Tensor, plan: Sequence[int]) -> None:
    """Two streams whose steps alternate give what each gives alone."""
    names = module_names(module)
    alone = [torch.cat(stream(module, split(clip, signal, plan)), 2) for clip in (a, b)]
    states: list[Mapping[str, Kept]] = [{}, {}]
    given: list[list[Tensor]] = [[], []]
    chunks = [split(clip, signal, plan) for clip in (a, b)]
    for number in range(len(plan)):
        for which in (0, 1):
            step = StreamStep(names, states[which], last=number == len(plan) - 1)
            given[which].append(module(chunks[which][number], step))
            states[which] = step.close()
    for own, parts in zip(alone, given, strict=True):
        if not torch.equal(torch.cat(parts, 2), own):
            raise LawError("interleaving: two streams through one module disturb each other")


def check_threads(inside: nn.Module, runs: Sequence[Callable[[], Tensor]]) -> None:
    """Threads that are all held inside one layer, at each of its calls, give what each gives alone."""
    alone = [run() for run in runs]
    barrier = threading.Barrier(len(runs), timeout=30)

    def meet(*_: object) -> None:
        barrier.wait()

    def held(run: Callable[[], Tensor]) -> Tensor:
        try:
            return run()
        except Exception:
            barrier.abort()  # the others need not wait for it
            raise

    hook = inside.register_forward_pre_hook(meet)
    with ThreadPoolExecutor(len(runs)) as pool:
        together = [pool.submit(held, run) for run in runs]
    hook.remove()
    for which, (want, result) in enumerate(zip(alone, together, strict=True)):
        if error := result.exception():
            raise LawError(f"threads: thread {which} fails beside the others: {error!r}")
        if not torch.equal(result.result(), want):
            raise LawError(f"threads: thread {which} gives another result beside the others than alone")


def check_checkpointing(module: nn.Module, signal: Signal, x: Tensor, plan: Sequence[int] | None) -> None:
    """Non-reentrant activation checkpointing gives the same values and gradients, whole and (by a plan) in a stream."""

    def whole(clip: Tensor) -> Tensor:
        y: Tensor = checkpoint(module, clip, WHOLE_CLIP, use_reentrant=False)
        return y

    def chunked(clip: Tensor) -> Tensor:
        names, given = module_names(module), []
        state: dict[str, Kept] = {}
        chunks = split(clip, signal, plan or [])
        for number, chunk in enumerate(chunks):
            step = StreamStep(names, state, last=number == len(chunks) - 1)
            given.append(checkpoint(module, chunk, step, use_reentrant=False))
            state = step.close()
        return torch.cat(given, 2)

    want, grads = _with_gradients(module, x, lambda clip: module(clip))
    for what, run in (("whole clip", whole), ("stream", chunked))[: 1 if plan is None else 2]:
        found, own = _with_gradients(module, x, run)
        _near("checkpointing", what, found, want, TOLERANCE[x.dtype])
        for name, gradient in grads.items():
            _near("checkpointing", f"gradient of {name}, {what}", own[name], gradient, TOLERANCE[x.dtype])


def check_layout(module: nn.Module, x: Tensor) -> None:
    """A channels-last clip comes out channels-last, with the values of a contiguous one."""
    last = torch.channels_last_3d
    with torch.no_grad():
        y, plain = module(x.to(memory_format=last)), module(x.contiguous())
    if y.stride(1) != 1:
        raise LawError(f"layout: channels-last went in, strides {y.stride()} for {tuple(y.shape)} came out")
    _near("layout", "channels-last and contiguous input", y, plain, TOLERANCE[x.dtype])


def check_empty(module: nn.Module, signal: Signal, x: Tensor, out: Signal) -> None:
    """An empty chunk, first or later, gives no frames of the traced shape and changes no state."""
    names = module_names(module)
    ratio = signal.stride / out.stride
    with torch.no_grad():
        for start in ({}, _state_after(module, x)):
            step = StreamStep(names, start)
            y = module(x[:, :, :0], step)
            want = (x.shape[0], out.channels, 0, int(x.shape[3] * ratio), int(x.shape[4] * ratio))
            if tuple(y.shape) != want:
                raise LawError(f"empty chunk: {tuple(y.shape)} came out, traced {want}")
            if not _same_state(start, step.close()):
                raise LawError("empty chunk: the state changed")


def _state_after(module: nn.Module, x: Tensor) -> dict[str, Kept]:
    step = StreamStep(module_names(module), {})
    module(x, step)
    return step.close()


def _same_state(a: Mapping[str, Kept], b: Mapping[str, Kept]) -> bool:
    paths = {path for path in (*a, *b) if sum(t.numel() for t in (*a.get(path, ()), *b.get(path, ())))}
    return all(
        len(a.get(path, ())) == len(b.get(path, ()))
        and all(torch.equal(s, t) for s, t in zip(a.get(path, ()), b.get(path, ()), strict=True))
        for path in paths
    )


def _with_gradients(module: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What `run` gives, and the gradients of a fixed weighting of it by the clip and by every parameter."""
    leaf = x.detach().clone().requires_grad_()
    named = {"the clip": leaf, **dict(module.named_parameters())}
    y = run(leaf)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(y.dtype)
    total = (y * weights).sum()
    found: tuple[Tensor | None, ...] = (None,) * len(named)
    if total.requires_grad:  # zero frames depend on nothing
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    grads = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(named.items(), found, strict=True)}
    return y.detach(), grads


def _near(law: str, what: str, found: Tensor, want: Tensor, limit: float) -> None:
    error = difference(found, want)
    if not error <= limit:
        raise LawError(f"{law}: {what}: differs by {error:.1e} of the largest value (allowed {limit:.0e})")
