"""Clips to point laws at, and streams of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vvae.context import Kept, StreamStep, module_names
from vvae.errors import StreamError
from vvae.signal import Signal


def random_clip(signal: Signal, frames: int, height: int, width: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    """A clip of that signal, float64, normal noise of unit size: the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, signal.channels, frames, height, width, generator=generator, dtype=torch.float64)


def unrelated(x: Tensor, seed: int = 1) -> Tensor:
    """Content of x's shape that has nothing to do with it, larger than it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) * 3 + 1


def stream(module: nn.Module, chunks: Sequence[Tensor], before: Mapping[str, Kept] | None = None) -> list[Tensor]:
    """What the module gives for chunks one after the other, the last one being the last."""
    names, state, given = module_names(module), dict(before or {}), []
    for number, chunk in enumerate(chunks):
        step = StreamStep(names, state, last=number == len(chunks) - 1)
        given.append(module(chunk, step))
        state = step.close()
    return given


def split(x: Tensor, signal: Signal, groups: Sequence[int]) -> list[Tensor]:
    """x cut in chunks of so many groups; -1: an empty chunk before the lead, which then comes with the next one.

    Raises:
        StreamError: the chunks are not the whole clip.
    """
    chunks, at, led = [], 0, False
    for count in groups:
        end = at if count < 0 else at + signal.group * count + (0 if led else signal.lead)
        led = led or count >= 0
        chunks.append(x[:, :, at:end])
        at = end
    if at != x.shape[2]:
        raise StreamError(f"the plan {list(groups)} covers {at} of {x.shape[2]} frames; give groups for all of them")
    return chunks
