"""A target checked in processes of its own, watched: whatever it does, the report comes in time. No torch here."""

from __future__ import annotations

import json
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vvae.errors import VvaeError
from vvae.verify.rows import Matrices, Report, Row, refuse_unclaimed
from vvae.verify.snippet import target_call
from vvae.verify.worker import Command, Crew, Job, Worker, child_command

STARTING = 120.0
"""Seconds in which Python and torch must be there."""
COMPILERS = ("traced", "checkpointing", "compiled")
"""Laws for which torch imports its compiler, which takes as long as many laws; the slowest comes last."""
Tell: TypeAlias = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Order:
    """What shall be checked: a target by name, what is said of it (see `verify.target`), which laws (none: all)."""

    target: str
    said: Mapping[str, Any] = field(default_factory=dict)
    full_width: bool = False
    laws: Sequence[str] = ()
    effort: str = "quick"

    @property
    def call(self) -> str:
        """The Python that gives the same subject."""
        return target_call(repr(self.target), self.said, full_width=self.full_width)


def grace(seconds: float) -> float:
    """How much longer than the budget a case may take that was begun within it."""
    return max(2.0, seconds / 4)


def run(
    order: Order,
    *,
    seconds: float = 60.0,
    workers: int = 2,
    pictures: Path | None = None,
    tell: Tell = lambda done, total, what: None,
    command: Command | None = None,
) -> Report:
    """Checks the target in `workers` processes side by side; no case is begun after so many seconds.

    The clock starts when torch is there. A worker that dies costs the law that it was at, and another one goes on.
    After the budget and `grace` all that still runs is ended. pictures: a folder for those of the matrices. tell: is
    called with how many laws are done, of how many, and what is next. command: another process than `child`.

    Raises:
        VvaeError: nothing is called so, a law is not known, claims are missing or wrong, no law applies.
    """
    crew = Crew(command or child_command(json.dumps(asdict(order))), workers)
    try:
        session = _Session(order, seconds, pictures, tell, crew)
        session.watch()
    finally:
        crew.end()
    return session.report()


