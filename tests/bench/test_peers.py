"""Somebody else's models beside ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vvae import bench
from vvae.bench import peer_memory, peers
from vvae.bench.contest import peer_contest
from vvae.bench.figures import MIB
from vvae.bench.memory import Memory, Peak, beside_published
from vvae.bench.peer_memory import PeerCase
from vvae.bench.published import PEAK, PUBLISHED
from vvae.errors import VvaeError
from vvae.summary import Direction


class Fake(nn.Module):
    """Speaks like a video autoencoder of diffusers; 16 latent channels, 4x8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Conv3d(3, 16, (1, 8, 8), (4, 8, 8))
        self.outward = nn.Conv3d(16, 3, 1)

    def encode(self, x: Tensor) -> SimpleNamespace:
        moments = self.inward(x)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: moments))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.outward(z))


@pytest.fixture
def diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(AutoencoderKLWan=Fake)
    monkeypatch.setattr(peers, "find_spec", lambda name: object())
    monkeypatch.setattr(peers, "importlib", SimpleNamespace(import_module=lambda name: fake))


@pytest.mark.usefixtures("diffusers")
def test_peer_runs_beside_its_own_convolutions() -> None:
    found = peer_contest(
        peers.peer_of("diffusers:wan_2_1"), (5, 16, 24), rounds=2, dtypes=["float32"], unit=None, say=lambda text: None
    )
    assert {t.name for t in found.timings} == {f"{c}{d} float32" for c in ("", "C ") for d in ("encode", "decode")}
    assert all(t.over_c is not None for t in found.timings if not t.name.startswith("C"))
    assert not found.verdicts


@pytest.mark.usefixtures("diffusers")
def test_latents_of_a_peer_have_the_shape_that_it_encodes_to() -> None:
    peer = peers.peer_of("diffusers:wan_2_1")
    for size in ((5, 16, 24), (17, 8, 8), (1, 32, 8)):
        assert peers.peer_runs(peer, size, torch.float32)["encode"]().shape == peer.latents(size)


@pytest.mark.usefixtures("diffusers")
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_memory_of_a_peer_counts_what_goes_in_and_comes_out(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = PeerCase(name="diffusers:wan_2_1", direction=direction, size=(5, 16, 24))
    frames, latents = 3 * 5 * 16 * 24, 16 * 2 * 2 * 3
    assert peer_memory.counted(case) >= 4 * (latents + (frames if direction == "encode" else 3 * latents // 16))
    seen = []
    monkeypatch.setattr(peer_memory, "pass_peer", lambda model, way, x: seen.append((way, x.numel())))
    peer_memory.measure(case)
    assert seen[1:] == [(direction, frames if direction == "encode" else latents)]
    assert seen[0] < seen[1]


@pytest.mark.usefixtures("diffusers")
def test_a_spec_stands_beside_its_published_class(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = Peak(bytes=3 * MIB, method="VmHWM")
    monkeypatch.setattr(peer_memory, "alone", lambda *_: peak.model_dump_json())
    size, parts = (5, 16, 24), ("speed", "memory")
    plan = bench.Plan(
        specs=("diffusers:wan_2_1",), sizes=(size,), memory_sizes=(size,), rounds=1, unit=False, parts=parts
    )
    found = bench.run(plan)
    (theirs,) = found.specs
    both = found.model_copy(update={"specs": (theirs.model_copy(update={"name": "wan_2.1"}), theirs)})
    (table,) = (table for table in bench.tables(both) if table.title.startswith("wan_2.1 beside"))
    rows = {row[0]: row for row in table.rows}
    assert {"encode float32", "decode float32"} <= rows.keys()
    for row in table.rows:
        assert row[2:4] == row[6:8]
        assert row[4:6] == ("-", "-")
    assert rows["encode float32"][3] == "3"
    assert not any("beside diffusers" in table.title for table in bench.tables(found))


def test_unknown_or_absent_peer_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VvaeError, match=r"'wan' is unknown; near it: wan_2_1"):
        peers.peer_of("diffusers:wan")
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(VvaeError, match="not installed"):
        peers.peer_of("diffusers:wan_2_1")


def test_peak_is_compared_with_that_of_the_published_code_at_the_same_size() -> None:
    name, known = next((n, p) for n, p in PUBLISHED.items() if p.peak is not None)

    def measured(mib: float, size: tuple[int, int, int] = known.size, stream: bool = False) -> Memory:
        peak = Peak(bytes=int(mib * MIB), method="VmHWM")
        return Memory(direction="decode", stream=stream, size=size, peak=peak, counted=0, state=0)

    limit = PEAK * known.peak
    assert [v.met for v in beside_published(name, [measured(1), measured(limit - 1)])] == [True]
    assert [v.met for v in beside_published(name, [measured(1), measured(limit + 1)])] == [False]
    assert beside_published(name, [measured(1, size=(5, 16, 16)), measured(1, stream=True)]) == []
    assert beside_published("unknown", [measured(1)]) == []
