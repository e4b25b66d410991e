"""The journal: curves in bounded memory, the same for a run that was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vvae.training import journal
from vvae.training.journal import POINTS, Curve, Journal


def curve_of(values: np.ndarray) -> Curve:
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, value)
    return curve


@given(st.integers(0, 20 * POINTS), st.integers(0, 2**32 - 1))
def test_a_curve_is_means_over_neighbours_of_all_values_and_has_few_points(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(count)
    curve = curve_of(values)
    assert min(POINTS, count) <= len(curve.points) < 2 * POINTS
    whole = len(curve.points) * curve.run
    assert count - curve.run < whole <= count
    means = np.stack([np.arange(count), values])[:, :whole].reshape(2, -1, curve.run).mean(2)
    assert np.allclose(np.array(curve.points).reshape(-1, 2).T, means, rtol=1e-12, atol=1e-12)
    if count:
        assert (curve.lowest, curve.highest) == (values.min(), values.max())


def rows(count: int) -> list[dict[str, Any]]:
    """Steps, some of them not finite, with a term that starts late."""
    drawn = np.random.default_rng(0).standard_normal((count, 3))
    return [
        {
            "step": step,
            "loss": float("nan") if step % 7 == 3 else a,
            "gradient": b,
            "values": {"l1": a} if step < 5 else {"l1": a, "late": c},
        }
        for step, (a, b, c) in enumerate(drawn.tolist())
    ]


@pytest.mark.parametrize("cut", [0, 4, 30])
def test_the_curves_of_a_run_that_goes_on_are_those_of_an_unbroken_one(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "POINTS", 4)
    told, found = rows(37), []
    for stop in (0, cut):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        first = Journal(folder, 0)
        for row in told[: stop + 3]:  # beyond the last checkpoint
            first.write(**row)
        with first.file.open("a") as stream:
            stream.write('{"step": 3, "lo')
        on = Journal(folder, stop, last=5)
        for row in told[stop:]:
            on.write(**row)
        assert [json.loads(line)["step"] for line in on.file.read_text().splitlines()] == list(range(37))
        found.append(({name: vars(curve) for name, curve in on.curves.items()}, str(list(on.losses))))
    assert found[0] == found[1]
    assert list(found[0][0]) == ["loss", "gradient", "l1", "late"]
    assert len(on.losses) == 5


def test_the_picture_has_the_first_curves_one_above_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FEW", 2)
    for count in (1, 2, 3):
        curves = {f"term{number}": curve_of(np.arange(9.0 * number)) for number in range(count)}
        journal.draw_curves(curves, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.size == (800, 40 + 150 * min(count, 2))