class _Session:
    def __init__(self, order: Order, seconds: float, pictures: Path | None, tell: Tell, crew: Crew) -> None:
        self.order, self.seconds, self.pictures, self.tell, self.crew = order, seconds, pictures, tell, crew
        self.alive = list(crew.workers)
        self.started = time.monotonic()
        self.begun: float | None = None
        self.plan: Mapping[str, Any] | None = None
        self.rows: dict[Job, Row | None] = {}
        self.matrices: dict[str, Matrices | None] = {}
        self.waiting: deque[Job] = deque()
        self.broken, self.late = "", False

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds if self.begun is None else self.begun + self.seconds - time.monotonic()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        if self.broken or not self.alive:
            return True
        return self.plan is not None and not self.waiting and not any(worker.job for worker in self.alive)

    def watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for worker in self.alive:
                selector.register(worker.events, selectors.EVENT_READ, worker)
            selector.register(self.crew.prints, selectors.EVENT_READ)
            while not self.done:
                for key, _ in selector.select(min(1.0, self._until_next())):
                    if not (self.crew.listen() if key.data is None else self._listen(key.data)):
                        selector.unregister(key.fd)
                self._check_time()

    def _until_next(self) -> float:
        """Seconds until something must be done."""
        if self.begun is None:
            return max(0.0, self.started + STARTING - time.monotonic())
        return max(0.0, self.left if self.left > 0 else self.left + grace(self.seconds))

    def _check_time(self) -> None:
        if self.begun is None:
            if time.monotonic() > self.started + STARTING:
                self.broken = f"Python and torch were not there after {STARTING:g} s"
            return
        if self.left <= 0:
            self.waiting.clear()
        if self.left < -grace(self.seconds):
            for worker in self.alive:
                self._stop(worker)
            self.alive.clear()

    def _stop(self, worker: Worker) -> None:
        """Its time is over."""
        if worker.job is not None:
            told = f"still running when the time was over{self.crew.where(worker)}"
            self._cut_off(worker, worker.job, "no time", told)
        elif self.plan is None:
            self.broken = f"it was still being made after {self.seconds:g} s{self.crew.where(worker)}"
            self.late = True

    # ---- what is said

    def _listen(self, worker: Worker) -> bool:
        """Whether it may say more."""
        messages = worker.messages()
        if messages is None:
            self._died(worker, None)
            self.alive = [other for other in self.alive if other is not worker]
            return False
        for message in messages:
            self._hear(worker, message)
        return True

    def _hear(self, worker: Worker, message: Mapping[str, Any]) -> None:
        match message["event"]:
            case "up":
                self.begun = self.begun or time.monotonic()
                worker.pid = message["pid"]
            case "refused":
                raise VvaeError(message["told"])
            case "broken":
                self.broken = message["told"]
            case "ready":
                self._plan(message)
                worker.ready = True
                self._next(worker)
            case "case":
                worker.case, worker.cases = message["case"], worker.cases + 1
            case "finding":
                self.rows[_job(worker)] = _row(message)
                self._next(worker)
            case "picture":
                self.matrices[message["part"]] = _matrices(message)
                self._next(worker)
            case "died":
                self._died(worker, message["code"])

    def _plan(self, message: Mapping[str, Any]) -> None:
        if self.plan is not None:
            return
        self.plan = message
        self.rows = {Job(each["law"], each["part"]): None for each in message["plan"]}
        self.matrices = dict.fromkeys(message["parts"] if self.pictures else ())
        pictures = [Job("", part) for part in self.matrices]
        self.waiting.extend([*sorted(self.rows, key=_of_compilers), *pictures])

    def _next(self, worker: Worker) -> None:
        worker.job = None
        if not self.waiting or self.left <= 0:
            return
        job = self._job_for(worker)
        if job is None:
            return
        self.waiting.remove(job)
        done = sum(row is not None for row in self.rows.values())
        self.tell(done, len(self.rows), f"{job.law or 'picture of the'} {job.part}")
        picture = {} if job.law else {"picture": str((self.pictures or Path()) / f"{job.part}.png")}
        worker.begin(job, {**asdict(job), "seconds": self.left, **picture})

    def _job_for(self, worker: Worker) -> Job | None:
        """One worker of several imports the compiler: the others leave its laws to it, as long as it lives."""
        compiles = self.alive[0]
        own = (job for job in self.waiting if len(self.alive) > 1 and (worker is compiles) == bool(_of_compilers(job)))
        other = self.waiting[0] if worker is compiles else None
        return next(own, other)

    def _died(self, worker: Worker, code: int | None) -> None:
        """It has ended on its own; another one takes its place, and goes on with what is left."""
        ending = self.crew.ending(code)
        if worker.job is not None:
            self._cut_off(worker, worker.job, "crashed", ending)
        elif self.plan is None:
            self.broken = f"while it was made {ending}"
        worker.job, worker.ready = None, False

    def _cut_off(self, worker: Worker, job: Job, verdict: Literal["crashed", "no time"], told: str) -> None:
        """A job that did not end."""
        if job.law:
            self.rows[job] = Row(job.law, job.part, verdict, worker.cases, message=told, case=dict(worker.case))
        else:
            self.matrices[job.part] = Matrices(job.part, told=told, ended=verdict)

    # ---- the end

    def report(self) -> Report:
        plan = self.plan or {}
        formulas = {Job(each["law"], each["part"]): each["formula"] for each in plan.get("plan", ())}
        untouched = "no time was left for a case" if self.left <= 0 else self.broken or "it was not begun"
        rows = [
            replace(row or Row(job.law, job.part, "no time", message=untouched), formula=formulas[job])
            for job, row in self.rows.items()
        ]
        if rows:
            refuse_unclaimed(self.order.target, rows)
        return Report(
            target=self.order.target,
            call=self.order.call,
            effort=self.order.effort,
            budget=self.seconds,
            seconds=round(time.monotonic() - self.started, 2),
            rows=rows,
            matrices=[found or Matrices(part, told=untouched) for part, found in self.matrices.items()],
            note=plan.get("note", ""),
            claims=plan.get("claims"),
            versions=plan.get("versions", {}),
            broken=self.broken,
            late=self.late,
        )


def _of_compilers(job: Job) -> int:
    return 1 + COMPILERS.index(job.law) if job.law in COMPILERS else 0


def _job(worker: Worker) -> Job:
    assert worker.job is not None
    return worker.job


def _row(message: Mapping[str, Any]) -> Row:
    fields = {name: value for name, value in message.items() if name != "event"}
    figure = fields["figure"]
    return Row(**{**fields, "figure": None if figure is None else float(figure)})


def _matrices(message: Mapping[str, Any]) -> Matrices:
    fields = {name: value for name, value in message.items() if name not in ("event", "drawn")}
    return Matrices(**{**fields, "given": tuple(fields["given"]), "out": tuple(fields["out"])})
