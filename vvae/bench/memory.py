"""Peak memory of one case, each in a process of its own: what stands above the loaded model."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench.figures import MIB, Figure, Spread, Verdict
from vvae.bench.published import PEAK, PUBLISHED
from vvae.bench.rounds import Say
from vvae.bench.work import Size, random_model, ways, work
from vvae.cost import peak_bytes
from vvae.errors import VvaeError
from vvae.summary import Direction
from vvae.tiling.budget import resident
from vvae.tiling.need import Asked, cost
from vvae.tiling.way import Way

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_ARENA_MAX": "1", "THP_MEM_ALLOC_ENABLE": "0"}
"""What is dropped goes back to the system at once, and pages are small, so that a peak is that of living tensors."""

STATES, SPARE = 2, 200 * MIB
"""A stream may take so many times its state, and so much besides."""
GROWTH = 1.05
"""What a stream of more frames may take, times that of fewer."""

_RESET = Path("/proc/self/clear_refs")


class Peak(Figure):
    """Bytes above those before, and how they were read; `ru_maxrss` misses what stays below an earlier peak."""

    bytes: int
    method: Literal["VmHWM", "ru_maxrss"]


class Case(Figure):
    """What one process does: a spec as JSON, a direction, whole or streamed, one clip, float32."""

    spec: str
    direction: Direction
    stream: bool
    size: Size


class Memory(Figure):
    """The measured peak beside the counted one (bytes that live at once), and the state where it is a stream."""

    direction: Direction
    stream: bool
    size: Size
    peak: Peak
    counted: int
    state: int | None


def peak_above(run: Callable[[], object]) -> Peak:
    """The most resident memory while `run` runs, above what is resident before."""
    gc.collect()
    if forget_peak():
        before = resident() or 0
        run()
        return Peak(bytes=(resident("VmHWM") or 0) - before, method="VmHWM")
    before = _highest()
    run()
    return Peak(bytes=_highest() - before, method="ru_maxrss")


def forget_peak() -> bool:
    """Starts the kernel's record of the peak anew, where the kernel can."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(case: Case) -> Peak:
    """The peak of the case in this very process; a tiny clip goes before it."""
    spec = VideoAutoencoderSpec.from_json(case.spec)
    model = random_model(spec)
    tiny = (spec.filled_frames(spec.pixels.frames(1)), spec.cell, spec.cell)
    _exhaust(work(model, case.direction, tiny, case.stream))
    return peak_above(lambda: _exhaust(work(model, case.direction, case.size, case.stream)))


def _exhaust(pieces: Iterator[Tensor]) -> None:
    """Takes piece by piece and keeps none."""
    for piece in pieces:
        del piece


def alone(arguments: Sequence[str], text: str, threads: int) -> str:
    """What a fresh Python with these arguments prints, when it reads `text`."""
    environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise VvaeError(f"a memory case ended with code {done.returncode}: {last}; free memory or take smaller clips")
    return done.stdout


def measure_alone(case: Case, threads: int) -> Peak:
    """The peak of the case in a process of its own."""
    return Peak.model_validate_json(alone(["-m", "vvae.bench.case"], case.model_dump_json(), threads))


def counted(spec: VideoAutoencoderSpec, direction: Direction, stream: bool, size: Size) -> int:
    """Bytes that live at once, without running anything."""
    model = random_model(spec, device="meta")
    return peak_bytes(lambda: _exhaust(work(model, direction, size, stream, "meta")))


def predicted(case: Case) -> int:
    """Bytes above the loaded model that `vvae.tiling.plan` reckons with."""
    asked = Asked(VideoAutoencoderSpec.from_json(case.spec), case.size, files=case.stream)
    return cost(asked, case.direction, Way(1 if case.stream else None)).peak


def memory(
    spec: VideoAutoencoderSpec, sizes: Sequence[Size], longer: Size | None, threads: int, say: Say
) -> list[Memory]:
    """Every way of running the spec at every size; streams also at `longer`."""
    found = []
    for direction, stream in ways(spec):
        for size in [*sizes, *([longer] if stream and longer else [])]:
            peak = measure_alone(Case(spec=spec.to_json(), direction=direction, stream=stream, size=size), threads)
            say(f"memory: {direction}{' stream' * stream} {size}: {peak.bytes / MIB:.0f} MiB")
            state = getattr(spec.summary(size), direction).state_bytes if stream else None
            count = counted(spec, direction, stream, size)
            found.append(Memory(direction=direction, stream=stream, size=size, peak=peak, counted=count, state=state))
    return found


def verdicts(found: Sequence[Memory]) -> list[Verdict]:
    """Streams: small beside their state, and no larger for a longer clip of the same frame size.

    A stream without a state goes piece by piece, and takes what a piece takes.
    """
    streams = [m for m in found if m.stream and m.state is not None]
    small = [
        _one(
            f"{m.direction}_stream peak / ({STATES} states + {SPARE // MIB} MiB)", m.peak.bytes / _room(m), 1.0, m.size
        )
        for m in streams
        if m.state
    ]
    constant = [
        _one(
            f"{m.direction}_stream peak of {m.size[0]} / {n.size[0]} frames",
            m.peak.bytes / n.peak.bytes,
            GROWTH,
            m.size,
        )
        for n in streams
        for m in streams
        if (m.direction, m.size[1:]) == (n.direction, n.size[1:]) and m.size[0] > n.size[0]
    ]
    return small + constant


def beside_published(name: str, found: Sequence[Memory]) -> list[Verdict]:
    """The larger peak of both directions, whole, of what the published code takes; nothing where that is not known."""
    published = PUBLISHED.get(name)
    if published is None or published.peak is None:
        return []
    peaks = [m.peak.bytes for m in found if m.size == published.size and not m.stream]
    if not peaks:
        return []
    return [_one("peak / published peak", max(peaks) / (published.peak * MIB), PEAK, published.size)]


def _room(m: Memory) -> int:
    return STATES * (m.state or 0) + SPARE


def _one(name: str, ratio: float, limit: float, size: Size) -> Verdict:
    clip = "x".join(map(str, size))
    return Verdict(name=f"{name}, {clip}", ratio=Spread(median=ratio, q25=ratio, q75=ratio), limit=limit)
