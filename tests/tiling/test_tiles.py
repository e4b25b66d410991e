"""Tiles over functions whose result is known: against loops by hand, and against the whole clip."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.tiling import by_hand
from vvae.tiling import SpaceTiles, Tiles, TimeTiles, extended, in_tiles, overlapping
from vvae.tiling.blend import ROWS, blended_rows, join_chunks, ramp

SIDES = st.integers(2, 11)


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
def test_tiles_are_the_published_loops(rows: int, columns: int, cells: int, overlap: float, make: object) -> None:
    """For every rule, aligned or not, and functions that see their tile."""
    encode, decode = make(4 * cells, cells, overlap)  # type: ignore[operator]
    for rule, x, of_cells in (
        (encode, clip(1, 4 * rows, 4 * columns), by_hand.encode_cells),
        (decode, clip(1, rows, columns), by_hand.decode_cells),
    ):
        run = by_hand.seeing_the_tile(partial(of_cells, cell=4))
        wanted = by_hand.tiles(run, x, rule.window, rule.stride, rule.blend, rule.keep)
        near(in_tiles(lambda tile, place, run=run: run(tile), x, Tiles(space=rule)), wanted)


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
    rows: int, columns: int, frames: int, cells: int, overlap: float, join: str, make: object
) -> None:
    encode, decode = make(2 * cells, cells, overlap)  # type: ignore[operator]
    groups, positions = TimeTiles(window=9, overlap=1, shared=1), TimeTiles(window=3, overlap=1, shared=1)
    for rule, x, of_cells in (
        (Tiles(space=encode, time=groups.replace(join=join)), clip(frames, 2 * rows, 2 * columns), "encode_cells"),
        (Tiles(space=decode, time=positions.replace(join=join)), clip(frames, rows, columns), "decode_cells"),
    ):
        run = partial(getattr(by_hand, of_cells), cell=2, group=4, lead=1)
        near(in_tiles(lambda tile, place, run=run: run(tile), x, rule), run(x))


def test_at_least_two_by_two_tiles_and_two_chunks_meet_these_laws() -> None:
    encode, _ = overlapping(8, 4, 0.25)
    assert len(encode.windows(22)) > 2
    assert len(TimeTiles(window=9, overlap=1).windows(30)) > 2


@given(frames=st.integers(1, 40), window=st.integers(2, 12))
def test_chunks_are_the_published_loops(frames: int, window: int) -> None:
    run = by_hand.seeing_the_tile(partial(by_hand.encode_cells, cell=1, group=4, lead=1))
    rule = Tiles(time=TimeTiles(window=window, overlap=1, shared=1))
    x = clip(frames, 2, 3)
    near(in_tiles(lambda tile, place: run(tile), x, rule), by_hand.chunks(run, x, window))


@given(positions=st.integers(1, 15), window=st.integers(1, 5), data=st.data())
def test_the_mean_of_chunks_is_the_published_loop(positions: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    run = by_hand.seeing_the_tile(partial(by_hand.decode_cells, cell=1, group=8))
    rule = Tiles(time=TimeTiles(window=window, overlap=overlap, shared=8 * overlap, join="mean"))
    z = clip(positions, 1, 2)
    near(in_tiles(lambda tile, place: run(tile), z, rule), by_hand.mean_of_slices(run, z, window, overlap, 8))


@given(lengths=st.lists(st.integers(5, 9), min_size=2, max_size=4), shared=st.integers(0, 5))
def test_a_ramp_in_time_goes_over_from_one_chunk_to_the_next(lengths: list[int], shared: int) -> None:
    chunks = [torch.full((1, 1, length, 1, 1), float(i)) for i, length in enumerate(lengths)]
    joined = join_chunks(chunks, TimeTiles(window=6, overlap=5, shared=shared, join="ramp")).flatten()
    assert len(joined) == sum(lengths) - shared * (len(lengths) - 1)
    if len(lengths) == 2:
        fade = [i / shared for i in range(shared)]
        wanted = [0.0] * (lengths[0] - shared) + fade + [1.0] * (lengths[1] - shared)
        torch.testing.assert_close(joined, torch.tensor(wanted))


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
    run = by_hand.seeing_the_tile(partial(by_hand.decode_cells, cell=2, group=4, lead=1))
    x = clip(frames, rows, columns)
    rule = Tiles(space=SpaceTiles(window=8, stride=6, blend=4, keep=12), time=TimeTiles(window=7, overlap=1, shared=1))
    assert torch.equal(in_tiles(lambda tile, place: run(tile), x, rule), run(x))
    within = rule.replace(above=(frames, rows, columns), space=SpaceTiles(window=2, stride=1, blend=4, keep=12))
    assert torch.equal(in_tiles(lambda tile, place: run(tile), x, within), run(x))


def test_what_a_function_gives_is_not_written_into() -> None:
    x = clip(20, 7, 9)
    kept = x.clone()
    rule = Tiles(space=SpaceTiles(window=4, stride=2, blend=2, keep=2), time=TimeTiles(window=5, overlap=2, shared=2))
    for join in ("drop", "mean", "ramp"):
        in_tiles(lambda tile, place: tile, x, rule.replace(time=rule.time.replace(join=join)))  # type: ignore[union-attr]
    assert torch.equal(x, kept)


def test_a_tile_is_told_its_place() -> None:
    seen = []
    rule = Tiles(space=SpaceTiles(window=2, stride=2, keep=2))
    in_tiles(lambda tile, place: seen.append(place) or tile, clip(1, 3, 5), rule)  # type: ignore[func-returns-value]
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_the_neighbour_of_a_blend_is_blended_itself() -> None:
    """Three rows in which every blend reaches over whole tiles: the first still shows in the third."""
    rows = [[torch.full((1, 1, 1, 4, 1), value)] for value in (1.0, 0.0, 0.0)]
    third = list(blended_rows(rows, lambda length: length))[2][0].flatten()
    torch.testing.assert_close(third, torch.tensor([i / 4 * 0 + (1 - i / 4) ** 2 for i in range(4)]))


def test_gradients_flow_through_tiles() -> None:
    x = clip(5, 6, 6).requires_grad_()
    encode, _ = overlapping(4, 2, 0.5)
    in_tiles(lambda tile, place: by_hand.encode_cells(tile, 2), x, Tiles(space=encode)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
