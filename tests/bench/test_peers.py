"""Somebody else's models beside ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vvae.bench import peers
from vvae.bench.contest import peer_contest
from vvae.bench.figures import MIB
from vvae.bench.memory import Memory, Peak, beside_published
from vvae.bench.published import PEAK, PUBLISHED
from vvae.errors import VvaeError


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
