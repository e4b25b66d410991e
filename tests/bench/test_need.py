"""Predicted memory beside that of real processes, one for each case."""

from __future__ import annotations

import pytest
import torch

from vvae.bench.memory import Case, measure_alone, predicted
from vvae.bench.work import Size
from vvae.models.names import spec_of
from vvae.models.small import vvae_small
from vvae.summary import Direction

MIB = 2**20
AT_MOST, BESIDE = 1.1, 64 * MIB
"""A process may take so many times its prediction, and so much besides: pages and pools of the allocator."""
AT_LEAST, FROM = 0.6, 512 * MIB
"""It must take so much of a prediction that is as large."""

DIRECTIONS: tuple[Direction, ...] = ("encode", "decode")
WHOLE: dict[str, tuple[Size, ...]] = {
    "vvae-small": ((17, 256, 256), (33, 480, 640)),
    "iv_vae:z16_dim64": ((17, 128, 128), (17, 256, 256), (33, 128, 128)),
    "od_vae:v1_2": ((17, 128, 128), (17, 256, 256), (33, 128, 128)),
    "open_sora:v1_2": ((17, 128, 128), (17, 256, 256), (34, 128, 128)),
    "reducio:ft4": ((16, 128, 128), (16, 256, 256), (32, 128, 128)),
    "tae:zero": ((16, 128, 128), (16, 256, 256), (32, 128, 128)),
}
STREAMED: dict[str, tuple[Size, ...]] = {
    "vvae-small": ((17, 256, 256), (33, 480, 640), (9, 1080, 1920)),
    "iv_vae:z16_dim64": ((17, 128, 128), (17, 256, 256)),
}
CASES = [
    (name, size, direction, stream)
    for stream, of in ((False, WHOLE), (True, STREAMED))
    for name, sizes in of.items()
    for size in sizes
    for direction in DIRECTIONS
]


def case_of(name: str, size: Size, direction: Direction, stream: bool) -> Case:
    spec = vvae_small() if name == "vvae-small" else spec_of(name)
    return Case(spec=spec.to_json(), direction=direction, stream=stream, size=size)


def agree(case: Case) -> None:
    """The law: never more than predicted, and not much less where that is much."""
    taken, said = measure_alone(case, torch.get_num_threads()).bytes, predicted(case)
    assert taken <= AT_MOST * said + BESIDE, f"{taken / MIB:.0f} MiB taken, {said / MIB:.0f} MiB predicted"
    assert said < FROM or taken >= AT_LEAST * said, f"{taken / MIB:.0f} MiB taken, {said / MIB:.0f} MiB predicted"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "size", "direction", "stream"),
    CASES,
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_a_process_takes_what_is_predicted(name: str, size: Size, direction: Direction, stream: bool) -> None:
    agree(case_of(name, size, direction, stream))


def test_a_small_process_takes_what_is_predicted() -> None:
    spec = vvae_small(encoder_width=64, decoder_width=256, decoder_blocks=1)
    agree(Case(spec=spec.to_json(), direction="decode", stream=False, size=(9, 256, 256)))
