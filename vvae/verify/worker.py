"""The processes that check a target (see `child`), from outside: what they say, how they end. No torch here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Pipes: TypeAlias = Sequence[tuple[int, int]]
Command: TypeAlias = Callable[[Pipes], list[str]]
"""What is run, for a worker at each pair of file descriptors: it reads jobs from one, and says into the other."""

_KEPT = 20_000
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<name>\S+)')
_INSIDE = ("/torch/", "/vvae/verify/", "/concurrent/", "/threading.py", "/importlib/", "<frozen", "/runpy.py")


@dataclass(frozen=True)
class Job:
    """One law on one part; or with an empty law the picture of a part."""

    law: str
    part: str


class Worker:
    """One that does jobs. `job` and `case` are what it is at, the last of `cases`; `ready`: it takes jobs."""

    def __init__(self, jobs: int, events: int) -> None:
        self.jobs, self.events = jobs, events
        self.pid, self.ready = 0, False
        self.job: Job | None = None
        self.case: Mapping[str, Any] = {}
        self.cases = 0
        self._said = b""

    def begin(self, job: Job, message: Mapping[str, Any]) -> None:
        self.job, self.case, self.cases = job, {}, 0
        with suppress(BrokenPipeError):  # it is gone, which is seen when it is listened to
            os.write(self.jobs, (json.dumps(message) + "\n").encode())

    def messages(self) -> Iterator[dict[str, Any]] | None:
        """What it has said since; None: it will say no more. A line that was cut by its death is passed over."""
        if not (found := os.read(self.events, 1 << 16)):
            return None
        *lines, self._said = (self._said + found).split(b"\n")
        return (json.loads(line) for line in lines if line.endswith(b"}"))


class Crew:
    """The process of all workers, its `workers`, and the end of what they print (into the pipe `prints`)."""

    def __init__(self, command: Command, workers: int) -> None:
        inner, outer = [], []
        for _ in range(workers):
            (given, jobs), (events, said) = os.pipe(), os.pipe()
            inner.append((given, said))
            outer.append(Worker(jobs, events))
        self.workers = outer
        try:
            self.process = subprocess.Popen(
                command(inner),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(workers),
                pass_fds=[pipe for pair in inner for pipe in pair],
                start_new_session=True,
            )
        finally:
            for pipe in (pipe for pair in inner for pipe in pair):
                os.close(pipe)
        assert self.process.stdout is not None
        self.prints = self.process.stdout.fileno()
        os.set_blocking(self.prints, False)
        self._printed = b""

    def listen(self) -> bool:
        """Keeps the end of what was printed, so that nobody is held up; whether more may be printed."""
        for _ in range(100):  # one that never stops is not all there is to do
            try:
                found = os.read(self.prints, 1 << 16)
            except BlockingIOError:
                return True
            if not found:
                return False
            self._printed = (self._printed + found)[-_KEPT:]
        return True

    def ending(self, code: int | None = None) -> str:
        """How a worker ended, in words, by its exit code; None: how they all did."""
        if code is None:
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(5)
        self.listen()
        if code is None:
            return "its process said nothing more"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}{self._place()}"
        lines = [line.strip() for line in self._printed.decode(errors="replace").splitlines() if line.strip()]
        return ": ".join([f"its process ended with code {code}", *(line[:200] for line in lines[-1:])])

    def where(self, worker: Worker) -> str:
        """Where a worker is that still runs, in words."""
        self.listen()
        self._printed = b""
        with suppress(ProcessLookupError):
            os.kill(worker.pid or self.process.pid, signal.SIGUSR1)  # makes it print where all its threads are
            time.sleep(0.3)
        self.listen()
        return self._place()

    def _place(self) -> str:
        """The innermost line of the target in the tracebacks that were printed."""
        text = self._printed.decode(errors="replace")
        frames = [found for line in text.splitlines() if (found := _FRAME.search(line))]
        own = [found for found in frames if not any(inside in found["file"] for inside in _INSIDE)]
        return "".join(f", at {Path(f['file']).name}:{f['line']} in {f['name']}" for f in own[:1])

    def end(self) -> None:
        """Neither they nor what they started run on."""
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for worker in self.workers:
            os.close(worker.jobs)
            os.close(worker.events)
        if self.process.stdout is not None:
            self.process.stdout.close()


def environment(workers: int) -> dict[str, str]:
    """That of the processes: they share the cores, and find vvae where this one has it."""
    paths = [os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])]
    threads = max(1, (os.cpu_count() or 1) // workers)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def child_command(order: str) -> Command:
    """The process of `child` for an order as JSON; what lies in the current folder is not taken for a library's own."""
    python = [sys.executable, "-P", "-W", "ignore", "-m", "vvae.verify.child", order]
    return lambda pipes: [*python, *(f"{jobs},{events}" for jobs, events in pipes)]
