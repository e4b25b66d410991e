"""Reports: what they say, the code that repeats a failure, pictures, and the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from vvae import verify
from vvae.colours import BLUE, RED
from vvae.errors import VvaeError
from vvae.layers import GroupCausalConv3dSpec
from vvae.signal import Signal
from vvae.verify.matrices import draw, matrices
from vvae.verify.report import as_dict, conclusion, free_folder, markdown, number, reasons, report_folder, write
from vvae.verify.rows import Matrices, Report, Row
from vvae.verify.snippet import snippet, target_call

HELD = Row("batch", "layer", "holds", 2, 3e-17, formula="f(x) = x")
BROKEN = Row(
    "reach", "layer", "violated", 1, 0.5, 0.1, "frame 0 sees [1]", {"groups": 2, "seed": 0}, {"frame": 0}, "a | b"
)
CRASHED = Row("shift", "encoder", "crashed", 1, message="RuntimeError: no", case={"groups": 1})
UNTOUCHED = Row("stream", "layer", "no time", message="no time was left")
NOT_ITS = [Row(law, part, "not claimed", message="it has no spec") for law in ("halo", "kept") for part in ("a", "b")]


def report(*rows: Row, **fields: object) -> Report:
    return Report("net:Net", "verify.target('net:Net', input=(1, 3, 5, 8, 8))", "quick", 60.0, rows=rows, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "code", "told"),
    [
        (report(HELD, *NOT_ITS), 0, "sound: 1 of 1 checks hold"),
        (report(HELD, BROKEN, CRASHED), 1, "violated: reach; 1 of 3 checks hold, 1 not checked"),
        (report(HELD, CRASHED, UNTOUCHED), 3, "the target crashed: 1 of 2 checks hold, 2 not checked"),
        (report(HELD, UNTOUCHED), 3, "out of time: 1 of 1 checks hold, 1 not checked"),
        (report(broken="it gives None"), 3, "the target crashed: it gives None"),
        (report(broken="it hangs", late=True), 3, "out of time: it hangs"),
        (report(HELD, matrices=[Matrices("layer", ended="crashed")]), 3, "the target crashed: 1 of 1 checks hold"),
    ],
)
def test_a_report_ends_in_a_code_and_a_line(found: Report, code: int, told: str) -> None:
    assert (found.exit_code, conclusion(found)) == (code, told)


def test_json_names_the_violated_laws_and_holds_the_counterexamples() -> None:
    endless = Row("batch", "layer", "violated", 1, float("inf"), where={"rows": (1, 2), "what": Path("x")})
    found = json.loads(json.dumps(as_dict(report(BROKEN, endless, HELD)), allow_nan=False))
    assert list(found["violated"]) == ["reach", "batch"]
    (reach,) = found["violated"]["reach"]
    assert (reach["part"], reach["case"], reach["where"]) == ("layer", {"groups": 2, "seed": 0}, {"frame": 0})
    assert "verify.check(subject, 'reach', 'layer', groups=2, seed=0)" in reach["counterexample"]
    (batch,) = found["violated"]["batch"]
    assert (batch["figure"], batch["where"]) == ("inf", {"rows": [1, 2], "what": "x"})
    assert [row["law"] for row in found["findings"]] == ["reach", "batch", "batch"]


def test_the_page_shows_what_is_violated_what_was_not_checked_and_the_pictures_that_are_there() -> None:
    drawn = Matrices("layer", ["1"]), Matrices("encoder", told="no time was left")
    page = markdown(report(BROKEN, HELD, CRASHED, *NOT_ITS, matrices=drawn, claims={"causal": True}), ["layer.png"])
    assert "## Violated: reach (layer)" in page
    assert "> `a \\| b`" in page
    assert r"frame 0 sees \[1\]." in page
    assert "```python\nfrom vvae import verify\n" in page
    assert "| batch | layer | 2 | holds | 3.0e-17 |" in page
    assert "| RuntimeError: no (case: groups 1) | shift (encoder) |" in page
    assert "| it has no spec | halo (a, b), kept (a, b) |" in page
    assert "](layer.png)" in page
    assert "encoder.png" not in page
    assert "encoder: no time was left." in page
    assert "claims: causal True" in page


def test_rows_that_say_the_same_stand_together() -> None:
    assert reasons([*NOT_ITS, CRASHED]) == {
        "it has no spec": ["halo (a, b)", "kept (a, b)"],
        "RuntimeError: no (case: groups 1)": ["shift (encoder)"],
    }


@pytest.mark.parametrize(
    ("figure", "told"),
    [(None, "-"), (0.0, "0"), (1.0, "1"), (0.25, "0.25"), (3.21e-16, "3.2e-16"), (33732.0, "3.373e+04")],
)
def test_a_figure_is_short(figure: float | None, told: str) -> None:
    assert number(figure) == told


# --------------------------------------------------------------------------- code that repeats a failure


def test_the_snippet_runs_and_fails_as_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blurred.py").write_text("from torch import nn\n\ndef net(): return nn.Conv3d(3, 4, 3, padding=1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = {"input": [1, 3, 5, 8, 8], "lead": None, "group": None, "causal": True, "look_ahead": None}
    call = target_call("'blurred:net'", said)
    subject = verify.target("blurred:net", input=(1, 3, 5, 8, 8), causal=True)
    (found,) = verify.verify(subject, only=["reach"])
    with pytest.raises(verify.LawError) as caught:
        exec(snippet(call, found.law, found.part, found.case))
    assert (caught.value.law, caught.value.message) == ("reach", found.message)


def test_a_call_says_what_was_said_and_no_more() -> None:
    said = {"input": None, "lead": 1, "group": None, "causal": "encoder"}
    assert (
        target_call("'wan'", said, full_width=True) == "verify.target('wan', lead=1, causal='encoder', full_width=True)"
    )


# --------------------------------------------------------------------------- matrices and pictures


def test_matrices_of_a_layer_are_declared_and_measured() -> None:
    found = matrices(verify.layer_subject(GroupCausalConv3dSpec(channels=4), Signal(3, lead=1, group=2)).parts[0])
    assert (found.declared, found.wrong, found.exact) == (found.measured, 0, True)
    assert (found.given, found.out) == ((1, 2), (1, 2))
    assert found.measured == ["1000000", "1110000", "0110000", "0011100", "0001100", "0000111", "0000011"]


def test_a_part_that_cannot_be_measured_says_why() -> None:
    (part,) = verify.claimed_subject(lambda x: x, verify.Claims((1, 3, 4, 4, 4))).parts
    found = matrices(verify.Part("layer", part.module, lambda *_: None, part.given, part.out, part.size))
    assert (found.ended, found.measured) == ("crashed", ())
    assert found.told.startswith("not measured: TargetError: NoneType came out")


def test_what_is_not_as_declared_is_red(tmp_path: Path) -> None:
    declared = ["1000", "1100", "1110", "1111"]
    alike = Matrices("layer", declared, declared, exact=True)
    more = Matrices("layer", ["1001", *declared[1:]], declared, exact=True)
    less = Matrices("layer", [*declared[:3], "1101"], declared, exact=True)
    bound = Matrices("layer", [*declared[:3], "1101"], declared, exact=False)
    alone = Matrices("layer", declared)
    red, blue = {}, {}
    for name, found in {"alike": alike, "more": more, "less": less, "bound": bound, "alone": alone}.items():
        draw(tmp_path / "x.png", found, "net")
        red[name], blue[name] = (share(tmp_path / "x.png", colour) for colour in (RED, BLUE))
    assert [found.wrong for found in (alike, more, less, bound, alone)] == [0, 1, 1, 0, 0]
    assert red["alike"] == red["bound"] == red["alone"] == 0
    assert red["more"] > red["less"] > 0
    assert blue["alike"] > 1.5 * blue["alone"]


def share(picture: Path, colour: str) -> float:
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return float((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=-1) <= 8).mean())


# --------------------------------------------------------------------------- the folder


def test_a_report_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with report_folder(tmp_path / "r") as part:
        (part / "layer.png").write_bytes(b"")
        write(report(HELD, matrices=[Matrices("layer", ["1"])]), part)
        assert not (tmp_path / "r").exists()
    assert sorted(file.name for file in (tmp_path / "r").iterdir()) == ["layer.png", "report.json", "report.md"]
    with pytest.raises(AttributeError), report_folder(tmp_path / "s") as part:
        write(None, part)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["r"]


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for place, told in (("file", "exists already"), ("nowhere/r", "cannot be written")):
        with pytest.raises(VvaeError, match=told), report_folder(tmp_path / place):
            raise AssertionError
    with report_folder(tmp_path / "empty") as part:
        (part / "x").touch()
    assert (tmp_path / "empty" / "x").exists()


def test_a_report_has_a_place_of_its_own_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = []
    for _ in range(2):
        places.append(str(free_folder("some/net:Net")))
        with report_folder(Path(places[-1])):
            pass
    assert places == ["verify/net-Net", "verify/net-Net-2"]
    assert str(free_folder("../..")) == "verify/target"
    with pytest.raises(RuntimeError), report_folder(Path("verify/other")):
        raise RuntimeError
    monkeypatch.chdir(tmp_path / "verify")
    with pytest.raises(RuntimeError), report_folder(Path("verify/other")):
        raise RuntimeError
    assert not Path("verify").exists()
