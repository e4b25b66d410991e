"""One memory case of a peer: reads it as JSON from stdin, prints its peak as JSON. Run by `vvae.bench.peer_memory`."""

import sys

from vvae.bench.peer_memory import PeerCase, measure

if __name__ == "__main__":
    print(measure(PeerCase.model_validate_json(sys.stdin.read())).model_dump_json())
