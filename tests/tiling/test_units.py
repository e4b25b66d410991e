"""Numbers with a unit: like ones behave as numbers, unlike ones never meet."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvae.errors import TileError
from vvae.tiling import Cells, Compression, Frames, Pixels, Positions, blended
from vvae.tiling.units import Unit, checked

UNITS = (Pixels, Cells, Frames, Positions)
COUNTS = st.integers(0, 10**6)
SIGNS = (operator.add, operator.sub, operator.lt, operator.le, operator.gt, operator.ge, operator.eq)


@given(unit=st.sampled_from(UNITS), a=COUNTS, b=COUNTS)
def test_like_units_are_numbers(unit: type[Unit], a: int, b: int) -> None:
    assert unit(a) + unit(b) == unit(a + b)
    assert (unit(a) < unit(b), unit(a) <= unit(b), unit(a) > unit(b)) == (a < b, a <= b, a > b)
    assert unit(a) * 3 == 3 * unit(a) == unit(3 * a)
    assert unit(max(a, b)) - unit(min(a, b)) == unit(abs(a - b))
    assert (unit(a) == unit(b)) == (a == b)
    assert len({unit(a), unit(a)}) == 1
    assert int(unit(a)) == a


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
@pytest.mark.parametrize("unit", UNITS)
def test_unlike_units_never_meet(unit: type[Unit], sign: Callable[[Any, Any], Any]) -> None:
    for other in (*(each(1) for each in UNITS if each is not unit), 1):
        with pytest.raises(TileError) as caught:
            sign(unit(2), other)
        told = str(caught.value)
        assert "\n" not in told
        assert unit.told in told
        assert not isinstance(other, Unit) or other.told in told


def test_a_refusal_says_how_the_one_becomes_the_other() -> None:
    with pytest.raises(TileError, match=r"latent cells where pixels are meant; convert them: Compression\.pixels"):
        Pixels(8) + Cells(1)
    with pytest.raises(TileError, match=r"frames where latent positions are meant.*Compression\.positions"):
        checked(Frames(5), Positions, "chunk")
    with pytest.raises(TileError, match=r"tile=256: 256 says no unit.*Pixels\(\.\.\.\)"):
        checked(256, Pixels, "tile")
    with pytest.raises(TileError, match="the one is in time, the other in space"):
        Frames(1) < Pixels(2)  # noqa: B015


@pytest.mark.parametrize("count", [-1, 1.5, "8", True, None])
def test_what_is_no_number_of_anything_is_refused(count: Any) -> None:
    with pytest.raises(TileError, match="is no number of pixels"):
        Pixels(count)


def test_a_unit_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Pixels(8).count = 9


@given(cell=st.integers(1, 32), group=st.integers(1, 8), lead=st.integers(0, 1), count=st.integers(0, 50))
def test_units_become_each_other_and_back(cell: int, group: int, lead: int, count: int) -> None:
    by = Compression(cell, group, lead)
    assert by.cells(by.pixels(Cells(count))) == Cells(count)
    if count >= lead:
        assert by.positions(by.frames(Positions(count))) == Positions(count)
    assert by.pixels(Cells(count)) == Pixels(cell * count)


@given(cell=st.integers(2, 32), group=st.integers(2, 8), lead=st.integers(0, 1), count=st.integers(1, 500))
def test_broken_cells_and_groups_are_refused_by_the_nearest_legal_numbers(
    cell: int, group: int, lead: int, count: int
) -> None:
    by = Compression(cell, group, lead)
    for wanted, size, first in ((Pixels, cell, 0), (Frames, group, lead)):
        convert: Any = by.cells if wanted is Pixels else by.positions
        if (count - first) % size == 0:
            convert(wanted(count))
            continue
        with pytest.raises(TileError) as caught:
            convert(wanted(count))
        near = [int(word) for word in str(caught.value).partition(", as ")[2].split(" or ")]
        assert all(abs(n - count) <= size for n in near)
        for n in near:
            convert(wanted(n))


BY = Compression(cell=8, group=4, lead=1)


@given(
    cells=st.integers(1, 12),
    common=st.integers(0, 12),
    groups=st.integers(1, 6),
    shared=st.integers(0, 6),
    lead=st.integers(0, 1),
)
def test_tiles_that_a_user_asks_for_are_aligned_or_refused(
    cells: int, common: int, groups: int, shared: int, lead: int
) -> None:
    by = Compression(8, 4, lead)
    chunk, both = Frames(lead + 4 * groups), Frames(lead + 4 * shared)
    if common >= cells or shared >= groups:
        with pytest.raises(TileError, match="never move on"):
            blended(by, Pixels(8 * cells), Pixels(8 * common), chunk=chunk, shared=both)
        return
    rule = blended(by, Pixels(8 * cells), Pixels(8 * common), chunk=chunk, shared=both)
    assert rule.faults(by) == []
    assert rule.decode.space is not None
    assert (rule.decode.space.window, rule.decode.space.blend) == (cells, 8 * common)


def test_tiles_in_another_unit_are_refused_before_anything_runs() -> None:
    with pytest.raises(
        TileError, match=r"tile=Cells\(32\): latent cells where pixels are meant.*here Cells\(32\) is Pixels\(256\)"
    ):
        blended(BY, Cells(32))  # type: ignore[arg-type]
    with pytest.raises(TileError, match="says no unit"):
        blended(BY, Pixels(64), 16)  # type: ignore[arg-type]
    with pytest.raises(
        TileError, match=r"latent positions where frames are meant.*here Positions\(5\) is Frames\(17\)"
    ):
        blended(BY, chunk=Positions(5))  # type: ignore[arg-type]
    with pytest.raises(TileError, match="a multiple of 8 is legal, as 56 or 64"):
        blended(BY, Pixels(60))
