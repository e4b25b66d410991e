"""What a worker says of a target."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vvae.verify import child
from vvae.verify.watched import Order

NET = """
from torch import nn

class Late(nn.Conv3d):
    def __init__(self):
        super().__init__(3, 4, 3, padding=1)

def nothing(x): return None
"""
SAID = {"input": (1, 3, 5, 4, 4), "causal": True}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("net", None)


def said(order: Order, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages, as they come out of the pipe."""
    heard: list[dict[str, Any]] = []
    lines = (json.dumps({"seconds": 30.0, **job}) for job in jobs)
    child.main(json.loads(json.dumps(asdict(order))), lines, lambda message: heard.append(dict(message)))
    return heard


def test_a_worker_says_which_laws_apply_and_what_comes_of_each(tmp_path: Path) -> None:
    jobs = {"law": "reach", "part": "layer"}, {"law": "", "part": "layer", "picture": str(tmp_path / "layer.png")}
    up, ready, *cases, finding, picture = said(Order("net:Late", SAID, laws=("reach", "batch")), *jobs)
    assert up["event"] == "up"
    assert [(each["law"], each["part"]) for each in ready["plan"]] == [("reach", "layer"), ("batch", "layer")]
    assert ready["plan"][0]["formula"].startswith("not declared[i, j] => ")
    assert (ready["parts"], ready["claims"]["shape"]) == (["layer"], (1, 3, 5, 4, 4))
    assert [case["case"]["groups"] for case in cases] == [1, 2]
    assert (finding["verdict"], finding["case"]) == ("violated", {"groups": 2, "seed": 0})
    assert (picture["event"], picture["told"]) == ("picture", "")
    assert (tmp_path / "layer.png").exists()


def test_a_law_of_layers_and_of_models_is_done_for_the_part_that_is_asked_for() -> None:
    jobs = [{"law": "spec_json", "part": part} for part in ("encoder", "model")]
    _, ready, *rest = said(Order("wan", laws=("spec_json",)), *jobs)
    assert "small widths" in ready["note"]
    found = [message for message in rest if message["event"] == "finding"]
    assert [(message["part"], message["verdict"]) for message in found] == [("encoder", "holds"), ("model", "holds")]


@pytest.mark.parametrize(
    ("order", "event", "told"),
    [
        (Order("net:Late"), "refused", "net:Late: is no model's spec"),
        (Order("net:Late", SAID, laws=("rich",)), "refused", "law 'rich' is unknown; near it: reach"),
        (Order("net:nothing", SAID), "broken", "NoneType came out"),
    ],
)
def test_a_bad_call_is_refused_and_a_bad_target_is_broken(order: Order, event: str, told: str) -> None:
    _, last = said(order)
    assert last["event"] == event
    assert told in last["told"]


def test_no_law_stands_twice_in_a_plan() -> None:
    _, ready = said(Order("wan"))
    plan = [(each["law"], each["part"]) for each in ready["plan"]]
    assert len(plan) == len(set(plan)) > 50
    assert all(each["formula"] for each in ready["plan"])
