"""The material: the same for everyone, plausible in range, and never the held-out pictures."""

import numpy as np
import pytest

from vvae.training import material, motion, textures
from vvae.training.photographs import HELD_OUT, TRAINING, photograph

SIZE = (24, 32)


@pytest.mark.parametrize("make", [material.clip, material.validation_clip])
@pytest.mark.parametrize("seed", range(4))
def test_clip_is_the_same_for_the_same_seed(make, seed):
    first, second = make(seed, 3, SIZE), make(seed, 3, SIZE)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, make(seed + 1, 3, SIZE))


@pytest.mark.parametrize("seed", range(8))
def test_clip_has_its_shape_and_range(seed):
    video = material.clip(seed, 5, SIZE)
    assert video.shape == (3, 5, *SIZE)
    assert video.dtype == np.float32
    assert np.abs(video).max() <= 1
    assert np.isfinite(video).all()


def test_clips_differ_in_motion():
    changes = [np.abs(np.diff(material.clip(seed, 3, SIZE), axis=1)).mean() for seed in range(24)]
    assert min(changes) < 0.01 < 0.03 < max(changes)


def test_training_never_shows_what_is_held_out():
    assert {"coffee.png", "chelsea.png"} == set(HELD_OUT)
    assert not set(HELD_OUT) & set(TRAINING)
    for held in HELD_OUT:
        assert not any(np.array_equal(photograph(held), photograph(name)) for name in TRAINING)


def test_validation_draws_from_held_out_seeds_and_photographs(monkeypatch):
    seen = []
    monkeypatch.setattr(material, "_clip", lambda rng, frames, size, photographs: seen.append(photographs))
    material.clip(0)
    material.validation_clip(0)
    assert seen == [TRAINING, HELD_OUT]
    assert not np.array_equal(
        np.random.default_rng(0).random(4), np.random.default_rng(material.VALIDATION_SEEDS).random(4)
    )


@pytest.mark.parametrize("draw", [textures.dead_leaves, textures.power_noise, textures.line_art, textures.gradient])
@pytest.mark.parametrize("seed", range(3))
def test_texture_is_a_picture(draw, seed):
    picture = draw(np.random.default_rng(seed), 40, 50)
    assert picture.shape == (40, 50, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0


def test_blob_is_empty_at_the_rim():
    for seed in range(20):
        mask = textures.blob(np.random.default_rng(seed), 60, 40)
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert mask.max() == 1
        assert rim.mean() < 0.1


def test_motion_that_is_still_maps_points_to_themselves():
    still = motion.draw(np.random.default_rng(0), np.arange(5.0), fastest=5.0, still=1.0)
    points = still.texture_points(8, 12, 2)
    assert points.shape == (5, 16, 24, 2)
    assert still.speed() == 0
    np.testing.assert_allclose(points[0, 0, :2, 0], [-5.75, -5.25], atol=1e-5)
    np.testing.assert_allclose(points[0], points[4], atol=0)


def test_motion_shifts_points_against_the_layer():
    times = np.arange(3.0)
    shift = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    path = motion.Motion(times, shift, np.ones(3), np.zeros(3), None)
    points = path.texture_points(8, 8, 1)
    np.testing.assert_allclose(points[0] - points[1], np.broadcast_to([1.0, 2.0], (8, 8, 2)), atol=1e-5)
    assert path.speed() == 2
