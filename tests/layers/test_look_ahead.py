"""A convolution that looks ahead gives in a stream what it can, as soon as it can, and keeps no more than it must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vvae import SpecError, StreamStep, verify
from vvae.context import module_names
from vvae.layers import LookAheadConv, LookAheadConvSpec, TemporalConv
from vvae.signal import Signal
from vvae.verify.strategies import plans

CASES: dict[str, tuple[LookAheadConvSpec, Signal]] = {
    "lead": (LookAheadConvSpec(channels=2), Signal(2, lead=1, group=4)),
    "lone frames": (LookAheadConvSpec(channels=2), Signal(2, lead=1)),
    "two groups ahead": (LookAheadConvSpec(channels=2, kernel=6, ahead=5), Signal(2, lead=1, group=3)),
    "none ahead": (LookAheadConvSpec(channels=2, ahead=0, outside="zero"), Signal(2, group=2)),
    "stride": (LookAheadConvSpec(channels=2, kernel=4, stride=2), Signal(2, group=4)),
    "stride ahead": (LookAheadConvSpec(channels=2, kernel=5, stride=2, ahead=4), Signal(2, group=2)),
}
every_case = pytest.mark.parametrize(("spec", "signal"), CASES.values(), ids=list(CASES))


def built(spec: LookAheadConvSpec, signal: Signal) -> LookAheadConv:
    torch.manual_seed(0)
    return spec.build(signal).double()


@every_case
@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_a_whole_clip_passes_as_through_the_convolution_that_does_not_stream(
    spec: LookAheadConvSpec, signal: Signal, frames: int
) -> None:
    module, x = built(spec, signal), verify.random_clip(signal, frames, 3, 2)
    plain = TemporalConv(2, 2, spec.kernel, stride=spec.stride, ahead=spec.ahead, outside=spec.outside).double()
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(x))


@every_case
def test_frames_come_as_soon_as_all_that_they_see_has_come(spec: LookAheadConvSpec, signal: Signal) -> None:
    module, out, groups = built(spec, signal), spec.trace(signal), 6
    x = verify.random_clip(signal, signal.frames(groups), 2, 2)
    sees = spec.reach(signal, x.shape[2])
    last_seen = [row.nonzero()[0].max() for row in sees]
    state, come, gone = {}, 0, 0
    for chunk in verify.split(x, signal, [1] * groups):
        step = StreamStep(module_names(module), state)
        gone += module(chunk, step).shape[2]
        state, come = step.close(), come + chunk.shape[2]
        # a row whose frames end before the clip's last one is the same in a longer clip
        ready = sum(last < come for last in last_seen[: out.frames(groups - 2)])
        if come < signal.frames(groups - 2):
            assert gone == (0 if ready < out.lead else out.frames((ready - out.lead) // out.group))
        (known,) = state[""]
        assert known.shape[2] == module.before + come - gone * spec.stride


@given(
    st.integers(2, 6), st.integers(0, 5), st.sampled_from(["replicate", "zero"]), st.integers(0, 1), st.integers(1, 4)
)
def test_any_chunks_give_the_whole_clip(kernel: int, ahead: int, outside: str, lead: int, group: int) -> None:
    assume(ahead < kernel)
    spec = LookAheadConvSpec(channels=2, kernel=kernel, ahead=ahead, outside=outside)
    signal = Signal(2, lead=lead, group=group)
    x = verify.random_clip(signal, signal.frames(4), 2, 2)
    verify.check_stream(built(spec, signal), signal, x, [[1, 1, 1, 1], [-1, 0, 3, 0, 1, 0], [2, 2]])


@given(st.data())
def test_the_end_of_a_stream_may_be_ragged(data: st.DataObject) -> None:
    spec, signal = data.draw(st.sampled_from(list(CASES.values())))
    module, plan, rest = built(spec, signal), data.draw(plans(3)), data.draw(st.integers(1, signal.group))
    x = verify.random_clip(signal, signal.frames(3) + rest, 2, 2)
    chunks = [*verify.split(x[:, :, :-rest], signal, plan), x[:, :, -rest:]]
    with torch.no_grad():
        assert verify.difference(torch.cat(verify.stream(module, chunks), 2), module(x)) <= 1e-12


def test_a_lead_of_several_frames_is_refused() -> None:
    with pytest.raises(SpecError, match="lead of 2"):
        LookAheadConvSpec(channels=2).trace(Signal(2, lead=2, group=2))
