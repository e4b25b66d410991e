"""The laws of rules, in whole numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiling.by_hand import chunk_bounds
from vvae.arch import image_vae
from vvae.errors import TileError
from vvae.tiling import Compression, ContentTiles, SpaceTiles, Tiles, TilingRule, TimeTiles, extended, overlapping

LENGTHS = st.integers(1, 80)
FINE_OVERLAPS = st.sampled_from([0.0, 0.125, 0.25, 0.5])


@st.composite
def time_tiles(draw: st.DrawFn) -> TimeTiles:
    window = draw(st.integers(1, 20))
    return TimeTiles(window=window, overlap=draw(st.integers(0, window - 1)))


@st.composite
def space_tiles(draw: st.DrawFn) -> SpaceTiles:
    window = draw(st.integers(1, 20))
    return SpaceTiles(window=window, stride=draw(st.integers(1, window)), keep=1)


@given(rule=time_tiles(), length=LENGTHS)
def test_chunks_cover_a_clip_and_share_what_the_rule_says(rule: TimeTiles, length: int) -> None:
    windows = rule.windows(length)
    assert (windows[0][0], windows[-1][1]) == (0, length)
    assert all(end - start == rule.window for start, end in windows[:-1])
    assert all(end - start == rule.overlap for (_, end), (start, _) in pairwise(windows))
    assert len(windows) == 1 or windows[-1][1] - windows[-1][0] > rule.overlap


@given(rule=space_tiles(), length=LENGTHS)
def test_tiles_cover_a_side_from_stride_to_stride(rule: SpaceTiles, length: int) -> None:
    windows = rule.windows(length)
    assert [start for start, _ in windows] == list(range(0, length, rule.stride))
    assert {sample for window in windows for sample in range(*window)} == set(range(length))
    assert all(0 < end - start <= rule.window for start, end in windows)


@given(window=st.integers(2, 20), length=LENGTHS)
def test_chunks_with_one_shared_frame_are_the_published_ones(window: int, length: int) -> None:
    found = TimeTiles(window=window, overlap=1, shared=1).windows(length)
    assert [list(chunk) for chunk in found] == chunk_bounds(length, window)


@given(cells=st.sampled_from([8, 16, 24, 32]), cell=st.sampled_from([1, 2, 8, 32]), overlap=FINE_OVERLAPS)
def test_tiles_of_whole_cells_are_aligned(cells: int, cell: int, overlap: float) -> None:
    for make in (overlapping, extended):
        encode, decode = make(cells * cell, cells, overlap)
        rule = TilingRule(encode=Tiles(space=encode), decode=Tiles(space=decode))
        assert rule.faults(Compression(cell)) == []
        for field in ("window", "stride", "blend", "keep"):
            other = encode.replace(**{field: getattr(encode, field) + (-1 if field == "stride" else 1)})
            assert TilingRule(encode=Tiles(space=other)).faults(Compression(cell))


@pytest.mark.parametrize(
    ("sample", "latent", "overlap", "make"),
    [(32, 4, 0.125, overlapping), (32, 4, 0.2, extended), (256, 8, 0.2, extended), (32, 5, 0.25, overlapping)],
)
def test_tiles_of_broken_cells_are_not(sample: int, latent: int, overlap: float, make: Any) -> None:
    encode, decode = make(sample, latent, overlap)
    faults = TilingRule(encode=Tiles(space=encode), decode=Tiles(space=decode)).faults(Compression(sample // latent))
    assert len(faults) == 2
    assert "keep" in faults[0]


@given(groups=st.integers(1, 6), shared=st.integers(1, 3), group=st.sampled_from([1, 2, 4, 8]))
def test_chunks_of_a_lead_and_whole_groups_are_aligned(groups: int, shared: int, group: int) -> None:
    by, common = Compression(group=group, lead=1), 1 + group * (shared - 1)
    encode = TimeTiles(window=common + groups * group, overlap=common, shared=shared)
    decode = TimeTiles(window=shared + groups, overlap=shared, shared=common)
    rule = TilingRule(encode=Tiles(time=encode), decode=Tiles(time=decode))
    assert rule.faults(by) == []
    for wrong in (encode.replace(shared=shared + 1), encode.replace(window=encode.window + 1) if group > 1 else None):
        assert wrong is None or TilingRule(encode=Tiles(time=wrong)).faults(by)
    assert TilingRule(decode=Tiles(time=decode.replace(shared=common + 1))).faults(by)


def test_chunks_without_a_shared_lead_are_not_aligned() -> None:
    alone = TimeTiles(window=8)
    assert TilingRule(encode=Tiles(time=alone), decode=Tiles(time=alone)).faults(Compression(group=4)) == []
    faults = TilingRule(encode=Tiles(time=alone), decode=Tiles(time=alone)).faults(Compression(group=4, lead=1))
    assert [fault.partition(":")[0] for fault in faults] == ["encode", "decode"]


def test_a_rule_applies_above_its_limits_alone() -> None:
    rule = Tiles(above=(9, None, 32))
    assert [rule.applies(*size) for size in ((9, 99, 32), (10, 1, 1), (1, 1, 33))] == [False, True, True]
    assert Tiles().applies(1, 1, 1)
    assert not Tiles(above=(None, None, None)).applies(99, 99, 99)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (TimeTiles, {"window": 4, "overlap": 4}),
        (TimeTiles, {"window": 0}),
        (TimeTiles, {"window": 4, "join": "median"}),
        (SpaceTiles, {"window": 4, "stride": 5, "keep": 4}),
        (SpaceTiles, {"window": 4, "stride": 0, "keep": 4}),
        (SpaceTiles, {"window": 4, "stride": 4, "keep": 4, "step": 3}),
        (ContentTiles, {"window": 4, "stride": 4, "overlap": -0.5}),
        (Tiles, {"above": (1, 2)}),
    ],
)
def test_numbers_that_cannot_be_are_refused(kind: type, fields: dict[str, Any]) -> None:
    with pytest.raises(TileError):
        kind(**fields)


def test_rules_are_data() -> None:
    for rule in image_vae.tiling.values():  # type: ignore[attr-defined]
        assert TilingRule.from_json(rule.to_json()) == rule
