"""Discriminators: what they see, how small a clip may be, and their norm; published values: test_parity.py."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from vvae.arch.reducio import patch_3d_halved
from vvae.errors import SpecError, VideoError
from vvae.losses import BatchNorm, Patch2dSpec, Patch3dSpec, PatchConv, PatchConvsSpec, PatchSpec
from vvae.losses.shared import Reduce, alone
from vvae.published.legacy.discriminators import ActNorm, BlurDiscriminator, start_from

SPECS = {
    "2d": Patch2dSpec(width=2),
    "2d_two_layers": Patch2dSpec(width=2, layers=2),
    "2d_act": Patch2dSpec(width=2, layers=2, norm="act"),
    "3d": Patch3dSpec(width=2),
    "3d_kernel4": Patch3dSpec(width=2, kernel=4, time_halvings=1),
    "3d_halved": patch_3d_halved(2),
    "3d_halved_tanh": patch_3d_halved(2, layers=2, last="tanh"),
}
EVERY = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def test_sizes_are_those_of_the_publications() -> None:
    assert Patch2dSpec().receptive_field == (1, 70, 70)
    assert Patch2dSpec().shortest == (1, 24, 24)
    assert Patch3dSpec(kernel=4, time_halvings=1).shortest == (10, 24, 24)
    assert Patch3dSpec().shortest[0] == 1
    count = sum(p.numel() for p in Patch3dSpec().build().parameters())
    assert round(count / 1e6, 2) == 4.67


@EVERY
def test_shortest_clip_gives_a_logit_and_no_shorter_one_does(spec: PatchSpec) -> None:
    module, least = spec.build(1).eval(), spec.shortest
    assert module(torch.zeros(1, 1, *least)).numel() > 0
    for axis in [axis for axis in range(3) if least[axis] > 1]:
        short = [size - (axis == i) for i, size in enumerate(least)]
        with pytest.raises(VideoError, match=rf"at least {least[0]} frames of {least[1]} x {least[2]} pixels"):
            module(torch.zeros(1, 1, *short))


@EVERY
def test_a_logit_sees_its_receptive_field(spec: PatchSpec) -> None:
    """Gradients of one inner logit are nonzero in a block of just that size."""
    field = spec.receptive_field
    module = spec.build(1).double().eval()
    x = torch.randn(1, 1, *(2 * size + 8 if size > 1 else 2 for size in field), dtype=torch.float64).requires_grad_()
    logits = module(x)
    t, h, w = (size // 2 for size in logits.shape[2:])
    logits[0, 0, t, h, w].backward()
    seen = x.grad[0, 0] != 0
    for axis, size in enumerate(field):
        places = seen.any(dim=tuple(i for i in range(3) if i != axis)).nonzero().flatten()
        assert places.max() - places.min() + 1 == size


def test_frames_are_judged_one_by_one_without_time() -> None:
    module, x = Patch2dSpec(width=2, layers=1).build(1).eval(), torch.randn(2, 1, 3, 16, 16)
    torch.testing.assert_close(module(x)[:, :, 1:2], module(x[:, :, 1:2]))


def test_a_discriminator_ends_in_one_channel() -> None:
    with pytest.raises(SpecError, match="2 channels; a discriminator gives 1"):
        PatchConvsSpec(convs=(PatchConv(channels=2, kernel=(1, 4, 4)),) * 2)


@pytest.mark.parametrize("reduce", [alone, lambda x: x], ids=["alone", "several"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_batch_norm_is_that_of_torch(training: bool, reduce: Reduce) -> None:
    x = torch.randn(3, 4, 2, 5, 6, dtype=torch.float64)
    cotangent = torch.randn_like(x)
    found = []
    own = BatchNorm(4, reduce=reduce).double()
    torchs = nn.BatchNorm3d(4).double()
    torchs.load_state_dict({**own.state_dict(), "num_batches_tracked": torch.tensor(0)})
    for norm in (own, torchs):
        norm.train(training)
        given = x.clone().requires_grad_()
        first = norm(given)
        (first * cotangent).sum().backward()
        found.append([first, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class Together:
    """A sum over two processes, of which the other one's shares are known."""

    def __init__(self, others: list[torch.Tensor]) -> None:
        self.others = iter(others)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x + next(self.others)


def test_batch_norm_of_two_processes_is_that_of_the_whole_batch() -> None:
    """The other process's sums come through `reduce`: count, sum, squares around the common mean."""
    x = torch.randn(4, 3, 2, 5, 5, dtype=torch.float64)
    whole = BatchNorm(3).double()
    want = whole(x)
    mean, axes = x.mean((0, 2, 3, 4), keepdim=True), (0, 2, 3, 4)
    for mine, other in itertools.permutations(x.split(2)):
        shares = [
            torch.tensor(other.numel() / 3, dtype=torch.float64),
            other.sum(axes, keepdim=True),
            (other - mean).square().sum(axes, keepdim=True),
        ]
        half = BatchNorm(3, reduce=Together(shares)).double()
        half.load_state_dict({**whole.state_dict(), "running_mean": torch.zeros(3), "running_var": torch.ones(3)})
        found = half(mine)
        torch.testing.assert_close(found, want[:2] if torch.equal(mine, x[:2]) else want[2:])
        torch.testing.assert_close(half.running_mean, whole.running_mean)
        torch.testing.assert_close(half.running_var, whole.running_var)


def test_act_norm_starts_from_its_first_batch() -> None:
    module, x = Patch2dSpec(width=2, layers=2, norm="act").build(3), torch.randn(2, 3, 2, 32, 32)
    start_from(module, x)
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        for norm in (m for m in module.modules() if isinstance(m, ActNorm)):
            norm.register_forward_hook(lambda _, __, out: seen.append(out))
        module(x)
    assert len(seen) == 2
    for out in seen:
        values = out.transpose(0, 1).flatten(1)
        torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(1), torch.ones(len(values)), atol=1e-3, rtol=0)


def test_blur_discriminator_takes_its_own_size() -> None:
    module = BlurDiscriminator((5, 16, 24), 3, widths=(4, 4, 8), groups=2)
    assert module(torch.zeros(2, 3, 5, 16, 24)).shape == (2, 1)
