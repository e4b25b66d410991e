"""Changes of size in time and space: the saved work changes nothing, and what is left over is dropped."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vvae import verify
from vvae.errors import SpecError
from vvae.layers import Average3d, Average3dSpec, Conv3d, Downsample3d, Downsample3dSpec, Upsample3d
from vvae.signal import Signal


def clip(frames: int = 4, height: int = 5, width: int = 6) -> torch.Tensor:
    return verify.random_clip(Signal(3), frames, height, width, batch=2)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("time", "space"), [(2, 2), (2, 1), (1, 2), (1, 1), (3, 2)])
def test_upsampling_is_repetition_and_a_convolution(kernel: int, time: int, space: int) -> None:
    torch.manual_seed(0)
    up, conv = Upsample3d(3, 4, kernel, time=time, space=space).double(), Conv3d(3, 4, kernel).double()
    conv.load_state_dict(up.state_dict())
    repeated = clip().repeat_interleave(time, 2).repeat_interleave(space, 3).repeat_interleave(space, 4)
    with torch.no_grad():
        assert verify.difference(up(clip()), conv(repeated)) <= 1e-12


def test_upsampling_without_bias_is_the_same_without_it() -> None:
    torch.manual_seed(0)
    up = Upsample3d(3, 4).double()
    with torch.no_grad():
        biased = up(clip())
        bias, up.bias = up.bias, None
        assert bias is not None
        assert verify.difference(up(clip()) + bias[:, None, None, None], biased) <= 1e-12


@pytest.mark.parametrize("frames", [2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7)])
def test_downsampling_is_every_second_output_of_a_convolution(frames: int, height: int, width: int) -> None:
    """The one that stands a cell later: nothing is seen in front, zeros behind an even side, one more cell else."""
    torch.manual_seed(0)
    down, conv = Downsample3d(3, 4).double(), Conv3d(3, 4).double()
    conv.load_state_dict(down.state_dict())
    x = clip(frames, height, width)
    with torch.no_grad():
        assert verify.difference(down(x), conv(x)[:, :, 1::2, 1::2, 1::2]) <= 1e-12


@pytest.mark.parametrize("frames", [4, 5])
def test_mean_of_cells_drops_what_is_left_over(frames: int) -> None:
    x = clip(frames, 5, 7)
    assert verify.difference(Average3d()(x), F.avg_pool3d(x, 2)) <= 1e-12
    assert torch.equal(Average3d()(x), Average3d()(x[:, :, :4, :4, :6]))


@pytest.mark.parametrize("spec", [Downsample3dSpec(channels=4), Average3dSpec()], ids=["downsample", "average"])
def test_shrinking_a_broken_clip_gives_what_it_declares(spec: Downsample3dSpec | Average3dSpec) -> None:
    signal = Signal(3, group=4)
    for frames in (2, 5, 7):
        module, x = spec.build(signal).double(), clip(frames)
        verify.check_reach(module, spec.reach(signal, frames), x)
        assert spec.frames(signal, frames) == frames // 2
    with pytest.raises(SpecError, match="give at least 2"):
        spec.frames(signal, 1)
