"""What is listed: all models, with what is true of them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from vvae.models.catalogue import Entry, catalogue
from vvae.models.files import embedded
from vvae.models.names import architectures, spec_of, variants
from vvae.models.recognise import FAMILIES
from vvae.models.releases import RELEASES


@pytest.fixture(scope="module")
def listed() -> Mapping[str, Entry]:
    return {entry.name: entry for entry in catalogue()}


def test_all_models_are_listed_once_those_with_weights_first(listed: Mapping[str, Entry]) -> None:
    assert list(listed) == [*embedded(), *variants()]


def test_truths_are_those_of_the_spec(listed: Mapping[str, Entry]) -> None:
    for name, entry in listed.items():
        spec = spec_of(name)
        assert entry.compression[1:] == (spec.latents.stride, spec.latents.stride)
        assert (entry.latent_channels, entry.sides) == (spec.latents.channels, spec.cell)
        assert entry.streams == (spec.stream_limit("encode") is None and spec.stream_limit("decode") is None)
        assert (entry.frames == "any") == all(spec.filled_frames(n) == n for n in range(1, 40))
        assert (f"pieces of {spec.framing.piece}" in entry.in_time) == bool(spec.framing.piece)
    assert listed["iv_vae:z16_dim64"].parameters == 107_798_550
    assert listed["vvae-small"].bytes is not None


def test_all_of_an_entry_is_json(listed: Mapping[str, Entry]) -> None:
    for entry in listed.values():
        told = json.loads(json.dumps(entry.to_dict()))
        assert {"paper", "code", "code_licence", "weights_licence", "place", "file", "in_time", "frames"} <= told.keys()


def test_each_architecture_with_released_checkpoints_has_its_publication() -> None:
    assert {family.architecture for family in FAMILIES} == RELEASES.keys()
    assert RELEASES.keys() <= architectures().keys()
    for family in FAMILIES:
        assert RELEASES[family.architecture].files.keys() <= family.variants.keys()
