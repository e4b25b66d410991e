"""LPIPS: where its weights come from, and what it promises beside the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.losses.thin import published_files, thin_file, thin_weights
from vvae import checkpoint
from vvae.errors import CheckpointError, SpecError, VideoError
from vvae.losses import LPIPS, LPIPSSpec, Objective, ObjectiveSpec
from vvae.losses.lpips import convert


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_distance_is_zero_for_equal_frames_alone_and_each_frame_by_itself() -> None:
    lpips = LPIPS(thin_weights())
    a, b = clips(2, 3, 3, 16, 24), clips(2, 3, 3, 16, 24, seed=1)
    b[:, :, 1] = a[:, :, 1]
    distance = lpips(a, b)
    assert distance.shape == (2, 1, 3, 1, 1)
    assert (distance[:, :, 1] == 0).all()
    assert (distance[:, :, ::2] > 0).all()
    torch.testing.assert_close(lpips(a[:, :, 2:], b[:, :, 2:]), distance[:, :, 2:])


def test_one_channel_is_three_equal_ones() -> None:
    lpips = LPIPS(thin_weights())
    a, b = clips(1, 1, 2, 16, 16), clips(1, 1, 2, 16, 16, seed=1)
    assert torch.equal(lpips(a, b), lpips(a.expand(1, 3, 2, 16, 16), b.expand(1, 3, 2, 16, 16)))


def test_nothing_of_it_is_trained_or_saved() -> None:
    lpips = LPIPS(thin_weights())
    assert list(lpips.parameters()) == []
    assert lpips.state_dict() == {}
    assert not any(buffer.requires_grad for buffer in lpips.buffers())
    a, b = clips(1, 3, 1, 16, 16), clips(1, 3, 1, 16, 16, seed=1)
    assert torch.equal(lpips.train()(a, b), lpips.eval()(a, b))


def test_gradients_reach_the_frames() -> None:
    lpips, b = LPIPS(thin_weights()).double(), clips(1, 3, 1, 16, 16, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: lpips(clips(1, 3, 1, 16, 16).double(), x), b, eps=1e-7, atol=1e-5, fast_mode=True
    )


@pytest.mark.parametrize("bias", [True, False], ids=["torch", "mindcv"])
def test_published_files_become_one_that_loads(tmp_path: Path, bias: bool) -> None:
    backbone, linear = (checkpoint.read_pth(file) for file in published_files(tmp_path, bias=bias))
    own = convert(backbone, linear)
    assert own.keys() == thin_weights(bias=bias).keys()
    assert all(torch.equal(own[name], value) for name, value in thin_weights(bias=bias).items())


@pytest.mark.parametrize(
    ("side", "name", "said"),
    [
        (0, "features.10.weight", "--backbone: 1 missing: features.10.weight"),
        (0, "features.10.bias", "--backbone: 1 missing: features.10.bias"),
        (1, "lin3.model.1.weight", "--linear: 1 missing: lin3.model.1.weight"),
    ],
)
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, side: int, name: str, said: str) -> None:
    files = [checkpoint.read_pth(file) for file in published_files(tmp_path)]
    del files[side][name]
    with pytest.raises(CheckpointError, match=said):
        convert(*files)


def test_linear_layers_of_another_network_are_refused(tmp_path: Path) -> None:
    backbone, linear = (checkpoint.read_pth(file) for file in published_files(tmp_path))
    linear["lin2.model.1.weight"] = torch.ones(1, 9, 1, 1)
    with pytest.raises(CheckpointError, match=r"linear3\.weight is 1x9x1x1, expected 1x4x1x1"):
        convert(backbone, linear)


def test_files_that_are_none_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file; fetch vgg16-397923af\.pth"):
        LPIPS.load(tmp_path / "absent.safetensors")
    checkpoint.save_weights(tmp_path / "model.safetensors", {"w": torch.ones(1)}, "{}")
    with pytest.raises(CheckpointError, match="holds a model, not LPIPS; fetch"):
        LPIPS.load(tmp_path / "model.safetensors")
    thin_file(tmp_path)
    damaged = (tmp_path / "lpips.safetensors").read_bytes()
    (tmp_path / "lpips.safetensors").write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        LPIPS.load(tmp_path / "lpips.safetensors")


def test_an_objective_with_it_is_refused_without_the_file(tmp_path: Path) -> None:
    spec = ObjectiveSpec(terms={"distance": LPIPSSpec()})
    with pytest.raises(SpecError, match=r"'distance' has LPIPS.*fetch vgg16-397923af\.pth.*vvae convert lpips"):
        spec.build()
    with pytest.raises(CheckpointError, match=r"no such file; fetch vgg16-397923af\.pth"):
        spec.replace(lpips=str(tmp_path / "absent.safetensors")).check()
    objective = spec.replace(lpips=thin_file(tmp_path)).build()
    a, b = clips(2, 3, 2, 16, 16), clips(2, 3, 2, 16, 16, seed=1)
    report = objective.generator(None, a, b, None, step=0)
    with pytest.raises(SpecError, match="made without its file"):
        Objective(spec).generator(None, a, b, None, step=0)
    torch.testing.assert_close(report.loss, LPIPS(thin_weights())(a, b).mean())
    assert objective.state_dict() == {}


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3, 1, 15, 32), "at least 16 x 16 pixels; found 15 x 32"), ((1, 4, 1, 16, 16), "1 or 3 channels; found 4")],
)
def test_frames_that_it_cannot_compare_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(VideoError, match=said):
        LPIPS(thin_weights())(torch.zeros(shape), torch.zeros(shape))
