"""What metrics must be: of a clip against itself, against a known noise, however the clip is cut."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from vvae.evaluation.meter import MEASURES, METRICS, Meter
from vvae.video.metrics import border_errors, flicker, psnr, shift, ssim

SIGMA = 0.05


def clip(seed: int, frames: int = 7, height: int = 24, width: int = 40) -> torch.Tensor:
    """A smooth random clip, `1 3 t h w`, far enough from the ends of the range that small noise is never clamped."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, frames, 4, 5, generator=generator) - 0.5
    return torch.nn.functional.interpolate(small, (frames, height, width), mode="trilinear")


def noise_like(x: torch.Tensor, seed: int = 9) -> torch.Tensor:
    return SIGMA * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def passed(source: torch.Tensor, result: torch.Tensor, *lengths: int, **options: object) -> Meter:
    meter = Meter(**options)
    for pair in zip(*(x.split(lengths or x.shape[2], dim=2) for x in (source, result)), strict=True):
        meter.add(*pair)
    return meter


def measured(*given: object, **options: object) -> dict[str, list[float]]:
    return {name: list(values) for name, values in passed(*given, **options).per_frame.items()}


def test_a_clip_against_itself_has_the_best_figures() -> None:
    found = measured(clip(0), clip(0))
    assert found["psnr"] == [100.0] * 7
    assert found["ssim"] == pytest.approx([1.0] * 7, abs=1e-6)
    assert found["flicker"] == [None, *[0.0] * 6]


def test_noise_of_known_strength_has_known_psnr_and_flicker() -> None:
    source = clip(1, frames=4, height=128, width=128)
    found = measured(source, source + noise_like(source))
    numbers = 3 * 128 * 128
    # of n numbers, a mean square is off by sqrt(2/n) of itself, one sigma
    assert found["psnr"] == pytest.approx([10 * math.log10(4 / SIGMA**2)] * 4, abs=5 * 4.35 * math.sqrt(2 / numbers))
    expected = 255 / 2 * 2 * SIGMA / math.sqrt(math.pi)  # the mean of |a - b| of two normal numbers
    assert found["flicker"][1:] == pytest.approx([expected] * 3, rel=5 / math.sqrt(numbers))


def test_an_error_that_stands_still_does_not_flicker() -> None:
    source = clip(2)
    stands = noise_like(source)[:, :, :1]
    found = measured(source, source + stands)
    assert max(found["flicker"][1:]) < 1e-4
    assert max(found["psnr"]) < 40


def test_an_error_of_every_second_frame_flickers_by_its_size() -> None:
    source = torch.zeros(1, 3, 4, 16, 16)
    result = source.clone()
    result[:, :, 1::2] = 2 / 255
    assert measured(source, result)["flicker"][1:] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("lengths", [(7,), (1,) * 7, (3, 4), (1, 5, 1)], ids=str)
def test_figures_are_the_same_however_a_clip_is_cut_in_time(lengths: tuple[int, ...]) -> None:
    source = clip(3)
    result = source + noise_like(source)
    whole, cut = measured(source, result), measured(source, result, *lengths)
    assert cut["flicker"][0] is None
    for name, values in whole.items():
        assert [v for v in cut[name] if v is not None] == pytest.approx([v for v in values if v is not None], abs=1e-5)


@pytest.mark.parametrize("lengths", [(1,) * 7, (3, 4), (1, 5, 1)], ids=str)
def test_grid_and_colour_are_the_same_however_a_clip_is_cut_in_time(lengths: tuple[int, ...]) -> None:
    source = clip(3)
    result = source + noise_like(source) * torch.arange(1, 8).view(1, 1, 7, 1, 1)
    whole, cut = (passed(source, result, *some, cell=8).systematic for some in ((), lengths))
    assert cut.shift == pytest.approx(whole.shift, rel=1e-12)
    assert cut.borders == pytest.approx(whole.borders, rel=1e-12)


def test_an_even_error_shows_no_grid() -> None:
    source = clip(6, height=128, width=128)
    assert passed(source, source + 0.1, cell=8).systematic.borders == pytest.approx(1, abs=1e-5)
    # of n numbers, a mean square is off by sqrt(2/n) of itself; 44 in 100 pixels are beside a border
    numbers = 3 * 7 * 112**2
    found = passed(source, source + noise_like(source), cell=8).systematic.borders
    assert found == pytest.approx(1, abs=5 * math.sqrt(2 / (0.44 * numbers) + 2 / (0.56 * numbers)))


