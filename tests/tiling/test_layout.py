"""The laws of plans, in whole numbers."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvae.errors import TileError
from vvae.tiling import Axis, Compression, Frames, Pixels, SpaceTiles, TimeTiles, blended, tile_plan
from vvae.tiling.layout import halo_axis, reach_axis, space_axis, time_axis

LENGTHS = st.integers(1, 60)


def laid(axis: Axis) -> list[int]:
    """How often each sample of the result is laid."""
    count = [0] * axis.length
    for span in axis.spans:
        for sample in range(span.at, span.at + span.keep):
            count[sample] += 1
    return count


def check_axis(axis: Axis) -> None:
    """What holds for every plan: what is read is there, what is laid was given."""
    for span in axis.spans:
        assert 0 <= span.read[0] <= span.read[1] <= axis.reads
        assert span.skip >= 0
        assert span.skip + span.keep <= span.gives
        assert span.fade <= span.gives
    assert all(after.fade <= before.gives for before, after in pairwise(axis.spans))


@st.composite
def aligned_time(draw: st.DrawFn) -> tuple[TimeTiles, Compression]:
    """Decoding chunks that fit the groups of a model."""
    by = Compression(group=draw(st.integers(1, 4)), lead=draw(st.integers(0, 1)))
    window = draw(st.integers(1 + by.lead, 9))
    overlap = draw(st.integers(by.lead, window - 1))
    shared = by.lead + (overlap - by.lead) * by.group
    join = draw(st.sampled_from(["drop", "mean", "ramp"]))
    return TimeTiles(window=window, overlap=overlap, shared=shared, join=join), by


@given(drawn=aligned_time(), positions=LENGTHS)
def test_aligned_chunks_lay_every_frame_once_or_as_they_share(
    drawn: tuple[TimeTiles, Compression], positions: int
) -> None:
    rule, by = drawn
    assert rule.fault("decode", by) is None
    gives = by.gives("decode")[0]
    axis = time_axis(rule, positions, gives)
    check_axis(axis)
    assert axis.length == gives(positions)
    count = laid(axis)
    assert min(count) >= 1
    if rule.join == "drop":
        assert set(count) == {1}
    else:
        shared = {sample for span in axis.spans for sample in range(span.at, span.at + span.fade)}
        assert {sample for sample, times in enumerate(count) if times > 1} == shared
    for span in axis.spans:  # what a chunk gives stands where its own positions do
        first = gives(span.read[0]) if span.read[0] else 0
        assert span.at - span.skip == (first if not span.read[0] else gives(span.read[0] + by.lead) - by.lead)


@given(cells=st.integers(1, 12), common=st.integers(0, 11), length=LENGTHS)
def test_aligned_tiles_lay_every_cell_once_and_fade_in_where_they_overlap(cells: int, common: int, length: int) -> None:
    if common >= cells:
        return
    rule = blended(Compression(4), Pixels(4 * cells), Pixels(4 * common)).decode.space
    assert rule is not None
    axis = space_axis(rule, length, lambda n: 4 * n)
    check_axis(axis)
    assert axis.length == 4 * length
    assert set(laid(axis)) == {1}
    for before, after in pairwise(axis.spans):
        # the last samples of a tile and the first ones of the next stand for the same place
        assert before.at + before.gives - after.fade == after.at
        assert after.fade == min(4 * common, after.gives)


@given(
    core=st.integers(1, 6),
    margin=st.integers(0, 4),
    side=st.integers(1, 200),
    cell=st.sampled_from([1, 2, 4, 8]),
    read=st.sampled_from([1, 2, 8]),
    given=st.sampled_from([1, 2, 8]),
)
def test_tiles_with_a_halo_lay_every_cell_once(
    core: int, margin: int, side: int, cell: int, read: int, given: int
) -> None:
    cell, side = cell * read * given, side * read
    axis = halo_axis(side, core * cell, margin * cell, cell=cell, read=Fraction(read), given=Fraction(given))
    if not axis.length:
        return
    check_axis(axis)
    assert set(laid(axis)) == {1}
    for span in axis.spans:
        start, end = (edge * read for edge in span.read)
        assert span.at * given - span.skip * given == start
        assert start == max(0, span.at * given - margin * cell)
        assert end == side or end >= (span.at + span.keep) * given + margin * cell


@given(
    frames=st.integers(1, 80),
    groups=st.integers(1, 6),
    around=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    group=st.sampled_from([1, 2, 8]),
)
def test_chunks_with_what_reaches_into_them_lay_every_frame_once(
    frames: int, groups: int, around: tuple[int, int], group: int
) -> None:
    axis = reach_axis(frames, groups, around, read=group, given=1, gives=lambda n: -(-n // group))
    check_axis(axis)
    assert set(laid(axis)) == {1}
    for span in axis.spans:
        assert span.read[0] == max(0, (span.at - around[0]) * group)
        assert span.read[1] == min(frames, (span.at + span.keep + around[1]) * group)


def test_a_plan_knows_its_size_its_tiles_and_whether_it_is_aligned() -> None:
    by = Compression(8, 4, 1)
    rule = blended(by, Pixels(64), Pixels(16), chunk=Frames(9), shared=Frames(1))
    plan = tile_plan(rule, "encode", (17, 160, 96), by)
    assert plan.time is not None
    assert (plan.time.length, plan.rows.length, plan.columns.length) == (5, 20, 12)
    assert (len(plan.time.spans), len(plan.rows.spans), len(plan.columns.spans)) == (2, 4, 2)
    assert (plan.tiles, plan.whole, plan.aligned, plan.exact) == (16, False, True, False)
    assert plan.rows.borders == (6, 12, 18)
    assert json.loads(json.dumps(plan.to_dict()))["rows"][1] == [48, 112]
    decode = rule.decode.replace(space=SpaceTiles(window=8, stride=6, blend=2, keep=48))
    assert not tile_plan(rule.replace(decode=decode), "decode", (5, 20, 12), by).aligned


def test_sizes_that_do_not_fit_are_refused_by_what_is_legal() -> None:
    by = Compression(8, 4, 1)
    rule = blended(by, Pixels(64), chunk=Frames(9))
    with pytest.raises(TileError, match="1 \\+ a multiple of 4 is legal, as 9 or 13"):
        tile_plan(rule, "encode", (10, 64, 64), by)
    with pytest.raises(TileError, match="a multiple of 8 is legal, as 64 or 72"):
        tile_plan(rule, "encode", (9, 65, 64), by)
    with pytest.raises(TileError, match="cannot share 8"):
        time_axis(TimeTiles(window=3, overlap=1, shared=8, join="mean"), 7, lambda n: 2 * n)
    with pytest.raises(TileError, match=r"\(9, 64, 64\) .* does not fit \(9, 64, 72\)"):
        tile_plan(rule, "encode", (9, 64, 64), by).check((9, 64, 72))
