"""The order of clips: laws in pure integers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.runs import L1
from vvae.training import Recipe, order
from vvae.training.batches import Batches

SEEDS, LENGTHS, NUMBERS = st.integers(0, 2**40), st.integers(1, 60), st.integers(0, 10**6)
STAGES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=4)


def with_stages(stages: list[tuple[int, int]]) -> Recipe:
    """A recipe of stages of so many steps with so many clips each."""
    return Recipe(
        model={"name": "vvae_small"},
        data={"kind": "procedural", "clips": 1},
        stages=[
            {
                "name": f"stage {number}",
                "steps": steps,
                "batch": {"clips": clips},
                "objective": L1,
                "optimizer": {"rate": 1e-3},
            }
            for number, (steps, clips) in enumerate(stages)
        ],
    )


@given(SEEDS, LENGTHS, st.integers(0, 50))
def test_every_clip_comes_once_in_an_epoch(seed: int, length: int, epoch: int) -> None:
    seen = [order.item(seed, epoch * length + place, length) for place in range(length)]
    assert sorted(seen) == list(range(length))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(order.item(seed, e * 40 + n, 40) for n in range(40)) for seed in range(3) for e in range(5)}
    assert len(orders) == 15


@given(SEEDS, LENGTHS, NUMBERS)
def test_every_clip_can_stand_in_for_another_once(seed: int, length: int, number: int) -> None:
    candidates = list(order.candidates(seed, number, length))
    assert candidates[0] == order.item(seed, number, length)
    assert sorted(candidates) == list(range(length))


def test_neighbours_are_rarely_replaced_by_neighbours() -> None:
    """A folder of clips that cannot be used is left at once."""
    own, other = np.array([list(order.candidates(7, number, 1000))[:2] for number in range(200)]).T
    assert np.median(np.abs(own - other)) > 100


@given(NUMBERS, st.integers(0, 64), st.integers(1, 9))
def test_shares_of_processes_are_the_numbers_of_the_step(first: int, clips: int, world: int) -> None:
    shares = [order.numbers(first, clips, rank, world) for rank in range(world)]
    assert [number for share in shares for number in share] == list(range(first, first + clips))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(STAGES, st.integers(1, 4))
def test_steps_of_all_stages_and_processes_take_each_number_once(stages: list[tuple[int, int]], world: int) -> None:
    recipe = with_stages(stages)
    processes = [Batches(recipe, (), rank, world) for rank in range(world)]  # type: ignore[arg-type]
    steps = [[n for each in processes for n in each.numbers(step)] for step in range(recipe.steps)]
    flat = [number for step in steps for number in step]
    assert flat == list(range(sum(count * clips for count, clips in stages)))
    assert all(before[-1] + 1 == after[0] for before, after in pairwise(steps))


@given(st.lists(st.tuples(SEEDS, NUMBERS, LENGTHS), min_size=3, max_size=8))
def test_what_comes_depends_on_nothing_that_was_asked_before(asked: list[tuple[int, int, int]]) -> None:
    forwards = [order.item(*each) for each in asked]
    backwards = [order.item(*each) for each in reversed(asked)]
    assert forwards == backwards[::-1]


def test_random_numbers_of_different_uses_are_not_the_same() -> None:
    uses = (order.PLACE, order.SHAPE, order.NOISE, order.LOOK, order.EPOCH, order.OTHERS)
    drawn = {int(order.random(3, use, number).integers(2**62)) for use in uses for number in range(50)}
    assert len(drawn) == 50 * len(uses)


def test_the_order_of_an_epoch_is_not_what_places_are_drawn_from() -> None:
    shuffled = {tuple(order.item(3, epoch * 30 + place, 30) for place in range(30)) for epoch in range(8)}
    others = {tuple(order.random(3, use, 0).permutation(30)) for use in range(8) if use != order.EPOCH}
    assert not shuffled & others


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_parts_of_a_batch_are_the_same_clips_for_any_number_of_processes(
    each: int, world: int, parts: int, step: int
) -> None:
    recipe = with_stages([(4, each * world * parts)])
    stage = recipe.stages[0]
    recipe = recipe.replace(stages=[stage.replace(batch=stage.batch.replace(accumulate=parts))])
    alone = np.array(Batches(recipe, ()).numbers(step)).reshape(parts, -1)  # type: ignore[arg-type]
    shares = [Batches(recipe, (), rank, world).numbers(step) for rank in range(world)]  # type: ignore[arg-type]
    together = np.concatenate([np.array(share).reshape(parts, -1) for share in shares], 1)
    assert np.array_equal(alone, together)
