"""A clip that is normed piece by piece is normed; each frame of a clip is normed alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vvae import verify
from vvae.layers import Chain, ChannelRMSNorm, ClipGroupNorm, FrameGroupNorm, ReLU, SiLU, Tanh
from vvae.layers.activation import Activation
from vvae.layers.norm import Norm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 6, 2, 40, 33), (2, 6, 3, 5, 300), (1, 6, 1, 1, 1)])
@pytest.mark.parametrize(
    "make",
    [lambda: ChannelRMSNorm(6, parts=2, bias=True), lambda: FrameGroupNorm(6, 2), lambda: ClipGroupNorm(6, 2)],
    ids=["channel_rms", "frame_group", "clip_group"],
)
def test_norm_gives_the_same_with_and_without_gradients(
    make: Callable[[], Norm], size: tuple[int, ...], dtype: torch.dtype
) -> None:
    norm = make().to(dtype)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(size, dtype=dtype)
    x[..., :1] = 0  # a pixel without a direction
    whole = norm(x)
    with torch.no_grad():
        pieces = norm(x)
    assert pieces.dtype == dtype
    # one step of bfloat16 where both are rounded from float32 to different sides
    assert verify.difference(pieces, whole) <= {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-8}[dtype]


@pytest.mark.parametrize(
    "make", [lambda: ChannelRMSNorm(8, parts=2), lambda: FrameGroupNorm(8, 4), lambda: ClipGroupNorm(8, 4)]
)
@pytest.mark.parametrize("act", [SiLU(), ReLU(), Tanh()], ids=["silu", "relu", "tanh"])
def test_norm_and_activation_together_give_what_they_give_one_by_one(make: Callable[[], Norm], act: Activation) -> None:
    norm, seen = make(), []
    both, x = Chain({"norm": norm, "act": act}), torch.randn(2, 8, 3, 40, 33)
    with torch.no_grad():
        together = both(x)
        # an activation may round the last digit by where in memory a number stands
        assert verify.difference(together, act(norm(x))) <= 1e-6
        hook = norm.register_forward_hook(lambda module, inputs, out: seen.append(out))
        watched = both(x)
        hook.remove()
        assert torch.equal(watched, act(norm(x)))
        assert torch.equal(seen[0], norm(x))
        assert both(x[:, :, :0]).shape == (2, 8, 0, 40, 33)


@torch.no_grad()
def test_norm_of_a_view_is_the_norm_of_its_copy() -> None:
    x = torch.randn(2, 8, 5, 40, 41, dtype=torch.float64)
    for norm in (ChannelRMSNorm(4).double(), FrameGroupNorm(4, 2).double()):
        for view in (x[:, 4:, 1:, 3:, :40], x.transpose(3, 4)[:, ::2], x[:, :1].expand(2, 4, 5, 40, 41)):
            assert torch.equal(norm(view), norm(view.clone(memory_format=torch.contiguous_format)))


@pytest.mark.parametrize("groups", [1, 2, 6])
@torch.no_grad()
def test_group_norm_of_a_frame_has_its_own_mean_and_size(groups: int) -> None:
    norm = FrameGroupNorm(6, groups, eps=1e-6).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 6, 3, 5, 7, dtype=torch.float64) * torch.tensor([0.1, 1, 30]).view(3, 1, 1) + 4
    weight, bias = (values.view(6, 1, 1) for values in (norm.weight, norm.bias))
    for frame in range(3):
        shares = x[:, :, frame].reshape(2, groups, -1)
        centred = shares - shares.mean(2, keepdim=True)
        plain = (centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()).view(2, 6, 5, 7) * weight + bias
        assert verify.difference(norm(x)[:, :, frame], plain) <= 1e-12


@torch.no_grad()
def test_group_norm_of_a_bright_frame_keeps_its_digits() -> None:
    x = torch.randn(1, 8, 2, 64, 64) + 100
    wide = FrameGroupNorm(8, 2).double()(x.double())
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        assert verify.difference(FrameGroupNorm(8, 2)(x.contiguous(memory_format=layout)).double(), wide) <= 2e-5
