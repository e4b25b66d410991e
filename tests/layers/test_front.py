"""Clips that are completed in front, and what is dropped again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvae import verify
from vvae.context import Kept, StreamStep, WholeClip, module_names
from vvae.errors import StreamError
from vvae.layers import CausalConv3dSpec, DropFront, FillFront, FillFrontSpec, chain
from vvae.signal import Signal

CLIP = Signal(2, group=4)


def clip(frames: int) -> Tensor:
    return verify.random_clip(CLIP, frames, 2, 3)


def streamed(module: torch.nn.Module, chunks: tuple[Tensor, ...]) -> Tensor:
    names, given = module_names(module), []
    state: dict[str, Kept] = {}
    for chunk in chunks:
        step = StreamStep(names, state, frames=chunk.shape[2])
        given.append(module(chunk, step))
        state = step.close()
    return torch.cat(given, 2)


@pytest.mark.parametrize("frames", range(1, 10))
def test_a_clip_is_completed_by_zeros_and_comes_back(frames: int) -> None:
    x = clip(frames)
    filled = FillFront(4)(x)
    assert filled.shape[2] == FillFrontSpec().frames(CLIP, frames) == -(-frames // 4) * 4
    assert torch.equal(filled[:, :, -frames:], x)
    assert not filled[:, :, :-frames].any()
    assert torch.equal(DropFront(4)(filled, WholeClip(frames=frames)), x)


def test_without_a_length_nothing_is_dropped() -> None:
    assert torch.equal(DropFront(4)(clip(8)), clip(8))


@pytest.mark.parametrize("lengths", [(1, 4, 4), (5, 4), (9,), (0, 1, 0, 8, 0)])
def test_a_stream_is_completed_once_at_its_start(lengths: tuple[int, ...]) -> None:
    x = clip(9)
    chunks = x.split_with_sizes(lengths, 2)
    assert torch.equal(streamed(FillFront(4), chunks), FillFront(4)(x))
    assert torch.equal(streamed(Both(), chunks), x)


class Both(torch.nn.Module):
    """Completed, and dropped again."""

    def __init__(self) -> None:
        super().__init__()
        self.fill, self.drop = FillFront(4), DropFront(4)

    def forward(self, x: Tensor, ctx: StreamStep) -> Tensor:
        y: Tensor = self.drop(self.fill(x, ctx), ctx)
        return y


def test_a_broken_group_later_is_refused() -> None:
    with pytest.raises(StreamError, match=r"give \(frames - 1\) % 4 \+ 1 frames first"):
        streamed(FillFront(4), clip(9).split_with_sizes((4, 5), 2))


@pytest.mark.parametrize("frames", range(1, 10))
def test_filled_frames_depend_on_nothing(frames: int) -> None:
    fill = FillFrontSpec()
    verify.check_reach(fill.build(CLIP), fill.reach(CLIP, frames), clip(frames))
    spec = chain(fill=fill, conv=CausalConv3dSpec(channels=3, stride=4, before="zero"))
    torch.manual_seed(0)
    verify.check_reach(spec.build(CLIP).double(), spec.reach(CLIP, frames), clip(frames))
