"""A process that works through steps, watched: one that dies or does not answer costs its step, not the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any, NamedTuple, TypeAlias

READY_SECONDS = 120.0
"""In which a process must say that it is there: it imports torch first."""
Command: TypeAlias = Callable[[int, int], Sequence[str]]
"""The process that does the steps from a step on, and says how it goes into a pipe: the number of a file descriptor."""


class Answer(NamedTuple):
    """What came of step `step`: its message, or how the process ended instead."""

    step: int
    message: dict[str, Any] | None
    ended: str = ""


class _LostError(Exception):
    """The process is gone, or says nothing; in words."""


def watch(
    seconds: Sequence[float],
    command: Command,
    environment: Mapping[str, str],
    begins: Callable[[int], None] = lambda step: None,
    ready_seconds: float = READY_SECONDS,
) -> Iterator[Answer]:
    """One answer for each of the steps, that may take so many seconds each.

    The process of `command` says one line, then one for each step, all JSON objects. After a step that it did not
    survive a new one goes on with the next; where one does not even start, that is the answer for all steps that are
    left. begins: called with the number of each step.
    """
    step = 0
    while step < len(seconds):
        with _process(command, step, environment) as process:
            try:
                process.line(ready_seconds)
            except _LostError as lost:
                yield from (Answer(left, None, f"does not start: {lost}") for left in range(step, len(seconds)))
                return
            answer = None
            while step < len(seconds) and (answer is None or answer.message is not None):
                begins(step)
                answer = _answer(process, step, seconds[step])
                yield answer
                step += 1


def _answer(process: _Process, step: int, seconds: float) -> Answer:
    try:
        return Answer(step, process.line(seconds))
    except _LostError as lost:
        return Answer(step, None, str(lost))


class _Process:
    """running: says what it has to say into the other end of `pipe`, and prints into `printed`."""

    def __init__(self, running: subprocess.Popen[bytes], pipe: IO[bytes], printed: IO[bytes]) -> None:
        self.running, self.pipe, self.printed = running, pipe, printed
        self.lines: SimpleQueue[bytes | None] = SimpleQueue()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def line(self, seconds: float) -> dict[str, Any]:
        """The next message. Errors: _LostError where none comes in time."""
        try:
            line = self.lines.get(timeout=seconds)
        except Empty:
            raise _LostError(f"no answer within {seconds:g} s") from None
        if line is None:
            raise _LostError(self._end())
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Neither it nor what it started runs on."""
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()
        self.reader.join()

    def _read(self) -> None:
        for line in self.pipe:
            if line.endswith(b"\n"):  # the last one may be cut
                self.lines.put(line)
        self.lines.put(None)

    def _end(self) -> str:
        code = self.running.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self.printed.seek(0)
        text = self.printed.read().decode(errors="replace")
        last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
        return ": ".join([f"the process {how}", *last])


@contextmanager
def _process(command: Command, step: int, environment: Mapping[str, str]) -> Iterator[_Process]:
    inner, outer = os.pipe()
    with os.fdopen(inner, "rb") as pipe, TemporaryFile() as printed:
        try:
            running = subprocess.Popen(
                command(step, outer),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=environment,
                pass_fds=[outer],
                start_new_session=True,
            )
        finally:
            os.close(outer)
        process = _Process(running, pipe, printed)
        try:
            yield process
        finally:
            process.end()
