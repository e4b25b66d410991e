"""Measured reach is that of the definition: brute force on functions whose matrix is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from vvae import Signal, reach
from vvae.layers import CausalConv3dSpec, GroupCausalConv3dSpec
from vvae.verify import TargetError, measure_field, measure_reach, receptive_field, tensor_of

T = 5
ROWS, COLUMNS = np.indices((T, T))
KNOWN: dict[str, tuple[Callable[[Tensor], Any], NDArray[np.bool_]]] = {
    "itself": (lambda x: x, ROWS == COLUMNS),
    "sum of the past": (lambda x: x.cumsum(2), COLUMNS <= ROWS),
    "reversed": (lambda x: x.flip(2), ROWS == T - 1 - COLUMNS),
    "shifted round": (lambda x: x.roll(2, 2), COLUMNS == (ROWS - 2) % T),
    "window of three": (lambda x: nn.functional.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), abs(ROWS - COLUMNS) <= 1),
    "norm over the clip": (lambda x: x / x.square().mean((2, 3, 4), keepdim=True), ROWS >= 0),
    "norm of each frame": (lambda x: x / x.square().mean((3, 4), keepdim=True), ROWS == COLUMNS),
    "every second": (lambda x: x[:, :, ::2], 2 * ROWS[:3] == COLUMNS[:3]),
    "twice each": (lambda x: x.repeat_interleave(2, 2), np.repeat(ROWS == COLUMNS, 2, 0)),
    "constant": (lambda x: torch.ones_like(x), ROWS < 0),
    "first frame alone": (lambda x: x[:, :, :1].expand_as(x), COLUMNS == 0),
}


@pytest.mark.parametrize("by", ["both", "exchange", "gradients"])
@pytest.mark.parametrize("name", list(KNOWN))
def test_measured_reach_is_the_known_one(name: str, by: Any) -> None:
    function, known = KNOWN[name]
    assert np.array_equal(measure_reach(function, T, size=(2, 3), by=by), known)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_any_matrix_is_found_again(rows: list[list[bool]]) -> None:
    weights = torch.tensor(rows, dtype=torch.float64)
    found = measure_reach(lambda x: torch.einsum("oi,bcihw->bcohw", weights, x), 4, channels=1, size=(1, 1))
    assert found.tolist() == rows


def test_deep_reach_that_rounding_hides_is_seen_by_gradients() -> None:
    def faint(x: Tensor) -> Tensor:
        return x + 1e-30 * x.roll(1, 2)

    near, far = np.eye(T, dtype=bool), np.eye(T, dtype=bool) | (COLUMNS == (ROWS - 1) % T)
    assert np.array_equal(measure_reach(faint, T, size=(2, 2), by="exchange"), near)
    assert np.array_equal(measure_reach(faint, T, size=(2, 2), by="gradients"), far)
    assert np.array_equal(measure_reach(faint, T, size=(2, 2)), far)


def test_dependence_without_a_slope_is_seen_by_exchange() -> None:
    def stepped(x: Tensor) -> Tensor:
        return x + (x.roll(1, 2) > 0.5)

    far = np.eye(T, dtype=bool) | (COLUMNS == (ROWS - 1) % T)
    assert np.array_equal(measure_reach(stepped, T, by="gradients"), np.eye(T, dtype=bool))
    assert np.array_equal(measure_reach(stepped, T, by="exchange"), far)
    assert np.array_equal(measure_reach(stepped, T), far)


@pytest.mark.parametrize(
    "spec",
    [CausalConv3dSpec(channels=2), CausalConv3dSpec(channels=2, stride=2), GroupCausalConv3dSpec(channels=2)],
    ids=lambda spec: f"{spec.kind}-{getattr(spec, 'stride', 1)}",
)
def test_measured_reach_of_a_layer_is_what_it_declares(spec: Any) -> None:
    signal = Signal(2, lead=1, group=2)
    found = measure_reach(spec.build(signal).double(), 5, channels=2, size=(4, 4))
    assert np.array_equal(found, spec.reach(signal, 5))


@pytest.mark.parametrize(
    ("kernels", "strides"), [((3,), (1,)), ((3, 5), (1, 1)), ((3, 3, 3), (2, 1, 2)), ((4, 2), (2, 2))]
)
@pytest.mark.parametrize("axis", ["height", "width"])
def test_receptive_field_of_stacked_convolutions_is_the_formula(
    kernels: tuple[int, ...], strides: tuple[int, ...], axis: Any
) -> None:
    field, jump, layers = 1, 1, []
    for kernel, stride in zip(kernels, strides, strict=True):
        field, jump = field + (kernel - 1) * jump, jump * stride
        along = (1, kernel, 1) if axis == "height" else (1, 1, kernel)
        step = (1, stride, 1) if axis == "height" else (1, 1, stride)
        layers.append(nn.Conv3d(2, 2, along, step))
    stack = nn.Sequential(*layers).double()
    size = (24, 2) if axis == "height" else (2, 24)
    matrix = measure_field(stack, 1, channels=2, size=size, axis=axis)
    assert receptive_field(matrix) == field
    starts = [int(np.flatnonzero(row)[0]) for row in matrix]
    assert starts == [jump * row for row in range(len(matrix))]
    other = measure_field(stack, 1, channels=2, size=size, axis="width" if axis == "height" else "height")
    assert np.array_equal(other, np.eye(2, dtype=bool))


def test_receptive_field_counts_from_first_to_last_in_the_widest_row() -> None:
    matrix = np.zeros((3, 8), dtype=bool)
    assert receptive_field(matrix) == 0
    matrix[0, 2] = matrix[1, [1, 5]] = True
    assert receptive_field(matrix) == 5
    assert receptive_field(np.zeros((0, 4), dtype=bool)) == 0


def test_whole_frame_attention_sees_all() -> None:
    matrix = measure_field(lambda x: x - x.mean((3, 4), keepdim=True), 2, channels=1, size=(6, 4))
    assert matrix.shape == (6, 6)
    assert matrix.all()


def test_no_frames_that_come_out_see_none() -> None:
    assert measure_reach(lambda x: x[:, :, :0], 3).shape == (0, 3)
    assert np.array_equal(measure_reach(lambda x: x[:, :, 1:], 3), reach.same_frame(3)[1:])


def test_same_seed_measures_the_same_clip() -> None:
    seen: list[Tensor] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x

    for seed in (0, 0, 1):
        measure_reach(watch, 2, size=(2, 2), by="gradients", seed=seed)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert (seen[0].shape, seen[0].dtype) == ((1, 3, 2, 2, 2), torch.float64)


def test_numbers_that_are_none_are_compared_by_place() -> None:
    def holed(x: Tensor) -> Tensor:
        return torch.where(torch.arange(x.shape[2])[:, None, None] == 1, torch.nan, x)

    assert np.array_equal(measure_reach(holed, 3, by="exchange"), np.diag([True, False, True]))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, None),
        lambda x: [x],
        lambda x: SimpleNamespace(sample=x),
        lambda x: SimpleNamespace(mean=x, sample=lambda: None),
        lambda x: SimpleNamespace(latent_dist=SimpleNamespace(mean=x, sample=lambda: None)),
        lambda x: (SimpleNamespace(latent_dist=SimpleNamespace(mean=x)),),
    ],
)
def test_what_diffusers_gives_is_opened(wrap: Any) -> None:
    x = torch.randn(1, 2, 3, 2, 2, dtype=torch.float64)
    assert tensor_of(wrap(x)) is x
    assert np.array_equal(measure_reach(lambda clip: wrap(clip.cumsum(2)), 3), np.tri(3, dtype=bool))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "NoneType came out"),
        ((), "tuple came out"),
        (SimpleNamespace(sample=lambda: None), "SimpleNamespace came out"),
        (torch.zeros(2, 2), r"a tensor of shape \(2, 2\) came out"),
        (torch.zeros(1, 1, 1, 1, 1, dtype=torch.int64), r"a tensor of shape \(1, 1, 1, 1, 1\) came out"),
    ],
)
def test_what_is_no_clip_is_refused(given: Any, told: str) -> None:
    with pytest.raises(TargetError, match=told):
        tensor_of(given)


def test_shape_that_depends_on_content_is_refused() -> None:
    def cut(x: Tensor) -> Tensor:
        return x[:, :, : 2 + int(x[0, 0, 0, 0, 0] > 0)]

    with pytest.raises(TargetError, match=r"came out, then \(.*\) for other content"):
        measure_reach(cut, 3, by="exchange")
