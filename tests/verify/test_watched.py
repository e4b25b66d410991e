"""A target that does what it likes, in processes that stand for it: the report comes in time, and says what was."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from vvae.errors import VvaeError
from vvae.verify import watched
from vvae.verify.rows import Report
from vvae.verify.watched import Order, run
from vvae.verify.worker import Command

CHILD = """
import faulthandler, json, os, signal, sys, time
faulthandler.register(signal.SIGUSR1)
jobs, events = (int(pipe) for pipe in sys.argv[1].split(","))

def say(event, **message):
    os.write(events, (json.dumps({"event": event, **message}) + "\\n").encode())

def laws():
    buffer = b""
    while found := os.read(jobs, 1000):
        *lines, buffer = (buffer + found).split(b"\\n")
        yield from (json.loads(line) for line in lines)

def holds(job, **fields):
    say("finding", **{"law": job["law"], "part": job["part"], "verdict": "holds", "cases": 2, "figure": 1.5,
        "seconds": 0.1, "message": "", "case": {}, "where": {}, **fields})

def ready(*names):
    say("up", pid=os.getpid())
    plan = [{"law": name, "part": "layer", "formula": f"{name} holds"} for name in names]
    say("ready", plan=plan, parts=["layer"], note="a note", claims=None, versions={"torch": "2"})
"""
SOON = 0.2
"""Seconds of a budget that shall run out."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "grace", lambda seconds: 0.2)


def checked(tmp_path: Path, does: str, *, seconds: float = 30.0, **options: Any) -> Report:
    """The report on a process that does that."""
    file = tmp_path / "child.py"
    file.write_text(CHILD + textwrap.dedent(does))
    command: Command = lambda pipes: [sys.executable, "-I", "-S", str(file), *(f"{a},{b}" for a, b in pipes)]  # noqa: E731
    return run(Order("net:Net"), seconds=seconds, workers=1, command=command, **options)


def verdicts(report: Report) -> list[tuple[str, str]]:
    return [(row.law, row.verdict) for row in report.rows]


def test_what_comes_of_each_law_is_told(tmp_path: Path) -> None:
    heard: list[tuple[int, int | None, str]] = []
    does = """
        ready("reach", "compiled", "batch")
        for job in laws():
            if not job["law"]:
                say("picture", part=job["part"], measured=["10", "11"], declared=["10", "10"], exact=True,
                    given=[0, 1], out=[0, 1], told="", ended="", drawn=True)
            elif job["law"] == "batch":
                holds(job, verdict="violated", figure="inf", message="differs", case={"groups": 1})
            else:
                holds(job)
    """
    report = checked(tmp_path, does, pictures=tmp_path, tell=lambda *told: heard.append(told))
    assert verdicts(report) == [("reach", "holds"), ("compiled", "holds"), ("batch", "violated")]
    assert (report.rows[2].figure, report.rows[2].formula) == (float("inf"), "batch holds")
    assert (report.matrices[0].wrong, report.matrices[0].given) == (1, (0, 1))
    assert (report.note, report.versions, report.state, report.exit_code) == ("a note", {"torch": "2"}, "violated", 1)
    assert heard == [
        (0, 3, "reach layer"),
        (1, 3, "batch layer"),
        (2, 3, "compiled layer"),
        (3, 3, "picture of the layer"),
    ]


def test_a_target_that_hangs_while_it_is_made_runs_out_of_time(tmp_path: Path) -> None:
    report = checked(tmp_path, 'say("up", pid=os.getpid())\ntime.sleep(10**6)', seconds=SOON)
    assert (report.state, report.exit_code) == ("no time", 3)
    assert re.fullmatch(r"it was still being made after 0.2 s, at child.py:\d+ in <module>", report.broken)


