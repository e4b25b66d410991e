"""The processes in which a target is checked: `python -m vvae.verify.child ORDER JOBS,EVENTS ...`.

ORDER is JSON (see `watched.Order`); JOBS and EVENTS are file descriptors, a pair for each worker. It says in lines of
JSON that it is up, then that the target is ready and which laws apply (or that it is refused, or broken), then what
comes of each job that it is given. The target may print what it likes.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, TypeAlias

import torch

from vvae import __version__
from vvae.errors import VvaeError
from vvae.verify.matrices import draw, matrices
from vvae.verify.measure import TargetError
from vvae.verify.rows import plain
from vvae.verify.subject import Subject
from vvae.verify.suite import Case, applied, verify
from vvae.verify.targets import Said, Target, resolve

Say: TypeAlias = Callable[[Mapping[str, Any]], None]


def main(order: Mapping[str, Any], jobs: Iterable[str], say: Say) -> None:
    """order: see `watched.Order`. jobs: lines of JSON, a law with its part and seconds, or a picture of a part."""
    say({"event": "up", "pid": os.getpid()})
    try:
        target = resolve(order["target"], Said(**order["said"]), order["full_width"])
        plan = [(law, name) for law, _, name in applied(target.subject, order["laws"])]
    except TargetError as error:
        return say({"event": "broken", "told": str(error)})
    except VvaeError as error:
        return say({"event": "refused", "told": str(error)})
    say(
        {
            "event": "ready",
            "plan": [{"law": law.name, "part": name, "formula": law.formula} for law, name in plan],
            "parts": [part.name for part in target.subject.parts],
            "note": target.note,
            "claims": _claims(target),
            "versions": {"vvae": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
    )
    for line in jobs:
        say(_done(target.subject, json.loads(line), order, say))


def _claims(target: Target) -> dict[str, Any] | None:
    return None if target.claims is None else asdict(target.claims)


def _done(subject: Subject, job: Mapping[str, Any], order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    if not job["law"]:
        return {"event": "picture", **_picture(subject, job["part"], Path(job["picture"]))}
    return {"event": "finding", **_found(subject, job, order["effort"], say)}


def _found(subject: Subject, job: Mapping[str, Any], effort: str, say: Say) -> dict[str, Any]:
    """The finding of one law on one part."""

    def tell(law: str, part: str, case: Case) -> None:
        say({"event": "case", "case": dict(case)})

    part = job["part"]
    only = tuple(found for found in subject.parts if found.name == part)
    alone = replace(subject, parts=only, model=subject.model if part == "model" else None)
    (finding,) = verify(alone, effort=effort, only=[job["law"]], seconds=job["seconds"], tell=tell)
    return asdict(finding)


def _picture(subject: Subject, name: str, file: Path) -> dict[str, Any]:
    """The matrices of a part, drawn to a file; what kept them from it where there are none."""
    (part,) = (part for part in subject.parts if part.name == name)
    found = matrices(part)
    if not found.told:
        try:
            draw(file, found, f"{subject.name}: {name}")
        except ImportError as error:
            return {**asdict(found), "drawn": False, "told": f"no picture: {error}"}
    return {**asdict(found), "drawn": not found.told}


# --------------------------------------------------------------------------- processes


def crew(order: Mapping[str, Any], pipes: Sequence[tuple[int, int]], most: int = 20) -> None:
    """A worker at each pair of pipes; where one dies, it says so in its place, and another one takes it, `most` times.

    Torch is imported once, before there are workers; nothing of the target is.
    """
    running = {_fork(order, pair): pair for pair in pipes}
    while running:
        pid, status = os.waitpid(-1, 0)
        pair = running.pop(pid)
        message = json.dumps({"event": "died", "code": os.waitstatus_to_exitcode(status)})
        os.write(pair[1], f"\n{message}\n".encode())  # where nobody listens any more this ends all
        most -= 1
        if most > 0:
            running[_fork(order, pair)] = pair
        else:
            os.close(pair[1])


def _fork(order: Mapping[str, Any], pair: tuple[int, int]) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)
        with os.fdopen(pair[0]) as jobs, os.fdopen(pair[1], "w") as pipe:
            main(order, _lines(jobs), partial(_say, pipe))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _say(pipe: IO[str], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(plain(message)) + "\n")
    pipe.flush()


def _lines(jobs: IO[str]) -> Iterator[str]:
    """Lines as they come; where there are no more, the process ends, whatever the target does."""
    queue: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in jobs:
            queue.put(line)
        os._exit(0)

    Thread(target=read, daemon=True).start()
    while True:
        yield queue.get()


if __name__ == "__main__":
    crew(json.loads(sys.argv[1]), [(int(a), int(b)) for a, b in (pair.split(",") for pair in sys.argv[2:])])
