"""`vvae doctor`: the table, the JSON, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from vvae import doctor
from vvae.bench.machine import look
from vvae.doctor import Report, Row

PLANTED = """
import sys, time
if "vvae.doctor.worker" in sys.orig_argv:
    import torch
    from torch.nn import functional as F

    attend = F.scaled_dot_product_attention

    def planted(q, k, v):
        return attend(q, k, v) * (1.05 if q.dtype == torch.bfloat16 else 1)

    def compile(module, backend):
        if runs:
            time.sleep(60)
        runs.append(1)
        raise RuntimeError("No working C++ compiler found")

    runs = []
    F.scaled_dot_product_attention, torch.compile = planted, compile
"""


def test_a_machine_with_faults_is_not_fit(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process with three faults: a kernel wrong in one dtype, a compiler missing, another that hangs."""
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run("doctor", "--part", "attention", "--part", "compile", "--compile-limit", "2", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fit"] is False
    rows = {f"{row['check']} {row['dtype']}".strip(): row for row in found["rows"]}
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    fit = ["attention float64", "attention float32", "attention float16"]
    unfit = ["attention bfloat16", "aot_eager", "inductor"]
    assert verdicts == {**dict.fromkeys(fit, "fit"), **dict.fromkeys(unfit, "unfit")}
    assert "run in float32 (right here)" in rows["attention bfloat16"]["advice"]
    assert "No working C++ compiler" in rows["aot_eager"]["found"]
    assert "apt install g++" in rows["aot_eager"]["advice"]
    assert rows["inductor"]["found"] == "no answer within 2 s"
    assert "--compile-limit" in rows["inductor"]["advice"]


ROWS = (
    Row(part="machine", device="cpu", check="large pages", verdict="hint", found="none", advice="ask for them"),
    Row(part="convolution", device="cpu", check="conv2d", dtype="float32", figure=3e-7, limit=2e-5, verdict="fit"),
    Row(
        part="convolution", device="cuda:0", check="conv3d", dtype="bfloat16", layout="channels last", figure=0.31,
        limit=0.02, verdict="unfit", found="3x3x3: output", advice="run in float32 [right here]",
    ),
    Row(part="compile", device="cuda:0", check="inductor", verdict="unfit", found="no answer", advice="leave it out"),
)  # fmt: skip


def told(monkeypatch: pytest.MonkeyPatch, *rows: Row) -> None:
    """The doctor finds these rows."""
    devices = {"cpu": "a CPU", "cuda:0": "a GPU"}
    report = Report(machine=look(), versions={"torch": "2.9.1"}, devices=devices, rows=rows)

    def examine(*arguments: Any, **options: Any) -> Report:
        return report

    monkeypatch.setattr(doctor, "examine", examine)


def test_the_table_says_what_to_do_under_what_is_not_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(monkeypatch, *ROWS)
    assert run("doctor") == 1
    assert capsys.readouterr().out.splitlines() == [
        "torch 2.9.1",
        "",
        "check                                figure    limit  verdict",
        "cpu: a CPU",
        "large pages                               -        -  hint",
        "    none",
        "    -> ask for them",
        "conv2d float32                      3.0e-07  2.0e-05  fit",
        "cuda:0: a GPU",
        "conv3d bfloat16 channels last          0.31     0.02  unfit",
        "    3x3x3: output",
        "    -> run in float32 [right here]",
        "inductor                                  -        -  unfit",
        "    no answer",
        "    -> leave it out",
        "",
        "not fit: 2 of 4 checks",
    ]


def test_hints_do_not_make_a_machine_unfit(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(monkeypatch, *ROWS[:2])
    assert run("doctor") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "fit: 2 checks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--part", "everything"), "part everything: is unknown; it is one of machine, convolution"),
        (("--device", "cuda:99"), "device cuda:99: is not here; torch finds cpu"),
        (("--compile-limit", "0"), "--compile-limit"),
        (("clip.mp4",), "clip.mp4"),
    ],
)
def test_a_bad_call_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run("doctor", *arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert message in captured.err
