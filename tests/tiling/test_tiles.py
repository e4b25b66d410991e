"""Tiles over functions whose result is known: against loops by hand, and against the whole clip."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.tiling import by_hand
from tests.tiling.by_hand import in_place, planned
from vvae.cost import peak_bytes
from vvae.errors import TileError
from vvae.tiling import (
    Compression,
    Frames,
    Pixels,
    SpaceTiles,
    TilePlan,
    Tiles,
    TimeTiles,
    blended,
    chunks_in_tiles,
    extended,
    in_tiles,
    overlapping,
    tile_plan,
)
from vvae.tiling.blend import ROWS, blended_rows, ramp

SIDES = st.integers(2, 11)
BY = Compression(2, 4, 1)
DECODE = partial(by_hand.decode_cells, cell=2, group=4, lead=1)


def clip(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(size))) * 2 - 1


def near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@given(
    rows=SIDES,
    columns=SIDES,
    cells=st.sampled_from([4, 5, 6]),
    overlap=st.sampled_from([0.0, 0.125, 0.2, 0.25, 0.5, 0.75]),
    make=st.sampled_from([overlapping, extended]),
)
def test_tiles_are_the_published_loops(rows: int, columns: int, cells: int, overlap: float, make: Any) -> None:
    """For every rule, aligned or not, and functions that see their tile."""
    encode, decode = make(4 * cells, cells, overlap)
    for rule, x, of_cells, direction in (
        (encode, clip(1, 4 * rows, 4 * columns), by_hand.encode_cells, "encode"),
        (decode, clip(1, rows, columns), by_hand.decode_cells, "decode"),
    ):
        run = by_hand.seeing_the_tile(partial(of_cells, cell=4))
        wanted = by_hand.tiles(run, x, rule.window, rule.stride, rule.blend, rule.keep)
        near(in_tiles(in_place(run), x, planned(Tiles(space=rule), x, direction, 4)), wanted)  # type: ignore[arg-type]


@given(
    rows=SIDES,
    columns=SIDES,
    frames=st.integers(1, 30),
    cells=st.sampled_from([4, 8]),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    join=st.sampled_from(["drop", "mean", "ramp"]),
    make=st.sampled_from([overlapping, extended]),
)
def test_aligned_tiles_of_a_local_function_are_the_whole(
    rows: int, columns: int, frames: int, cells: int, overlap: float, join: str, make: Any
) -> None:
    encode, decode = make(2 * cells, cells, overlap)
    groups, positions = TimeTiles(window=9, overlap=1, shared=1), TimeTiles(window=3, overlap=1, shared=1)
    for rule, x, of_cells, direction in (
        (
            Tiles(space=encode, time=groups.replace(join=join)),
            clip(frames, 2 * rows, 2 * columns),
            "encode_cells",
            "encode",
        ),
        (Tiles(space=decode, time=positions.replace(join=join)), clip(frames, rows, columns), "decode_cells", "decode"),
    ):
        run = partial(getattr(by_hand, of_cells), cell=2, group=4, lead=1)
        plan = planned(rule, x, direction, 2, 4, 1)  # type: ignore[arg-type]
        near(in_tiles(in_place(run), x, plan), run(x))


def test_at_least_two_by_two_tiles_and_two_chunks_meet_these_laws() -> None:
    encode, _ = overlapping(8, 4, 0.25)
    assert len(encode.windows(22)) > 2
    assert len(TimeTiles(window=9, overlap=1).windows(30)) > 2


@given(frames=st.integers(1, 40), window=st.integers(2, 12))
def test_chunks_are_the_published_loops(frames: int, window: int) -> None:
    run = by_hand.seeing_the_tile(partial(by_hand.encode_cells, cell=1, group=4, lead=1))
    x = clip(frames, 2, 3)
    plan = planned(Tiles(time=TimeTiles(window=window, overlap=1, shared=1)), x, "encode", 1, 4, 1)
    near(in_tiles(in_place(run), x, plan), by_hand.chunks(run, x, window))


@given(positions=st.integers(1, 15), window=st.integers(1, 5), data=st.data())
def test_the_mean_of_chunks_is_the_published_loop(positions: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    run = by_hand.seeing_the_tile(partial(by_hand.decode_cells, cell=1, group=8))
    rule = Tiles(time=TimeTiles(window=window, overlap=overlap, shared=8 * overlap, join="mean"))
    z = clip(positions, 1, 2)
    plan = planned(rule, z, "decode", 1, 8)
    near(in_tiles(in_place(run), z, plan), by_hand.mean_of_slices(run, z, window, overlap, 8))


@given(window=st.integers(2, 9))
def test_a_ramp_in_time_goes_over_from_one_chunk_to_the_next(window: int) -> None:
    """Two chunks, of zeros and of ones: the weights of the second one show."""
    numbers, z, shared = iter((0.0, 1.0)), clip(window + 1, 1, 1), 4 * (window - 1)
    rule = TimeTiles(window=window, overlap=window - 1, shared=shared, join="ramp")
    plan = planned(Tiles(time=rule), z, "decode", 1, 4)
    found = in_tiles(lambda tile, place: torch.full_like(by_hand.decode_cells(tile, 1, 4), next(numbers)), z, plan)
    wanted = [0.0] * 4 + [i / shared for i in range(shared)] + [1.0] * 4
    near(found[0, 0].flatten(), torch.tensor(wanted, dtype=torch.float64))


@given(
    rows=SIDES,
    frames=st.integers(1, 30),
    time=st.sampled_from([(5, 1, 1), (9, 5, 2), (8, 1, 1), (9, 8, 0)]),
    join=st.sampled_from(["drop", "mean", "ramp"]),
    space=st.sampled_from([(16, 12, 1, 7), (16, 4, 6, 2), (12, 12, 0, 6), (10, 6, 5, 1)]),
)
def test_the_weights_of_all_tiles_add_up_to_one(
    rows: int, frames: int, time: tuple[int, int, int], join: str, space: tuple[int, int, int, int]
) -> None:
    """Aligned or not: what is one everywhere stays so, and the result is as long as the plan says."""
    chunks = TimeTiles(window=time[0], overlap=time[1], shared=time[2], join=join)  # type: ignore[arg-type]
    tiles = SpaceTiles(window=space[0], stride=space[1], blend=space[2], keep=space[3])
    x = torch.ones(1, 1, frames, 2 * rows, 24, dtype=torch.float64)
    try:
        plan = planned(Tiles(time=chunks, space=tiles), x, "encode", 2, 4, 1)
    except TileError as error:
        assert "cannot share" in str(error)  # noqa: PT017
        return
    found = in_tiles(in_place(partial(by_hand.encode_cells, cell=2, group=4, lead=1)), x, plan)
    assert plan.time is not None
    assert found.shape[2:] == (plan.time.length, plan.rows.length, plan.columns.length)
    near(found, torch.ones_like(found))


@given(extent=st.integers(0, 9), before=st.integers(1, 7), after=st.integers(1, 7))
def test_the_weights_of_a_ramp_add_up_to_one(extent: int, before: int, after: int) -> None:
    shape = (1, 1, 1, after, 2)
    one, other = torch.ones(1, 1, 1, before, 2), torch.rand(shape)
    assert torch.equal(ramp(one, torch.ones(shape), extent, ROWS), torch.ones(shape))
    added = ramp(one, torch.zeros(shape), extent, ROWS) + ramp(0 * one, torch.ones(shape), extent, ROWS)
    torch.testing.assert_close(added, torch.ones(shape))
    assert torch.equal(ramp(one, other, 0, ROWS), other)


@given(frames=st.integers(1, 6), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_a_tile_that_covers_everything_is_the_whole(frames: int, rows: int, columns: int) -> None:
    run, x = by_hand.seeing_the_tile(DECODE), clip(frames, rows, columns)
    rule = Tiles(space=SpaceTiles(window=8, stride=6, blend=4, keep=12), time=TimeTiles(window=7, overlap=1, shared=1))
    within = rule.replace(above=(frames, rows, columns), space=SpaceTiles(window=2, stride=1, blend=4, keep=12))
    for each in (rule, within):
        plan = planned(each, x, "decode", 2, 4, 1)
        assert plan.whole
        assert torch.equal(in_tiles(in_place(run), x, plan), run(x))


RULE = blended(BY, Pixels(16), Pixels(4), chunk=Frames(13), shared=Frames(5))
Z = clip(9, 11, 18)


def decoding(join: str = "ramp", x: Tensor = Z) -> TilePlan:
    """At least 2 x 2 tiles and 2 chunks."""
    decode = RULE.decode.replace(time=RULE.decode.time.replace(join=join))  # type: ignore[union-attr]
    plan = tile_plan(RULE.replace(decode=decode), "decode", (x.shape[2], x.shape[3], x.shape[4]), BY)
    assert plan.time is not None
    assert min(len(axis.spans) for axis in (plan.time, plan.rows, plan.columns)) >= 2
    return plan


@pytest.mark.parametrize("join", ["drop", "mean", "ramp"])
def test_a_tensor_of_ones_own_a_sink_and_a_new_tensor_get_the_same(join: str) -> None:
    run, plan = in_place(by_hand.seeing_the_tile(DECODE)), decoding(join)
    wanted = in_tiles(run, Z, plan)
    own = torch.full_like(wanted, torch.nan)
    assert in_tiles(run, Z, plan, into=own) is own
    assert torch.equal(own, wanted)
    sunk = list(chunks_in_tiles(run, Z, plan))
    assert len(sunk) > 1
    assert torch.equal(torch.cat(sunk, 2), wanted)


def test_a_tensor_of_another_shape_is_refused() -> None:
    with pytest.raises(TileError, match=r"into holds \(1, 3, 2, 2, 2\), but \(2, 3, 33, 22, 36\) come out"):
        in_tiles(in_place(DECODE), Z, decoding(), into=torch.zeros(1, 3, 2, 2, 2))


def test_tiles_of_another_size_than_planned_are_refused() -> None:
    with pytest.raises(TileError, match=r"a tile gave \(4, 8, 8\) .* where the plan has \(13, 16, 16\)"):
        in_tiles(lambda tile, place: tile, Z, decoding())
    with pytest.raises(TileError, match="does not fit"):
        in_tiles(in_place(DECODE), Z[:, :, :8], decoding())


def test_progress_is_told_after_every_tile() -> None:
    told: list[tuple[int, int]] = []
    in_tiles(in_place(DECODE), Z, decoding(), progress=lambda done, total: told.append((done, total)))
    assert told == [(done, decoding().tiles) for done in range(1, len(told) + 1)]
    assert told[-1][0] == told[-1][1] >= 8


@pytest.mark.parametrize("finer", [1, 3])
def test_side_inputs_are_cut_alike(finer: int) -> None:
    """A mask at another resolution, one frame for all, and one of each frame."""
    mask = clip(9, 11 * finer, 18 * finer)
    image = clip(1, 11, 18).flip(3)

    def run(tile: Tensor, place: tuple[int, int], mask: Tensor, image: Tensor) -> Tensor:
        return DECODE(tile * by_hand.encode_cells(mask, finer) + image)

    near(in_tiles(run, Z, decoding(), sides={"mask": mask, "image": image}), run(Z, (0, 0), mask, image))


def test_side_inputs_that_tiles_would_break_are_refused() -> None:
    for wrong, told in ((clip(9, 5, 18), "rows"), (clip(7, 11, 18), "frames"), (clip(9, 11, 18)[0], "b c t h w")):
        with pytest.raises(TileError, match=told):
            in_tiles(in_place(DECODE), Z, decoding(), sides={"mask": wrong})


def test_memory_holds_the_result_and_a_tile() -> None:
    """Counted: beside what comes out a tile and what hangs over; with a sink not even what comes out."""
    z = torch.zeros(1, 3, 9, 18, 18, device="meta")
    plan = decoding("drop", z)
    out = 3 * 33 * 36 * 36 * 4
    tile = 3 * 13 * 16 * 16 * 4
    whole = peak_bytes(lambda: in_tiles(in_place(DECODE), z, plan))
    assert out < whole < out + z.numel() * 4 + 6 * tile
    sunk = peak_bytes(lambda: deque(chunks_in_tiles(in_place(DECODE), z, plan), maxlen=0))
    assert sunk < 3 * 13 * 36 * 36 * 4 + z.numel() * 4 + 6 * tile < out


def test_what_a_function_gives_is_not_written_into() -> None:
    x = clip(20, 7, 9)
    kept = x.clone()
    rule = Tiles(space=SpaceTiles(window=4, stride=2, blend=2, keep=2), time=TimeTiles(window=5, overlap=2, shared=2))
    for join in ("drop", "mean", "ramp"):
        each = rule.replace(time=rule.time.replace(join=join))  # type: ignore[union-attr]
        in_tiles(lambda tile, place: tile, x, planned(each, x, "decode", 1))
    assert torch.equal(x, kept)


def test_a_tile_is_told_its_place() -> None:
    seen = []
    x = clip(1, 3, 5)
    plan = planned(Tiles(space=SpaceTiles(window=2, stride=2, keep=2)), x, "decode", 1)
    in_tiles(lambda tile, place: seen.append(place) or tile, x, plan)  # type: ignore[func-returns-value]
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_the_neighbour_of_a_blend_is_blended_itself() -> None:
    """Three rows in which every blend reaches over whole tiles: the first still shows in the third."""
    rows = [[torch.full((1, 1, 1, 4, 1), value)] for value in (1.0, 0.0, 0.0)]
    third = list(blended_rows(rows, lambda length: length))[2][0].flatten()
    wanted = torch.tensor([(1 - i / 4) ** 2 for i in range(4)])
    torch.testing.assert_close(third, wanted)
    values, x = iter((1.0, 0.0, 0.0)), torch.zeros(1, 1, 1, 6, 1)
    plan = planned(Tiles(space=SpaceTiles(window=4, stride=1, blend=4, keep=1)), x, "decode", 1)
    first = TilePlan(plan.time, type(plan.rows)(6, 3, plan.rows.spans[:3]), plan.columns)
    found = in_tiles(lambda tile, place: torch.full_like(tile, next(values)), x, first)
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 1.0, 1.0]))


def test_gradients_flow_through_tiles() -> None:
    x = clip(5, 6, 6).requires_grad_()
    encode, _ = overlapping(4, 2, 0.5)
    run = in_place(partial(by_hand.encode_cells, cell=2))
    in_tiles(run, x, planned(Tiles(space=encode), x, "encode", 2)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
