from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vvae.video.cuts import Changes

HEIGHT, WIDTH = 32, 48


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """A picture with shapes of many sizes, `3 h w` in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, height // 8, width // 8, generator=generator) * 1.6 - 0.8
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]


def shot(seed: int, frames: int, speed: int = 1, noise: float = 0.02) -> torch.Tensor:
    """A camera that moves sideways over a picture, `1 3 t h w`."""
    wide = picture(seed, HEIGHT, WIDTH + frames * speed)
    seen = torch.stack([wide[:, :, t * speed : t * speed + WIDTH] for t in range(frames)], 1)[None]
    return seen + noise * torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed))


def changes(*parts: torch.Tensor) -> Changes:
    found = Changes()
    for frame in torch.cat(parts, 2).split(1, dim=2):
        found.add(frame)
    return found


@given(
    lengths=st.lists(st.integers(3, 12), min_size=1, max_size=5),
    speed=st.integers(0, 1),
    seed=st.integers(0, 999).map(lambda n: 10 * n),
)
def test_cuts_stand_where_shots_meet_and_nowhere_else(lengths: list[int], speed: int, seed: int) -> None:
    found = changes(*(shot(seed + place, length, speed) for place, length in enumerate(lengths)))
    assert found.cuts == [sum(lengths[:place]) for place in range(1, len(lengths))]


def test_motion_that_lasts_is_no_cut_however_fast() -> None:
    assert changes(shot(0, 12, speed=9)).cuts == []


def test_a_flash_is_no_cut_but_a_flash_at_a_cut_is_one() -> None:
    white = torch.full((1, 3, 1, HEIGHT, WIDTH), 1.0)
    whole = shot(2, 12)
    assert changes(whole[:, :, :5], white, whole[:, :, 6:]).cuts == []
    assert 5 in changes(whole[:, :, :5], white, shot(3, 6)).cuts


def test_a_small_change_of_a_shot_that_stands_still_is_no_cut() -> None:
    still = shot(11, 1, noise=0).expand(-1, -1, 6, -1, -1)
    assert changes(still, still + 0.04).cuts == []
    assert changes(still, still + 0.2).cuts == [6]


def test_a_fade_is_no_cut() -> None:
    share = torch.linspace(0, 1, 20).view(1, 1, -1, 1, 1)
    a, b = shot(4, 20), shot(5, 20)
    assert changes(a, (1 - share) * a[:, :, -1:] + share * b[:, :, :1], b).cuts == []


def test_a_cut_to_a_picture_of_the_same_light_is_found() -> None:
    a = shot(6, 6)
    assert changes(a, a.flip(4)).cuts == [6]


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_clips_without_surroundings_are_taken(frames: int) -> None:
    parts = [shot(7, 1), shot(8, 1)][:frames]
    found = changes(*parts) if parts else Changes()
    assert found.cuts == [1] * (frames == 2)
    assert len(found.black) == len(found.still) == frames


def test_black_frames_are_those_that_are_dark_all_over() -> None:
    dark = torch.full((1, 3, 3, HEIGHT, WIDTH), -0.9)
    lit = dark.clone()
    lit[:, :, 1, :8, :8] = 0.5
    assert changes(dark).black == [True] * 3
    assert changes(lit).black == [True, False, True]
    assert changes(shot(9, 2)).black == [False] * 2


def test_still_frames_are_those_that_repeat_the_one_before_in_every_place() -> None:
    still = shot(10, 1).expand(-1, -1, 4, -1, -1).clone()
    assert changes(still).still == [False, True, True, True]
    still[:, :, 2, 4, 4] += 0.02
    assert changes(still).still == [False, True, False, False]
    faint = 0.0008 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    assert changes(still + faint).still[1]
