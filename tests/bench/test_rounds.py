"""Rounds: who runs when."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vvae.bench.rounds import Sample, order, play, seconds, timed

NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True)


@given(NAMES, st.integers(1, 9), st.data())
def test_order_is_a_rotation_of_all_contestants(names: list[str], rounds: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, rounds - 1))
    found = order(names, number, rounds)
    start = found.index(names[0])
    assert found[start:] + found[:start] == names


@given(NAMES.filter(lambda names: len(names) > 1), st.integers(2, 9))
def test_order_changes_from_round_to_round(names: list[str], rounds: int) -> None:
    orders = [order(names, number, rounds) for number in range(rounds)]
    assert all(a != b for a, b in pairwise(orders))


def test_every_contestant_runs_once_in_every_round() -> None:
    ran: list[str] = []

    def contestant(name: str) -> Sample:
        ran.append(name)
        return Sample(seconds=len(ran), cpu_seconds=0.5, load=0.0)

    rounds = play({name: lambda name=name: contestant(name) for name in "abc"}, 3, lambda text: None)  # type: ignore[misc]
    assert [sorted(ran[i : i + 3]) for i in (0, 3, 6)] == [list("abc")] * 3
    assert seconds(rounds, "a") == [1.0 + ran.index("a"), *(1.0 + i for i in range(3, 9) if ran[i] == "a")]


def test_timed_counts_what_ran() -> None:
    sample = timed(lambda: sum(range(200_000)))
    assert sample.cpu_seconds > 0
    assert sample.cpu == sample.cpu_seconds / sample.seconds
