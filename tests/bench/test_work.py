"""What is measured is the same each time, and the stream gives what the whole clip gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vvae
from vvae.bench.work import DIRECTIONS, chunked, groups, random_model, shape, source, streamed, ways, whole, work
from vvae.layers import opaque
from vvae.signal import Signal
from vvae.summary import Direction

SPEC = vvae.arch.iv_vae(width=4, multipliers=(1, 2), temporal=(True,), blocks=1)
SIZE = (7, 16, 16)


@given(st.integers(0, 1), st.integers(1, 5), st.integers(1, 40))
def test_groups_are_the_whole_clip_in_legal_chunks(lead: int, group: int, frames: int) -> None:
    lengths = groups(Signal(channels=3, lead=lead, group=group), frames)
    assert sum(lengths) == frames
    assert lengths[0] == min(lead + group, frames)
    assert all(length == group for length in lengths[1:-1])
    assert 0 < lengths[-1] <= lead + group


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_stream_gives_what_the_whole_clip_gives(direction: Direction) -> None:
    model, x = random_model(SPEC, torch.float64), next(source(SPEC, direction, SIZE)).double()
    once = whole(model, direction, x)
    parts = list(streamed(model, direction, chunked(SPEC, direction, x)))
    assert len(parts) > 1
    assert float((torch.cat(parts, 2) - once).abs().max() / once.abs().max()) < 1e-12


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_source_has_the_shape_of_the_clip(direction: Direction, stream: bool) -> None:
    made = list(source(SPEC, direction, SIZE, stream))
    assert len(made) > 1 or not stream
    assert tuple(torch.cat(made, 2).shape) == shape(SPEC, direction, SIZE)


@pytest.mark.parametrize(("direction", "stream"), ways(SPEC))
def test_work_runs_on_meta_as_it_runs_on_the_cpu(direction: Direction, stream: bool) -> None:
    real = [tuple(out.shape) for out in work(random_model(SPEC), direction, SIZE, stream)]
    planned = random_model(SPEC, device="meta")
    assert [tuple(out.shape) for out in work(planned, direction, SIZE, stream, "meta")] == real


def test_models_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = random_model(SPEC), random_model(SPEC)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_spec_that_cannot_stream_is_measured_whole() -> None:
    assert set(ways(SPEC)) == {(d, s) for d in DIRECTIONS for s in (False, True)}
    not_said_to_stream = SPEC.replace_at("decoder.act_out", opaque(torch.nn.SiLU(), 8))
    assert set(ways(not_said_to_stream)) == {("encode", False), ("decode", False), ("encode", True)}
