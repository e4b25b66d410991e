"""Shares of operators, growth, the machine's own words, and the path of a device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vvae
from vvae.bench.costs import Costs, convolution_share, operators, shares
from vvae.bench.device import check, on_device
from vvae.bench.growth import exponent, growth
from vvae.bench.machine import has_bfloat16, look
from vvae.errors import VvaeError

SPEC = vvae.arch.iv_vae(width=4, multipliers=(1, 2), temporal=(True,), blocks=1)
EVENTS = st.lists(st.tuples(st.text(), st.floats(1e-6, 1e3), st.integers(1, 9)), min_size=1)


@given(EVENTS)
def test_shares_are_a_whole_from_the_largest_on(events: list[tuple[str, float, int]]) -> None:
    found = [cost.share for cost in shares(events)]
    assert sum(found) == pytest.approx(1)
    assert found == sorted(found, reverse=True)


def test_largest_others_are_three_and_no_convolutions() -> None:
    names = {"aten::mkldnn_convolution": 60, "aten::cat": 9, "aten::copy_": 20, "aten::slow_conv3d_forward": 10}
    found = shares((name, seconds, 1) for name, seconds in {**names, "aten::mul": 8, "aten::add": 7}.items())
    one = Costs(direction="encode", dtype="float32", operators=tuple(found), convolution_share=convolution_share(found))
    assert [cost.operator for cost in one.largest_others] == ["aten::copy_", "aten::cat", "aten::mul"]
    assert one.convolution_share == pytest.approx(70 / 114)


def test_profile_sees_what_ran() -> None:
    a = torch.randn(64, 64)
    found = {cost.operator: cost for cost in operators(lambda: [a @ a for _ in range(5)])}
    assert found["aten::mm"].calls == 5
    assert "aten::convolution" not in found


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_is_the_power_that_seconds_follow(power: float) -> None:
    assert exponent(6.6**power, 6.6) == pytest.approx(power)
    assert exponent(1.0, 1.0) is None


def test_growth_starts_at_the_smallest_size() -> None:
    sizes = ((3, 16, 16), (5, 16, 16))
    found = growth(SPEC, sizes, 2, lambda text: None)
    assert [(g.direction, g.size) for g in found] == [(d, size) for d in ("encode", "decode") for size in sizes]
    for smallest, larger in (found[:2], found[2:]):
        assert (smallest.over_smallest.median, smallest.exponent) == (1.0, None)
        assert (larger.pixels, larger.exponent is None) == (5 / 3, False)


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx512f avx512_bf16 gfni", True), ("fpu amx_bf16", True), ("fpu avx512f avx512bw", False)],
)
def test_bfloat16_is_read_from_the_flags(flags: str, found: bool) -> None:
    assert has_bfloat16(["model name\t: a CPU with avx512_bf16", f"flags\t\t: {flags}"]) is found
    assert has_bfloat16([]) is False


def test_machine_says_how_many_threads() -> None:
    assert look().threads == torch.get_num_threads()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VvaeError, match=r"^device cuda: no GPU is here; take --device cpu"):
        check("cuda")


def test_device_figures_are_shares_of_one_product() -> None:
    found = on_device(SPEC, (5, 16, 16), 2, "cpu", lambda text: None, compiled=False)
    assert [(f.direction, f.compiled, f.peak) for f in found] == [("encode", False, None), ("decode", False, None)]
    assert all(0 < f.convolution_share < 1 and f.flops_per_second > 0 < f.matmul_share.median for f in found)
