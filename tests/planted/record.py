"""Writes `names.json`: under which names releases have the tensors of small models.

`python -m tests.planted.record`, once the tests against the published code have passed: what is written is taken for
true from then on.
"""

from __future__ import annotations

import json

from tests.planted.subjects import NAMES
from vvae import arch
from vvae.errors import SpecError
from vvae.models.recognise import FAMILIES, shapes_of
from vvae.verify.laws.models import published_names
from vvae.verify.small import RELEASED


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    """Architecture -> naming -> own name -> published name."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for family in FAMILIES:
        spec = getattr(arch, family.architecture)(**RELEASED[family.architecture])
        for naming in family.namings:
            try:
                names = published_names(family.renames(spec, naming), shapes_of(spec))
            except SpecError:
                continue  # another naming has its names
            found.setdefault(family.architecture, {})[naming] = names
    return found


if __name__ == "__main__":
    NAMES.write_text(json.dumps(recorded(), indent=0, sort_keys=True) + "\n")
