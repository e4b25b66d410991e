from __future__ import annotations

import pytest

from vvae.evaluation import Protocol, results


def of(values: list[float], lead: int = 1, group: int = 2) -> results.OfClip:
    flicker = (None, *(10 * value for value in values[1:]))
    return results.of_clip("c", {"psnr": tuple(values), "flicker": flicker}, lead, group, seconds=0.5, rate=0.1)


def test_figures_of_a_clip_are_means_over_frames_that_stand_alike() -> None:
    found = of([9.0, 1.0, 2.0, 3.0, 5.0])
    assert found.mean == {"psnr": 4.0, "flicker": 27.5}
    assert found.lead == {"psnr": 9.0, "flicker": None}
    assert found.positions == {"psnr": (2.0, 3.5), "flicker": (20.0, 35.0)}
    assert found.frames_per_second == 10


def test_figures_of_a_model_are_means_over_clips_not_over_all_frames() -> None:
    found = results.of_model("m", {}, 1, 2, [of([9.0, 1.0, 2.0, 3.0, 5.0]), of([20.0])])
    assert found.mean["psnr"] == 12.0
    assert found.positions["psnr"] == (2.0, 3.5), "a clip of one frame has no positions"
    assert found.spread["psnr"] == 1.5
    assert found.lead["psnr"] == 14.5
    assert found.frames_per_second == pytest.approx(6), "the median of 10 and 2"


def test_without_a_lead_the_first_frame_has_a_position() -> None:
    found = of([1.0, 2.0, 3.0], lead=0)
    assert found.lead["psnr"] is None
    assert found.positions["psnr"] == (2.0, 2.0)


def test_differences_are_taken_clip_by_clip_of_every_pair() -> None:
    models = [results.of_model(name, {}, 1, 2, [of([x]), of([y])]) for name, x, y in [("a", 1, 5), ("b", 2, 9)]]
    models.append(results.of_model("c", {}, 1, 2, [of([0.0, 4.0]), of([0.0, 4.0])]))
    found = {(d.a, d.b, d.metric): d for d in results.differences(models, Protocol(resamples=50))}
    assert set(found) == {("b", "a", "psnr"), ("c", "a", "psnr"), ("c", "b", "psnr")}, "only c has a flicker"
    assert found["b", "a", "psnr"].per_clip == (1.0, 4.0)
    assert (found["b", "a", "psnr"].mean, found["b", "a", "psnr"].low) == (2.5, 1.0)
