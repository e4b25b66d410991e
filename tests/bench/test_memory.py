"""Peak memory: what lives at once is seen, what lived before is not."""

from __future__ import annotations

import pytest

from vvae.bench.figures import MIB
from vvae.bench.memory import Case, Memory, Peak, alone, counted, measure_alone, verdicts
from vvae.errors import VvaeError
from vvae.models.small import vvae_small
from vvae.summary import Direction

PLANTED = 64
SCRIPT = """
import torch
from vvae.bench.memory import peak_above

def tensors():
    return (torch.ones(2**18) for _ in range(%d))

held = list(tensors())
for run in (lambda: list(tensors()), lambda: [t.sum() for t in tensors()], lambda: None):
    run()
    print(peak_above(run).bytes)
"""
SPEC = vvae_small(encoder_width=64, decoder_width=256, decoder_blocks=1)


def test_peak_is_that_of_a_planted_list_of_tensors() -> None:
    kept, dropped, nothing = map(int, alone(["-c", SCRIPT % PLANTED], "", 1).split())
    assert PLANTED * MIB <= kept < (PLANTED + 4) * MIB
    assert 0 <= nothing <= dropped < 6 * MIB


def test_case_takes_at_least_what_lives_at_once() -> None:
    case = Case(spec=SPEC.to_json(), direction="decode", stream=False, size=(17, 256, 256))
    lives = counted(SPEC, "decode", False, case.size)
    assert lives > 20 * MIB
    assert 0.9 * lives < measure_alone(case, 1).bytes


def test_a_case_that_dies_is_named_in_one_line() -> None:
    with pytest.raises(VvaeError, match=r"^a memory case ended with code 1: ValueError: no; free memory") as caught:
        alone(["-c", "raise ValueError('no')"], "", 1)
    assert "\n" not in str(caught.value)


def of_stream(direction: Direction, frames: int, peak: float, state: float) -> Memory:
    peak_found = Peak(bytes=int(peak * MIB), method="VmHWM")
    size = (frames, 128, 128)
    return Memory(direction=direction, stream=True, size=size, peak=peak_found, counted=0, state=int(state * MIB))


def test_a_stream_may_take_two_states_and_a_fixed_room() -> None:
    found = [of_stream("encode", 17, 300, 50), of_stream("decode", 17, 301, 50)]
    assert [verdict.met for verdict in verdicts(found)] == [True, False]


def test_a_stream_that_keeps_nothing_may_take_what_a_piece_takes() -> None:
    assert verdicts([of_stream("encode", 16, 400, 0)]) == []


def test_a_stream_must_not_grow_with_its_clip() -> None:
    for longer, met in ((104, True), (106, False)):
        found = [of_stream("encode", 17, 100, 50), of_stream("encode", 65, longer, 50)]
        assert [v.met for v in verdicts(found) if "65 / 17" in v.name] == [met]


def test_streams_are_compared_at_the_same_frame_size_alone() -> None:
    other = of_stream("encode", 65, 900, 500).model_copy(update={"size": (65, 256, 256)})
    found = [of_stream("encode", 17, 100, 50), other, of_stream("decode", 33, 500, 500)]
    assert [v.name for v in verdicts(found) if " frames" in v.name] == []
