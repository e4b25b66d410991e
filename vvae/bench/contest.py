"""Seconds of encoding and decoding beside their units, round by round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from pydantic import computed_field
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench import convolutions
from vvae.bench.figures import Figure, Spread, Verdict, paired, spread
from vvae.bench.peers import Peer, peer_runs
from vvae.bench.rounds import Round, Sample, Say, play, seconds, timed
from vvae.bench.work import DIRECTIONS, Size, chunked, random_model, source, streamed, ways, whole, work
from vvae.cost import flops
from vvae.summary import Direction
from vvae.verify import difference

OF_CONVOLUTIONS = {"float32": 1.35, "bfloat16": 1.6}
STREAM_OF_WHOLE = 1.1
STRETCH: Mapping[tuple[str, Size], Mapping[str, float]] = {
    ("iv_vae_z16_dim64", (17, 128, 128)): {
        "encode float32": 0.60,
        "decode float32": 0.95,
        "encode bfloat16": 0.30,
        "decode bfloat16": 0.45,
    }
}
"""Upper bounds in U, by spec and size."""


@dataclass(frozen=True)
class Target:
    """`over` takes at most `limit` times the seconds of `under`."""

    over: str
    under: str
    limit: float
    stretch: bool = False

    def verdict(self, rounds: Sequence[Round]) -> Verdict:
        ratio = paired(seconds(rounds, self.over), seconds(rounds, self.under))
        return Verdict(name=f"{self.over} / {self.under}", ratio=ratio, limit=self.limit, stretch=self.stretch)


class Timing(Figure):
    """One contestant over all rounds.

    `error` is max|a - b| / max|b| against float64, `first_seconds` those of its first run (compiling included).
    """

    name: str
    seconds: Spread
    cpu: Spread
    load: Spread
    flops: int | None = None
    error: float | None = None
    first_seconds: float | None = None
    over_c: Spread | None = None
    over_u: Spread | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flops_per_second(self) -> float | None:
        return None if self.flops is None else self.flops / self.seconds.median


class Contest(Figure):
    """All timings for one clip size, and every sample they come from."""

    size: Size
    timings: tuple[Timing, ...]
    verdicts: tuple[Verdict, ...]
    rounds: tuple[dict[str, Sample], ...]


@dataclass(frozen=True)
class Task:
    """One direction: its input, what it should give, and the FLOPs that this takes."""

    direction: Direction
    x: Tensor
    truth: Tensor | None
    flops: int


@dataclass
class Field:
    """Who runs, each warmed up; the targets between them."""

    say: Say
    runs: dict[str, Callable[[], Sample]] = field(default_factory=dict)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def enter(self, name: str, run: Callable[[], Tensor], task: Task) -> None:
        """Warm `run` up and let it take part."""
        start = time.perf_counter()
        out = run()
        first = time.perf_counter() - start
        self.facts[name] = {"flops": task.flops, "first_seconds": first}
        if task.truth is not None:
            self.facts[name]["error"] = difference(out, task.truth)
        self.runs[name] = lambda: timed(run)
        self.say(f"warm: {name} {first:.3g} s, error {self.facts[name].get('error', math.nan):.2g}")


def contest(
    spec: VideoAutoencoderSpec,
    size: Size,
    *,
    rounds: int,
    dtypes: Sequence[str],
    unit: Callable[[], object] | None,
    compiled: bool,
    exact: bool = True,
    streams: bool = True,
    say: Say,
) -> Contest:
    """Every way of running the spec on one clip, beside C (its convolutions alone) and `unit` (U, if there)."""
    taking_part, given = Field(say), tasks(spec, size, exact, say)
    for dtype in dtypes:
        model = random_model(spec, getattr(torch, dtype))
        for task in given:
            _enter(taking_part, model, task, dtype, compiled, streams)
    if unit is not None:
        limits = STRETCH.get((spec.name, size), {})
        taking_part.targets += [Target(n, "U", limit, True) for n, limit in limits.items() if n in taking_part.runs]
    return _decided(taking_part, size, rounds, unit)


def peer_contest(
    peer: Peer, size: Size, *, rounds: int, dtypes: Sequence[str], unit: Callable[[], object] | None, say: Say
) -> Contest:
    """Somebody else's model on one clip, whole, beside its convolutions alone and `unit`."""
    taking_part = Field(say)
    for dtype in dtypes:
        for direction, run in peer_runs(peer, size, getattr(torch, dtype)).items():
            say(f"warm: {direction} {dtype}")
            taking_part.runs[f"{direction} {dtype}"] = partial(timed, run)
            _alone(taking_part, direction, dtype, run)
    return _decided(taking_part, size, rounds, unit)