def test_a_law_that_hangs_is_cut_off_and_what_was_found_before_is_kept(tmp_path: Path) -> None:
    does = """
        ready("reach", "batch", "shift")
        for job in laws():
            if job["law"] == "batch":
                say("case", case={"groups": 3})
                time.sleep(10**6)
            holds(job)
    """
    report = checked(tmp_path, does, seconds=5 * SOON, pictures=tmp_path)
    assert verdicts(report) == [("reach", "holds"), ("batch", "no time"), ("shift", "no time")]
    assert report.rows[1].message.startswith("still running when the time was over, at child.py")
    assert (report.rows[1].case, report.rows[1].cases, report.rows[2].cases) == ({"groups": 3}, 1, 0)
    assert report.matrices[0].told == "no time was left for a case"
    assert report.exit_code == 3


def test_a_violation_outweighs_what_could_not_be_checked(tmp_path: Path) -> None:
    does = """
        ready("reach", "batch")
        for job in laws():
            if job["law"] == "batch":
                os._exit(9)
            holds(job, verdict="violated")
    """
    report = checked(tmp_path, does)
    assert verdicts(report) == [("reach", "violated"), ("batch", "crashed")]
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("dies", "told"),
    [
        ("os._exit(5)", "its process ended with code 5: rubbish"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process was ended by SIGSEGV"),
        ("raise RuntimeError('no')", "its process ended with code 1: RuntimeError: no"),
    ],
)
@pytest.mark.parametrize("when", ["made", "checked"])
def test_a_process_that_dies_says_how(dies: str, told: str, when: str, tmp_path: Path) -> None:
    begin = 'print("rubbish", flush=True)\nsay("up", pid=os.getpid())\n'
    report = checked(tmp_path, begin + (dies if when == "made" else f'ready("reach")\nnext(laws())\n{dies}'))
    assert (report.state, report.exit_code) == ("crashed", 3)
    assert (report.broken or report.rows[0].message).removeprefix("while it was made ") == told


def test_another_worker_goes_on_in_the_place_of_one_that_died(tmp_path: Path) -> None:
    does = """
        ready("reach", "batch", "shift")
        for job in laws():
            if job["law"] == "batch":
                say("case", case={"groups": 2})
                os.write(events, b'{"event": "finding", "la')
                os.write(events, b'\\n{"event": "died", "code": -11}\\n')
                ready("reach", "batch", "shift")
            else:
                holds(job)
    """
    report = checked(tmp_path, does)
    assert verdicts(report) == [("reach", "holds"), ("batch", "crashed"), ("shift", "holds")]
    assert (report.rows[1].message, report.rows[1].case) == ("its process was ended by SIGSEGV", {"groups": 2})


def test_what_it_prints_holds_nobody_up(tmp_path: Path) -> None:
    does = """
        ready("reach")
        for job in laws():
            print("{}\\n" * 300_000, flush=True)
            holds(job)
    """
    assert checked(tmp_path, does).state == "sound"


def test_a_picture_that_kills_it_is_no_sound_target(tmp_path: Path) -> None:
    does = """
        ready("reach")
        for job in laws():
            if not job["law"]:
                os._exit(5)
            holds(job)
    """
    report = checked(tmp_path, does, pictures=tmp_path)
    assert (verdicts(report), report.state) == ([("reach", "holds")], "crashed")


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ('say("refused", told="no such thing")', "no such thing"),
        (
            'ready("reach", "batch")\nfor job in laws(): holds(job, verdict="not claimed", message="it has no spec")',
            "net:Net: nothing was checked: reach (layer): it has no spec; batch (layer): it has no spec",
        ),
    ],
)
def test_a_bad_call_is_no_report(does: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(VvaeError) as caught:
        checked(tmp_path, does)
    assert str(caught.value) == message


def test_a_process_that_never_starts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "STARTING", 0.3)
    report = checked(tmp_path, "time.sleep(10**6)")
    assert (report.broken, report.exit_code) == ("Python and torch were not there after 0.3 s", 3)


def test_nothing_that_it_started_runs_on(tmp_path: Path) -> None:
    does = f"""
        if not os.fork():
            time.sleep(0.5)
            open({str(tmp_path / "late")!r}, "w")
            os._exit(0)
        say("broken", told="not mine")
    """
    assert checked(tmp_path, does).state == "crashed"
    time.sleep(0.7)
    assert not (tmp_path / "late").exists()
