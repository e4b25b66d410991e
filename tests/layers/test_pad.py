"""Padding in time: what stands before and after a clip, whole and in a stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vvae import StreamError, verify
from vvae.context import WHOLE_CLIP, Context
from vvae.layers import CausalPad, KeyframeMerge, KeyframeSplit, PerFrame, TimePad, pad_time
from vvae.signal import Signal

CLIP = torch.arange(1.0, 6.0).reshape(1, 1, 5, 1, 1)


def frames(x: Tensor) -> list[float]:
    return x.flatten().tolist()


@pytest.mark.parametrize(
    ("mode", "expected"), [("replicate", [1, 1, 1, 2, 3, 4, 5, 5]), ("zero", [0, 0, 1, 2, 3, 4, 5, 0])]
)
def test_pad_repeats_the_ends_or_puts_zeros(mode: str, expected: list[float]) -> None:
    assert frames(pad_time(CLIP, 2, 1, mode)) == expected
    assert frames(TimePad(2, 1, mode)(CLIP)) == expected
    assert frames(nn.Sequential(CausalPad(3, mode=mode))(CLIP)) == expected[:-1]


class PaddedConv(nn.Module):
    """A causal convolution as anyone would put it together."""

    def __init__(self, kernel: int, dilation: int, mode: str) -> None:
        super().__init__()
        self.pad = CausalPad(kernel, dilation, mode)
        self.conv = nn.Conv3d(2, 3, (kernel, 3, 3), dilation=(dilation, 1, 1), padding=(0, 1, 1))

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        return self.conv(self.pad(x, ctx))


@pytest.mark.parametrize("mode", ["replicate", "zero"])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_causal_pad_before_a_convolution_streams_what_the_whole_clip_gives(
    kernel: int, dilation: int, mode: str
) -> None:
    torch.manual_seed(0)
    signal = Signal(2, lead=1, group=2)
    module, x = PaddedConv(kernel, dilation, mode).double(), verify.random_clip(signal, 7, 4, 4)
    verify.check_stream(module, signal, x, [[0, 1, 1, 1], [3], [1, 2]])
    verify.check_group_causal(module, signal, x, signal)
    verify.check_interleaved(module, signal, x, x.flip(2), [1, 1, 1])


def test_pad_behind_the_clip_cannot_stream() -> None:
    assert frames(verify.stream(TimePad(0, 2), [CLIP])[0]) == [1, 2, 3, 4, 5, 5, 5]
    with pytest.raises(StreamError, match="cannot stream"):
        verify.stream(TimePad(0, 2), [CLIP, CLIP])


@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize("group", [2, 3, 4])
def test_keyframe_split_and_merge_undo_each_other_in_every_chunk(lead: int, group: int) -> None:
    signal = Signal(2, lead=lead, group=group)
    x = verify.random_clip(signal, signal.frames(3), 2, 3)
    pair = nn.Sequential(KeyframeSplit(group, lead), KeyframeMerge(group, lead))
    assert torch.equal(pair(x), x)
    key, between = KeyframeSplit(group, lead)(x)
    numbers = [t for t in range(x.shape[2]) if t < lead or (t - lead) % group == 0]
    assert torch.equal(key, x[:, :, numbers])
    assert torch.equal(between, x[:, :, [t for t in range(x.shape[2]) if t not in numbers]])


def test_per_frame_is_the_module_on_every_frame() -> None:
    conv, x = nn.Conv2d(2, 3, 3, padding=1).double(), verify.random_clip(Signal(2), 4, 5, 6, batch=2)
    module = PerFrame(conv)
    assert all(torch.equal(module(x)[:, :, t], conv(x[:, :, t])) for t in range(4))
    assert module(x[:, :, :0]).shape == (2, 3, 0, 5, 6)
    verify.check_stream(module, Signal(2), x, [[1, 0, 3], [4]])
