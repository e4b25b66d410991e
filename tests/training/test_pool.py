"""The pool: the same bytes however often it was interrupted; pieces that depend on their generator alone."""

import os
from pathlib import Path

import numpy as np
import pytest

from vvae.errors import VideoError
from vvae.training import pool
from vvae.training.pool import PoolSpec

SPEC = PoolSpec(clips=3, frames=5, size=16)


def test_pool_holds_its_clips(tmp_path):
    clips = pool.render(tmp_path, SPEC)
    assert clips.shape == (3, 3, 5, 16, 16)
    assert all(np.array_equal(clips[i], SPEC.clip(i)) for i in range(3))


def test_pool_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    whole = np.array(pool.render(tmp_path / "whole", SPEC))
    monkeypatch.setattr(pool, "SAVE_EVERY", 1)
    rendered = []

    def stop_at_two(done, of):
        rendered.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.render(tmp_path / "stopped", SPEC, stop_at_two)
    assert np.array_equal(pool.render(tmp_path / "stopped", SPEC, lambda done, of: rendered.append(done)), whole)
    assert rendered == [1, 2, 3]


def test_pool_killed_while_it_notes_how_far_it_is_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SAVE_EVERY", 1)
    write, notes = Path.write_text, []

    def cut(self, text):
        notes.append(text)
        write(self, text if len(notes) == 1 else text[:5])
        if len(notes) == 2:
            raise KeyboardInterrupt
        return len(text)

    monkeypatch.setattr(Path, "write_text", cut)
    with pytest.raises(KeyboardInterrupt):
        pool.render(tmp_path, SPEC)
    monkeypatch.undo()
    clips = pool.render(tmp_path, SPEC)
    assert all(np.array_equal(clips[i], SPEC.clip(i)) for i in range(3))


def test_pool_of_another_spec_is_refused(tmp_path):
    pool.render(tmp_path, SPEC)
    with pytest.raises(VideoError, match="another folder"):
        pool.render(tmp_path, SPEC.replace(first_seed=5))


def test_a_piece_is_cut_from_the_clip(tmp_path):
    clips = pool.render(tmp_path, SPEC)
    first, again, other = (pool.piece(clips[0], np.random.default_rng(seed), 3, 8) for seed in (1, 1, 2))
    assert first.shape == (3, 3, 8, 8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.isin(first, clips[0]).all()


def test_to_float_undoes_the_storing():
    stored = np.arange(256, dtype=np.uint8)
    back = np.round((pool.to_float(stored).numpy() + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(back, stored)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room on a disk")
def test_room_for_all_clips_is_taken_before_the_first(tmp_path, monkeypatch):
    plain, spec = PoolSpec.clip, PoolSpec(clips=3, frames=5, size=64)

    def clip(self, index):
        held = (tmp_path / "clips.npy").stat()
        assert held.st_blocks * 512 >= held.st_size > 3 * 3 * 5 * 64 * 64
        return plain(self, index)

    monkeypatch.setattr(PoolSpec, "clip", clip)
    pool.render(tmp_path, spec)
