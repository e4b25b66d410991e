"""Seconds become ratios within their round, and ratios verdicts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vvae
from vvae.bench import units
from vvae.bench.contest import Target, contest, counted, difference, timing
from vvae.bench.rounds import Sample

SPEC = vvae.arch.iv_vae(width=4, multipliers=(1, 2), temporal=(True,), blocks=1)


def rounds(**seconds: list[float]) -> list[dict[str, Sample]]:
    count = len(next(iter(seconds.values())))
    names = {name.replace("_f", " f").replace("_e", " e"): values for name, values in seconds.items()}
    return [{n: Sample(seconds=v[i], cpu_seconds=v[i], load=1.0) for n, v in names.items()} for i in range(count)]


def test_timing_stands_over_its_own_units() -> None:
    played = rounds(encode_float32=[3.0, 8.0], C_encode_float32=[2.0, 4.0], U=[6.0, 8.0])
    own = timing("encode float32", played, {"flops": 22})
    assert own.over_c is not None
    assert own.over_u is not None
    assert (own.over_c.q25, own.over_c.q75) == (1.625, 1.875)
    assert own.over_u.median == 0.75
    assert own.flops_per_second == 4.0
    unit = timing("U", played, {})
    assert (unit.over_c, unit.over_u, unit.flops_per_second) == (None, None, None)


def test_target_compares_within_a_round() -> None:
    played = rounds(a=[1.0, 10.0, 100.0], b=[1.0, 10.0, 100.0])
    assert Target("a", "b", 1.0).verdict(played).met
    assert not Target("a", "b", 0.99).verdict(played).met


def test_contest_has_every_way_its_unit_and_its_targets() -> None:
    found = contest(
        SPEC, (5, 16, 16), rounds=2, dtypes=["float32"], unit=lambda: None, compiled=False, say=lambda text: None
    )
    ways = {f"{d}{way} float32" for d in ("encode", "decode") for way in ("", "_stream")}
    assert {t.name for t in found.timings} == ways | {"C encode float32", "C decode float32", "U"}
    assert {(v.name, v.limit) for v in found.verdicts} == {
        ("encode float32 / C encode float32", 1.35),
        ("decode float32 / C decode float32", 1.35),
        ("encode_stream float32 / encode float32", 1.1),
        ("decode_stream float32 / decode float32", 1.1),
    }
    assert all(t.error is not None and t.error < 2e-5 for t in found.timings if t.name in ways)
    assert [set(played) for played in found.rounds] == [{t.name for t in found.timings}] * 2


def test_convolutions_are_at_most_the_work_of_the_model() -> None:
    found = contest(SPEC, (5, 16, 16), rounds=1, dtypes=["float32"], unit=None, compiled=False, say=lambda text: None)
    flops = {t.name: t.flops or 0 for t in found.timings}
    for direction, work in counted(SPEC, (5, 16, 16)).items():
        assert 0.5 * work < flops[f"C {direction} float32"] <= flops[f"{direction} float32"] == work


def test_relative_error_is_the_largest_difference_over_the_largest_value() -> None:
    assert difference(torch.tensor([1.0, -5.0]), torch.tensor([2.0, -4.0])) == 0.25
    assert difference(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0])) == 0.25


class FakeAutoencoder:
    """Takes what diffusers takes, and keeps it."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    def eval(self) -> FakeAutoencoder:
        return self

    def decode(self, z: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=(self.given, tuple(z.shape), torch.is_grad_enabled()))


def test_unit_is_the_sdxl_decoder_on_seventeen_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "find_spec", lambda name: object())
    fake = SimpleNamespace(AutoencoderKL=FakeAutoencoder)
    monkeypatch.setattr(units.importlib, "import_module", lambda name: fake)
    decode = units.diffusers_decoder()
    assert decode is not None
    given, shape, grad = decode()  # type: ignore[misc]
    assert given["block_out_channels"] == (128, 256, 512, 512)
    assert (given["latent_channels"], given["layers_per_block"], given["norm_num_groups"]) == (4, 2, 32)
    assert (shape, grad) == ((17, 4, 16, 16), False)


def test_without_diffusers_there_is_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "find_spec", lambda name: None)
    assert units.diffusers_decoder() is None


def test_without_float64_no_error_is_told() -> None:
    found = contest(
        SPEC,
        (5, 16, 16),
        rounds=1,
        dtypes=["float32"],
        unit=None,
        compiled=False,
        exact=False,
        say=lambda text: None,
    )
    assert all(timing.error is None for timing in found.timings)
