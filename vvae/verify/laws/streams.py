"""Laws of streams: a layer that takes a clip in chunks and keeps its state in the step. f is the layer, x the clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vvae.context import Kept, StreamStep, module_names
from vvae.signal import Signal
from vvae.verify.clips import split, stream
from vvae.verify.findings import TOLERANCE, LawError, near
from vvae.verify.gradients import with_gradients


def check_stream(
    module: nn.Module, signal: Signal, x: Tensor, plans: Sequence[Sequence[int]], *, tolerance: float | None = None
) -> float:
    """f(chunk 1), f(chunk 2), ... side by side = f(x) for every plan of chunks; gradients of x and parameters too.

    `plans` are lists of groups per chunk (see `split`): [n] is all groups at once, [1] * n a loop over groups, 0 an
    empty chunk. Tolerance: bit for bit up to a kernel's choice by size (TOLERANCE).
    """
    limit, worst = TOLERANCE[x.dtype] if tolerance is None else tolerance, 0.0
    whole, grads = with_gradients(module, x, lambda clip: module(clip))
    for plan in plans:

        def chunked(clip: Tensor, plan: Sequence[int] = plan) -> Tensor:
            return torch.cat(stream(module, split(clip, signal, plan)), 2)

        given, own = with_gradients(module, x, chunked)
        told = f"chunks of {list(plan)} groups"
        worst = max(worst, near("stream", told, given, whole, limit, plan=list(plan)))
        for name, gradient in grads.items():
            told = f"gradient of {name}, chunks of {list(plan)} groups"
            worst = max(worst, near("stream", told, own[name], gradient, limit, plan=list(plan)))
    return worst


def check_empty(module: nn.Module, signal: Signal, x: Tensor, out: Signal) -> float:
    """f(no frames) = no frames of the traced shape, and the state stays: before the clip and behind it.

    No tolerance.
    """
    names = module_names(module)
    ratio = signal.stride / out.stride
    with torch.no_grad():
        for start in ({}, _state_after(module, x)):
            step = StreamStep(names, start)
            y = module(x[:, :, :0], step)
            want = (x.shape[0], out.channels, 0, int(x.shape[3] * ratio), int(x.shape[4] * ratio))
            if tuple(y.shape) != want:
                raise LawError("empty", f"{tuple(y.shape)} came out of an empty chunk, traced {want}")
            state = step.close()
            if not _same_state(start, state):
                raise LawError("empty", "an empty chunk changed the state")
            rest = x if not start else x[:, :, signal.lead :]
            want, found = (module(rest, StreamStep(names, before, last=True)) for before in (start, state))
            near("empty", "what comes after an empty chunk", found, want, 0.0)
    return 0.0


def check_kept(module: nn.Module, signal: Signal, x: Tensor, plan: Sequence[int]) -> float:
    """bytes held = bytes kept by every step, so no view into the chunk; and what is kept stays as it is in later steps.

    No tolerance.
    Returns the bytes that the last step but one kept.
    """
    state: dict[str, Kept] = {}
    names, worst = module_names(module), 0
    with torch.no_grad():
        chunks = split(x, signal, plan)
        for number, chunk in enumerate(chunks):
            before = {path: tuple(t.clone() for t in kept) for path, kept in state.items()}
            step = StreamStep(names, state, last=number == len(chunks) - 1)
            module(chunk, step)
            if not _same_state(state, before):
                raise LawError("kept", f"step {number} writes into what step {number - 1} kept", plan=list(plan))
            state = step.close()
            for path, tensors in state.items():
                for tensor in tensors:
                    held, own = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
                    if held > own:
                        told = f"{path or 'the layer'} keeps {own} bytes and holds {held}: a view; clone it"
                        raise LawError("kept", told, figure=float(held), plan=list(plan))
                    worst += own
    return float(worst)


def check_interleaved(module: nn.Module, signal: Signal, a: Tensor, b: Tensor, plan: Sequence[int]) -> float:
    """f(a 1), f(b 1), f(a 2), f(b 2), ... = the stream of a alone and that of b alone. No tolerance: the same work."""
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
        near("interleaved", "two streams through one module", torch.cat(parts, 2), own, 0.0, plan=list(plan))
    return 0.0


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