@pytest.mark.parametrize("cell", [3, 4, 8])
def test_an_error_at_borders_is_told_by_how_much_greater_it_is(cell: int) -> None:
    source, error = torch.zeros(1, 3, 2, 40, 48), torch.full((1, 3, 2, 40, 48), 0.01)
    for place in range(cell, 48, cell):
        error[..., place - 1 : place + 1] = error[:, :, :, place - 1 : place + 1] = 0.02
    error[..., :1] = error[:, :, :, :1] = 0.5  # at the rim, which does not count
    found = passed(source, source + error, cell=cell).systematic
    assert found.borders == pytest.approx(4, rel=1e-5)
    assert found.elsewhere == pytest.approx((0.01 * 255 / 2) ** 2, rel=1e-5)


@pytest.mark.parametrize(("cell", "side"), [(None, 40), (1, 40), (2, 40), (8, 16), (32, 40)])
def test_without_pixels_of_both_kinds_there_is_no_grid(cell: int | None, side: int) -> None:
    found = passed(clip(7, height=side, width=48), clip(8, height=side, width=48), cell=cell).systematic
    assert (found.at_borders, found.elsewhere, found.borders) == (None, None, None)
    assert found.colour > 0


def test_colour_is_the_largest_mean_shift_of_a_channel() -> None:
    source = torch.zeros(1, 3, 4, 16, 16)
    result = source + torch.tensor([1.0, -3.0, 0.0]).view(1, 3, 1, 1, 1) * 2 / 255
    result[:, 2, 0] += 6 * 2 / 255  # one frame of four
    result[:, 2, 1] -= 6 * 2 / 255  # and another, to the other side
    result += noise_like(source).round(decimals=3) - noise_like(source).round(decimals=3).mean((2, 3, 4), True)
    found = passed(source, result, 1, 3).systematic
    assert found.shift == pytest.approx((1, -3, 0), abs=1e-4)
    assert found.colour == pytest.approx(3, abs=1e-4)


@pytest.mark.parametrize(
    "metric",
    [psnr, ssim, flicker, shift, lambda a, b: border_errors(a, b, 8)],
    ids=["psnr", "ssim", "flicker", "shift", "border_errors"],
)
def test_figures_of_a_batch_are_those_of_its_parts(metric: type(psnr)) -> None:
    sources = torch.cat([clip(seed) for seed in range(4)])
    results = sources + noise_like(sources) * torch.arange(1, 5).view(4, 1, 1, 1, 1)
    whole = metric(sources, results)
    assert whole[0].mean() != whole[3].mean()
    for lengths in ((1, 3), (2, 2), (1,) * 4):
        parts = [metric(a, b) for a, b in zip(sources.split(lengths), results.split(lengths), strict=True)]
        assert torch.allclose(torch.cat(parts), whole, atol=1e-5, rtol=1e-6)


def test_ssim_and_psnr_are_those_of_torchmetrics() -> None:
    source = clip(4, frames=3)
    result = source + noise_like(source)
    found = measured(source, result)
    own_ssim, own_psnr = StructuralSimilarityIndexMeasure(data_range=1.0), PeakSignalNoiseRatio(data_range=1.0)
    for t in range(3):
        a, b = ((x[:, :, t] + 1) / 2 for x in (source, result))
        assert found["ssim"][t] == pytest.approx(own_ssim(b, a).item(), abs=1e-4)
        assert found["psnr"][t] == pytest.approx(own_psnr(b, a).item(), abs=1e-4)


def test_lpips_gets_frames_in_range_and_in_order() -> None:
    source = clip(5)
    seen = []

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append((a.shape, b.abs().max().item()))
        return (a - b).abs().mean(dim=(1, 3, 4), keepdim=True)

    steps = 0.05 * torch.arange(7).view(1, 1, 7, 1, 1)
    measures = {**MEASURES, "lpips": distance}
    found = measured(source, source + steps, 3, 4, measures=measures)
    assert found["lpips"] == pytest.approx(steps.flatten().tolist(), abs=1e-6)
    assert [shape for shape, _ in seen] == [(1, 3, 3, 24, 40), (1, 3, 4, 24, 40)]
    measured(source, 9 * source, measures=measures)
    assert seen[-1][1] == 1
    assert set(found) == set(METRICS)
