"""Spreads, ratios within a round, verdicts."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvae.bench import Spread, Verdict, paired, spread

SECONDS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9)


@given(SECONDS, st.randoms())
def test_spread_does_not_depend_on_order(values: list[float], random: object) -> None:
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert spread(shuffled) == spread(values)


@given(SECONDS)
def test_spread_lies_within_the_values_around_their_median(values: list[float]) -> None:
    found = spread(values)
    assert found.median == pytest.approx(statistics.median(values))
    assert min(values) <= found.q25 <= found.median <= found.q75 <= max(values)


def test_quartiles_of_five_rounds_are_the_second_and_the_fourth() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, q25=2.0, q75=4.0)


@given(st.lists(st.tuples(*[st.floats(0.1, 10)] * 3), min_size=1, max_size=9))
def test_paired_ratio_is_blind_to_what_slows_a_whole_round(rounds: list[tuple[float, float, float]]) -> None:
    plain = paired([a for a, _, _ in rounds], [b for _, b, _ in rounds])
    slowed = paired([a * slow for a, _, slow in rounds], [b * slow for _, b, slow in rounds])
    assert slowed.median == pytest.approx(plain.median)
    assert slowed.q75 == pytest.approx(plain.q75)


def test_paired_ratio_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    assert paired([1.0, 10.0, 2.0], [1.0, 2.0, 10.0]).median == 1.0


def test_pairs_need_every_round_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


@given(SECONDS, st.floats(1e-3, 1e3))
def test_target_is_met_where_the_upper_quartile_meets_it(values: list[float], limit: float) -> None:
    ratio = spread(values)
    assert Verdict(name="x", ratio=ratio, limit=limit).met == (ratio.q75 <= limit)


def test_median_below_the_limit_is_not_enough() -> None:
    verdict = Verdict(name="x", ratio=spread([1.0, 1.0, 1.0, 1.5, 1.5]), limit=1.35)
    assert verdict.ratio.median < verdict.limit
    assert (verdict.met, verdict.text) == (False, "not met")
    assert verdict.model_dump()["met"] is False
