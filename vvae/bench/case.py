"""One memory case: reads it as JSON from stdin, prints its peak as JSON. Run by `vvae.bench.memory`."""

import sys

from vvae.bench.memory import Case, measure

if __name__ == "__main__":
    print(measure(Case.model_validate_json(sys.stdin.read())).model_dump_json())
