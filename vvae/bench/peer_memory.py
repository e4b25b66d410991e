"""Peak memory of a peer, each case in a process of its own: what stands above the loaded model, as for our specs."""

from __future__ import annotations

from collections.abc import Sequence

from vvae.bench.figures import MIB, Figure
from vvae.bench.memory import Memory, Peak, alone, peak_above
from vvae.bench.peers import pass_peer, peer_model, peer_of, peer_source
from vvae.bench.rounds import Say
from vvae.bench.work import DIRECTIONS, Size
from vvae.cost import peak_bytes
from vvae.summary import Direction


class PeerCase(Figure):
    """What one process does: a peer by name, a direction, one clip, float32."""

    name: str
    direction: Direction
    size: Size


def measure(case: PeerCase) -> Peak:
    """The peak of the case in this very process, its input included; a tiny clip goes before it."""
    peer = peer_of(case.name)
    model = peer_model(peer)

    def run(size: Size) -> None:
        pass_peer(model, case.direction, peer_source(peer, case.direction, size))

    run((1 + 2**peer.temporal, 2**peer.spatial, 2**peer.spatial))
    return peak_above(lambda: run(case.size))


def counted(case: PeerCase) -> int:
    """Bytes that live at once, without running anything."""
    peer = peer_of(case.name)
    model = peer_model(peer, device="meta")
    return peak_bytes(lambda: pass_peer(model, case.direction, peer_source(peer, case.direction, case.size, "meta")))


def peer_memory(name: str, sizes: Sequence[Size], threads: int, say: Say) -> list[Memory]:
    """Both directions at every size, whole."""
    found = []
    for direction in DIRECTIONS:
        for size in sizes:
            case = PeerCase(name=name, direction=direction, size=size)
            text = alone(["-m", "vvae.bench.peer_case"], case.model_dump_json(), threads)
            peak = Peak.model_validate_json(text)
            say(f"memory: {direction} {size}: {peak.bytes / MIB:.0f} MiB")
            found.append(
                Memory(direction=direction, stream=False, size=size, peak=peak, counted=counted(case), state=None)
            )
    return found
