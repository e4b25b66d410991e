from __future__ import annotations

import pytest

from vvae.evaluation import Protocol, results
from vvae.evaluation.meter import Systematic

EVEN = Systematic(shift=(0.0, 0.0, 0.0), at_borders=2.0, elsewhere=2.0)


def of(values: list[float], lead: int = 1, group: int = 2) -> results.OfClip:
    flicker = (None, *(10 * value for value in values[1:]))
    return results.of_clip("c", {"psnr": tuple(values), "flicker": flicker}, EVEN, lead, group, seconds=0.5, rate=0.1)


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


def test_what_clips_have_in_common_is_taken_of_means_over_clips() -> None:
    one = EVEN.model_copy(update={"shift": (1.0, -5.0, 2.0), "at_borders": 10.0})
    other = EVEN.model_copy(update={"shift": (1.0, 4.0, 2.0), "elsewhere": 6.0})
    clips = [of([1.0]).model_copy(update={"systematic": each}) for each in (one, other)]
    found = results.of_model("m", {}, 1, 2, clips).systematic
    assert found.shift == (1.0, -0.5, 2.0)
    assert (one.colour, found.colour) == (5.0, 2.0)
    assert (one.borders, found.borders) == (5.0, 6.0 / 4.0)


def test_a_clip_without_cells_or_error_has_no_grid() -> None:
    none = EVEN.model_copy(update={"at_borders": None, "elsewhere": None})
    clips = [of([1.0]).model_copy(update={"systematic": each}) for each in (none, EVEN)]
    assert [results.of_model("m", {}, 1, 2, some).systematic.borders for some in (clips[:1], clips)] == [None, 1.0]
    assert EVEN.model_copy(update={"at_borders": 0.0, "elsewhere": 0.0}).borders is None
