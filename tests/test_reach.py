"""The arithmetic of dependency against definitions that count one frame at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vvae import reach
from vvae.reach import Reach

FRAMES = st.integers(0, 12)
FEW = st.integers(0, 5)


def matrix(rows: int, columns: int, sees: Callable[[int, int], bool]) -> list[list[bool]]:
    """A matrix whose entry says whether output frame `row` sees input frame `column`."""
    return [[bool(sees(row, column)) for column in range(columns)] for row in range(rows)]


def equal(found: Reach, rows: int, columns: int, sees: Callable[[int, int], bool]) -> bool:
    assert found.dtype == np.bool_
    return found.shape == (rows, columns) and found.tolist() == matrix(rows, columns, sees)


@st.composite
def reaches(draw: st.DrawFn, columns: int | None = None, rows: int | None = None) -> Reach:
    height, width = draw(FEW) if rows is None else rows, draw(FEW) if columns is None else columns
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, dtype=np.bool_).reshape(height, width)


@given(FRAMES)
def test_same_frame_and_whole_clip(frames: int) -> None:
    assert equal(reach.same_frame(frames), frames, frames, lambda row, column: row == column)
    assert equal(reach.whole_clip(frames), frames, frames, lambda row, column: True)


@given(FEW.flatmap(lambda middle: st.tuples(reaches(rows=middle), reaches(columns=middle))))
def test_then_goes_by_way_of_some_frame_between(both: tuple[Reach, Reach]) -> None:
    first, second = both
    between = range(first.shape[0])
    assert equal(
        reach.then(first, second),
        second.shape[0],
        first.shape[1],
        lambda row, column: any(second[row, k] and first[k, column] for k in between),
    )


@given(st.tuples(FEW, FEW, FEW, FEW).flatmap(lambda n: st.tuples(*(reaches(n[i], n[i + 1]) for i in range(3)))))
def test_then_is_associative(three: tuple[Reach, Reach, Reach]) -> None:
    a, b, c = three
    assert np.array_equal(reach.then(reach.then(a, b), c), reach.then(a, reach.then(b, c)))


@given(reaches())
def test_then_same_frame_changes_nothing(seen: Reach) -> None:
    rows, columns = seen.shape
    assert np.array_equal(reach.then(reach.same_frame(columns), seen), seen)
    assert np.array_equal(reach.then(seen, reach.same_frame(rows)), seen)


@given(FEW, FEW, st.data())
def test_union_sees_what_any_branch_sees(rows: int, columns: int, data: st.DataObject) -> None:
    branches = data.draw(st.lists(reaches(columns, rows), min_size=1, max_size=4))
    found = reach.union(iter(branches))
    assert equal(found, rows, columns, lambda row, column: any(branch[row, column] for branch in branches))


@given(FRAMES, st.integers(-3, 5), st.integers(-3, 5), st.integers(1, 4))
def test_window_is_an_interval_around_every_nth_frame(frames: int, before: int, after: int, every: int) -> None:
    rows = len(range(0, frames, every))
    found = reach.window(frames, before=before, after=after, every=every)
    assert equal(found, rows, frames, lambda row, column: row * every - before <= column <= row * every + after)


@given(FRAMES, st.integers(0, 2), st.integers(1, 5))
def test_group_numbers_count_groups_behind_the_lead(frames: int, lead: int, group: int) -> None:
    numbers: list[int] = [-1] * min(lead, frames)
    while len(numbers) < frames:
        numbers += [max(numbers, default=-1) + 1] * group
    assert reach.group_numbers(frames, lead, group).tolist() == numbers[:frames]


@given(FRAMES, st.integers(0, 2), st.integers(1, 5), FEW, FEW)
def test_group_causal_sees_ahead_in_its_own_group_alone(
    frames: int, lead: int, group: int, before: int, after: int
) -> None:
    def end(row: int) -> int:
        """The first frame behind the row's group."""
        return lead if row < lead else lead + ((row - lead) // group + 1) * group

    found = reach.group_causal(frames, lead, group, before=before, after=after)
    assert equal(found, frames, frames, lambda row, t: row - before <= t <= row + after and (t <= row or t < end(row)))


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 4))
def test_fold_and_unfold_share_frames_out(count: int, factor: int, kept: int) -> None:
    frames = count * factor
    assert equal(reach.fold(frames, factor), count, frames, lambda row, t: t // factor == row)
    assert equal(
        reach.fold(frames, factor, seen=kept),
        count,
        frames,
        lambda row, t: t // factor == row and t % factor < kept,
    )
    assert equal(reach.unfold(count, factor), frames, count, lambda row, t: row // factor == t)
    assert np.array_equal(reach.then(reach.unfold(count, factor), reach.fold(frames, factor)), reach.same_frame(count))


@given(reaches(), reaches())
def test_beside_keeps_both_apart(first: Reach, rest: Reach) -> None:
    (rows, columns), (more_rows, more_columns) = first.shape, rest.shape

    def sees(row: int, column: int) -> bool:
        if row < rows:
            return column < columns and first[row, column]
        return column >= columns and rest[row - rows, column - columns]

    assert equal(reach.beside(first, rest), rows + more_rows, columns + more_columns, sees)


def test_no_function_changes_what_it_was_given() -> None:
    first, second = reach.window(4, before=1, after=0), reach.whole_clip(4)
    for function in (reach.then, reach.beside, lambda a, b: reach.union([a, b])):
        function(first, second)
        assert np.array_equal(first, reach.window(4, before=1, after=0))
        assert second.all()


def test_group_causal_by_hand() -> None:
    found = reach.group_causal(5, 1, 4, before=1, after=1)
    drawn = ["#....", "###..", ".###.", "..###", "...##"]
    assert ["".join(".#"[int(bit)] for bit in row) for row in found] == drawn
