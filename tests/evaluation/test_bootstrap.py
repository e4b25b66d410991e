from __future__ import annotations

import numpy as np
import pytest

from vvae.evaluation.bootstrap import Difference, paired_interval


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        interval = paired_interval(rng.normal(0.3, 1.0, size=40).tolist(), 500, 0.9, seed=1)
        held += interval[0] <= 0.3 <= interval[1]
    assert 0.85 <= held / 400 <= 0.94  # a little below 0.9, as it is for 40 clips


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly() -> None:
    values = np.random.default_rng(2).normal(size=12).tolist()
    first, again, other = (paired_interval(values, 2000, 0.95, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert first == pytest.approx(other, abs=0.1)


def test_the_interval_turns_round_with_the_sign() -> None:
    values = np.random.default_rng(5).exponential(size=9).tolist()
    low, high = paired_interval(values, 1000, 0.8, 0)
    assert paired_interval([-value for value in values], 1000, 0.8, 0) == pytest.approx((-high, -low))
    assert low < float(np.mean(values)) < high


def test_what_all_clips_agree_on_is_certain_and_one_clip_says_nothing() -> None:
    assert paired_interval([0.5] * 4, 100, 0.95, 0) == (0.5, 0.5)
    assert paired_interval([0.5], 100, 0.95, 0) is None


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False), (None, None, False)]
)
def test_a_difference_is_clear_where_zero_is_left_out(low: float | None, high: float | None, clear: bool) -> None:
    assert Difference(a="a", b="b", metric="psnr", mean=0, low=low, high=high, per_clip=(0,)).is_clear is clear
