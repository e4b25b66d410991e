"""Steps that keep a budget of memory, counted from the spec alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models.tiny import tiny_model
from vvae import VideoError
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import LiveBytes
from vvae.memory import MOST_GROUPS, Direction, Steps, parse_bytes, step_bytes, steps_within, told, usual_steps

SIZE = (136, 200)
DIRECTIONS: tuple[Direction, ...] = ("encode", "decode")


@pytest.fixture(scope="module")
def spec() -> VideoAutoencoderSpec:
    return tiny_model().spec


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_longer_steps_need_more(spec: VideoAutoencoderSpec, direction: Direction) -> None:
    needs = [step_bytes(spec, direction, SIZE, groups) for groups in (1, 2, 5, 16)]
    assert needs == sorted(set(needs))
    assert step_bytes(spec, direction, (400, 200), 1) > needs[0]
    assert step_bytes(spec, direction, SIZE, 1, dtype=torch.float64) > needs[0]


@pytest.mark.parametrize("groups", [1, 3, 7, MOST_GROUPS])
def test_the_longest_step_that_fits_is_chosen(spec: VideoAutoencoderSpec, groups: int) -> None:
    need = step_bytes(spec, "decode", SIZE, groups)
    assert steps_within(need, spec, SIZE, directions=["decode"]) == Steps(encode=1, decode=groups)
    if groups > 1:
        assert steps_within(need - 1, spec, SIZE, directions=["decode"]).decode == groups - 1


def test_a_budget_without_end_is_capped(spec: VideoAutoencoderSpec) -> None:
    assert steps_within(2**50, spec, SIZE) == Steps(MOST_GROUPS, MOST_GROUPS)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_too_small_a_budget_is_refused_by_the_least_that_is_enough(
    spec: VideoAutoencoderSpec, direction: Direction
) -> None:
    least = step_bytes(spec, direction, SIZE, 1)
    with pytest.raises(VideoError, match=rf"needs {told(least)} to {direction} 4 frames of 136x200") as caught:
        steps_within(least - 1, spec, SIZE, directions=[direction])
    assert "\n" not in str(caught.value)
    assert steps_within(parse_bytes(told(least)), spec, SIZE, directions=[direction])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("groups", [1, 4])
def test_a_real_step_stays_within_what_was_counted(direction: Direction, groups: int) -> None:
    model = tiny_model()
    signal = model.spec.pixels if direction == "encode" else model.spec.latents
    step: Callable[..., object] = model.encode_chunk if direction == "encode" else model.decode_chunk
    height, width = SIZE if direction == "encode" else model.spec.latent_shape(1, *SIZE)[2:]
    counted = _live(lambda: step(torch.zeros(1, signal.channels, signal.frames(groups), height, width)))
    assert 0 < counted <= step_bytes(model.spec, direction, SIZE, groups)


def _live(run: Callable[[], object]) -> int:
    counter = LiveBytes()
    with counter, torch.no_grad():
        run()
    return counter.peak


def test_usual_steps_are_eight_frames_or_a_group(spec: VideoAutoencoderSpec) -> None:
    assert usual_steps(spec) == Steps(2, 2)
    long = spec.model_copy(update={"framing": spec.framing.replace(group=17)})
    assert usual_steps(long) == Steps(1, 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GiB", 2 * 2**30), ("500MB", 500_000_000), ("1.5 gb", 1_500_000_000), ("1024", 1024), ("3 KiB", 3072)],
)
def test_amounts_are_read_as_they_are_written(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "0.1", "1TB", "2 GiB extra", "nanGB", "1e3MB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(VideoError, match="is no amount"):
        parse_bytes(text)


@pytest.mark.parametrize("count", [1, 2**20, 2**20 + 1, 2**30, 2**30 + 1, 123_456_789_012])
def test_told_amounts_are_enough(count: int) -> None:
    assert count <= parse_bytes(told(count)) <= 1.11 * count + 2**20