def _decided(taking_part: Field, size: Size, rounds: int, unit: Callable[[], object] | None) -> Contest:
    """All rounds, and what came of them."""
    if unit is not None:
        unit()
        taking_part.runs["U"] = lambda: timed(unit)
    played = play(taking_part.runs, rounds, taking_part.say)
    return Contest(
        size=size,
        timings=tuple(timing(name, played, taking_part.facts.get(name, {})) for name in taking_part.runs),
        verdicts=tuple(target.verdict(played) for target in taking_part.targets),
        rounds=tuple(dict(samples) for samples in played),
    )


def _enter(into: Field, model: VideoAutoencoder, task: Task, dtype: str, compiled: bool, streams: bool) -> None:
    """Whole, its convolutions alone, streamed, compiled."""
    direction, x = task.direction, task.x
    name, stream = f"{direction} {dtype}", f"{direction}_stream {dtype}"
    into.enter(name, lambda: whole(model, direction, x), task)
    unit = _alone(into, direction, dtype, lambda: whole(model, direction, x))
    into.targets.append(Target(name, unit, OF_CONVOLUTIONS[dtype]))
    if streams and (direction, True) in ways(model.spec):
        parts = chunked(model.spec, direction, x)
        into.enter(stream, lambda: torch.cat(list(streamed(model, direction, parts)), 2), task)
        into.targets.append(Target(stream, name, STREAM_OF_WHOLE))
    if compiled:
        twin = model.compile()
        into.enter(f"{direction}_compiled {dtype}", lambda: whole(twin, direction, x), task)


def _alone(into: Field, direction: Direction, dtype: str, run: Callable[[], object]) -> str:
    """The convolutions of what `run` does take part alone; under which name."""
    calls = convolutions.record(run)
    alone, name = convolutions.ConvolutionUnit(calls), f"C {direction} {dtype}"
    alone.sample()
    into.runs[name], into.facts[name] = alone.sample, {"flops": convolutions.flops(calls)}
    return name


def tasks(spec: VideoAutoencoderSpec, size: Size, exact: bool, say: Say) -> list[Task]:
    """Both directions, where wanted with the answers of float64."""
    model, amounts, found = random_model(spec, torch.float64) if exact else None, counted(spec, size), []
    for direction in DIRECTIONS:
        x = next(source(spec, direction, size))
        truth = None if model is None else whole(model, direction, x.double())
        found.append(Task(direction, x, truth, amounts[direction]))
        say(f"{direction}: {amounts[direction] / 1e12:.3g} TFLOP")
    return found


def counted(spec: VideoAutoencoderSpec, size: Size) -> dict[Direction, int]:
    """FLOPs of each direction, 2 per multiply-add."""
    model = random_model(spec, device="meta")
    return {d: flops(lambda d=d: list(work(model, d, size, device="meta")))["Global"] for d in DIRECTIONS}  # type: ignore[misc]


def timing(name: str, rounds: Sequence[Round], facts: Mapping[str, float]) -> Timing:
    """The spreads of one contestant; over C where C of the same case takes part, over U where U does."""
    samples = [played[name] for played in rounds]
    own, units = [s.seconds for s in samples], _units(name, rounds[0])
    return Timing(
        name=name,
        seconds=spread(own),
        cpu=spread([s.cpu for s in samples]),
        load=spread([s.load for s in samples]),
        **{key: paired(own, seconds(rounds, unit)) for key, unit in units.items()},
        **facts,
    )


def _units(name: str, taking_part: Round) -> dict[str, str]:
    way, _, dtype = name.partition(" ")
    wanted = {"over_c": f"C {way.partition('_')[0]} {dtype}", "over_u": "U"}
    return {key: unit for key, unit in wanted.items() if unit in taking_part and unit != name}
