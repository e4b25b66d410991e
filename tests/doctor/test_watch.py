"""A process that dies or hangs costs the step that it was at, and leaves nothing running."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from vvae.doctor.watch import Answer, watch

PREFACE = """
import json, os, signal, subprocess, sys, time
start, pipe = int(sys.argv[1]), os.fdopen(int(sys.argv[2]), "w")
def say(message):
    print(json.dumps(message), file=pipe, flush=True)
"""
LOOP = """
say("ready")
for step in range(start, 4):
    if step == 1:
        {fault}
    say({{"step": step}})
"""


def run(program: str, seconds: float = 20.0, ready: float = 20.0) -> list[Answer]:
    def command(step: int, pipe: int) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", PREFACE + program, str(step), str(pipe)]

    return list(watch([seconds, min(seconds, 0.5), seconds, seconds], command, os.environ, ready_seconds=ready))


def good(step: int) -> Answer:
    return Answer(step, {"step": step})


def test_every_step_is_answered() -> None:
    assert run(LOOP.format(fault="print('libraries may print what they like')")) == [good(step) for step in range(4)]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("time.sleep(60)", "no answer within 0.5 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process was ended by SIGSEGV"),
        ("sys.exit('out of memory')", "the process ended with code 1: out of memory"),
        ("os._exit(3)", "the process ended with code 3"),
        ("pipe.write('{\"cut'); pipe.flush(); os._exit(3)", "the process ended with code 3"),
    ],
)
def test_a_step_that_is_not_survived_says_how_and_the_others_are_done(fault: str, told: str) -> None:
    assert run(LOOP.format(fault=fault)) == [good(0), Answer(1, None, told), good(2), good(3)]


def test_where_no_process_starts_every_step_says_so() -> None:
    told = "does not start: the process ended with code 5"
    assert run("sys.exit(5)") == [Answer(step, None, told) for step in range(4)]


def test_a_process_that_never_gets_ready_is_not_waited_for() -> None:
    found = run("time.sleep(60)", ready=0.3)
    assert [answer.ended for answer in found] == ["does not start: no answer within 0.3 s"] * 4


def test_what_the_process_started_ends_with_it(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    started = f"subprocess.Popen([sys.executable, '-c', {child!r}]).pid"
    fault = f"open({str(tmp_path / 'pid')!r}, 'w').write(str({started})); time.sleep(60)"
    assert run(LOOP.format(fault=fault))[1].ended == "no answer within 0.5 s"
    assert ends(int((tmp_path / "pid").read_text()))


def ends(process: int) -> bool:
    """Whether it is gone, or a body that nobody has buried yet."""
    for _ in range(100):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_an_interruption_ends_the_process(tmp_path: Path) -> None:
    noted = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"

    def command(step: int, pipe: int) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", PREFACE + noted + "say(1); time.sleep(60)", str(step), str(pipe)]

    def interrupt(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(watch([20.0], command, os.environ, interrupt))
    assert ends(int((tmp_path / "pid").read_text()))
