"""Other people's models: told their claims alone, the laws find what they do, and find nothing where all is sound."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import peers as table
from examples import sound
from vvae.verify import Finding, claimed_subject, verify

AHEAD = {"reach", "group_causal", "first_frame", "prefix"}
LEAKS = {"encoder": AHEAD, "decoder": AHEAD, "model": {"accounting", "kl", "tiled"}}
"""Group norms over all frames: what comes later changes what came before."""
CAUSAL = {"model": {"accounting", "kl", "tiled"}}


def keeps(*laws: str) -> dict[str, set[str]]:
    """Causal, with a state of the stream on the module that breaks these laws."""
    return {"encoder": set(laws), "decoder": set(laws), **CAUSAL}


BROKEN: Mapping[str, Mapping[str, set[str]]] = {
    "cogvideox": LEAKS,
    "wan": keeps("threads"),
    "hunyuan_video": LEAKS,
    "ltx": CAUSAL,
    "mochi": CAUSAL,
    "cosmos": {"model": {"accounting", "tiled"}},
    "magvit": keeps("threads", "stateless"),
    "image_kl": {"model": {"accounting", "tiled"}},
    "sound": {},
    "sound_groups": {},
}
SIZES = {
    "cogvideox": ["2 -> 1", "13 -> 16", "33 -> 32"],
    "wan": ["2 -> 1", "6 -> 5", "12 -> 9", "33 -> 32"],
    "hunyuan_video": ["2 -> 1", "33 -> 40"],
    "ltx": ["2 -> 1", "24 -> 17", "refused: height 33"],
    "mochi": ["2 -> 1", "12 -> 7"],
    "cosmos": ["2 -> 1", "6 -> 9"],
    "magvit": ["33 -> 32", "refused: frames 2, 3, 4, 6"],
    "image_kl": ["33 -> 32"],
}
SLOW = {"compiled", "tiled", "gradients", "checkpointing"}
QUICK = {
    "wan": (AHEAD | {"threads", "stateless", "batch", "accounting", "kl"}, ["2 -> 1", "6 -> 5", "12 -> 9", "17 -> 16"]),
    "cogvideox": (AHEAD | {"accounting", "kl"}, ["2 -> 1", "13 -> 16", "17 -> 16"]),
}
"""The laws that are quick, on frames of half the side."""
every_control = pytest.mark.parametrize("name", ["sound", "sound_groups"])


def findings(name: str, only: Iterable[str] = (), side: int | None = None) -> list[Finding]:
    make, claims = table.models()[name]
    if side is not None:
        claims = replace(claims, shape=(*claims.shape[:3], side, side))
    return list(verify(claimed_subject(make(), claims, name), only=sorted(only)))


def broken(found: Iterable[Finding | Mapping[str, Any]]) -> dict[str, set[str]]:
    """The laws that are violated, by part; nothing may crash."""
    laws: dict[str, set[str]] = defaultdict(set)
    for row in (vars(finding) if isinstance(finding, Finding) else finding for finding in found):
        assert row["verdict"] in ("holds", "violated", "not claimed"), row
        if row["verdict"] == "violated":
            laws[row["part"]].add(row["law"])
    return dict(laws)


# torch's compiler imports a part of torch that is deprecated
@every_control
def test_a_sound_model_keeps_every_law(name: str) -> None:
    found = findings(name)
    assert broken(found) == {}
    assert {finding.law for finding in found if finding.verdict == "holds"} >= AHEAD | SLOW - {"tiled"}


@pytest.mark.parametrize("name", list(QUICK))
def test_a_peer_breaks_these_laws_and_no_other(name: str) -> None:
    laws, sizes = QUICK[name]
    found = findings(name, laws, side=16)
    assert broken(found) == {part: own & laws for part, own in BROKEN[name].items()}
    assert_sizes_are_told(sizes, found)


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(SIZES))
def test_a_peer_breaks_these_laws_and_no_other_of_all(name: str) -> None:
    found = findings(name)
    assert broken(found) == BROKEN[name]
    assert_sizes_are_told(SIZES[name], found)


def assert_sizes_are_told(sizes: Iterable[str], found: Iterable[Finding]) -> None:
    (accounting,) = (finding for finding in found if finding.law == "accounting")
    assert [size for size in sizes if size not in accounting.message] == []


# --------------------------------------------------------------------------- what is published


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    held: dict[str, Any] = json.loads((table.RESULTS / "peers.json").read_text())
    return held


def test_the_published_results_are_those_that_the_tests_see(published: Mapping[str, Any]) -> None:
    assert {name: broken(model["findings"]) for name, model in published["models"].items()} == BROKEN


def test_the_published_tables_are_made_of_the_results(published: Mapping[str, Any]) -> None:
    page = table.PAGE.read_text()
    assert table.markdown(published) in page
    assert page == table.filled(page, published), "run python -m benchmarks.peers"


def test_the_table_has_a_cell_for_each_law_and_model() -> None:
    held = {"law": "reach", "part": "encoder", "verdict": "holds", "figure": 0.5, "message": ""}
    rows = [
        held,
        {**held, "part": "decoder", "verdict": "not claimed", "message": "nothing is claimed"},
        {**held, "law": "kl", "part": "model", "verdict": "violated", "figure": None, "message": "of shape (2, 4)"},
        {**held, "law": "batch", "verdict": "violated", "figure": 0.123},
        {**held, "law": "batch", "part": "decoder"},
    ]
    claims = {"shape": (1, 3, 9, 16, 16), "lead": 1, "group": 4, "causal": "encoder"}
    told = table.markdown({"versions": {}, "effort": "quick", "models": {"net": {"claims": claims, "findings": rows}}})
    assert "| input | 9x16x16 |\n| claims | lead 1, group 4, encoder causal |\n| reach | E holds |" in told
    assert "| kl | **violated** |\n| batch | E **violated** (0.12), D holds |" in told
    assert "| net | kl | of shape (2, 4) |" in told


def test_the_command_on_the_page_names_the_controls() -> None:
    assert set(table.CONTROLS) == {"sound", "sound_groups"} <= set(vars(sound))
