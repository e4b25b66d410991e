"""Reads damaged clips in a process of its own, so that a crash of FFmpeg, a hang or a leak is seen from outside.

Run as `python -m tests.video.mutants FOLDER` with a folder of whole clips. Says on stdout which mutant it is about to
read, and at the end one line of JSON with what it measured.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip, read_timed

SECONDS_OF_A_MUTANT = 60  # much more than a read takes, on a busy machine too
EXAMPLES = int(os.environ.get("MUTANTS") or 300)
Change = Callable[[bytes], bytes]


def flipped(place: float, bits: int, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[int(place * (len(changed) - 1))] ^= bits
    return bytes(changed)


def overwritten(place: float, new: bytes, data: bytes) -> bytes:
    start = int(place * len(data))
    return data[:start] + new + data[start + len(new) :]


def cut(place: float, data: bytes) -> bytes:
    return data[: int(place * len(data))]


def extended(new: bytes, data: bytes) -> bytes:
    return data + new


def swapped(first: float, second: float, size: int, data: bytes) -> bytes:
    a, b = sorted(int(place * max(0, len(data) - size)) for place in (first, second))
    b = max(b, a + size)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def removed(place: float, size: int, data: bytes) -> bytes:
    start = int(place * len(data))
    return data[:start] + data[start + size :]


# The header is small and holds the sizes: half of all places lie in the first or last part of the file.
places = st.one_of(st.floats(0, 1), st.floats(0, 0.2), st.floats(0.8, 1))
words = st.one_of(st.binary(min_size=1, max_size=64), st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 8]))
changes = st.one_of(
    st.tuples(st.just(flipped), places, st.integers(1, 255)),
    st.tuples(st.just(overwritten), places, words),
    st.tuples(st.just(cut), places),
    st.tuples(st.just(extended), words),
    st.tuples(st.just(swapped), places, places, st.integers(1, 512)),
    st.tuples(st.just(removed), places, st.integers(1, 64)),
)


def taken(path: Path) -> None:
    """Reads all that can be read; only VideoError, in one line, may come, and nothing half-written stays."""
    for read in (probe, lambda p: list(read_clip(p)), lambda p: list(read_timed(p, allow_partial=True, chunk=2)), sung):
        line = message(read, path)
        assert not line or line.startswith((f"{path}: ", f"{path.with_name('sung.mkv')}: ")), line
        assert "\n" not in line
    assert not list(path.parent.glob(".*.part"))


def sung(path: Path) -> None:
    """Takes the sound."""
    with ClipWriter(path.with_name("sung.mkv"), 25, (16, 16), audio_from=path) as clip:
        clip.write(torch.zeros(1, 3, 4, 16, 16))


def message(read: Callable[[Path], object], path: Path) -> str:
    """What the VideoError says, nothing where there is none."""
    try:
        read(path)
    except VideoError as error:
        return str(error)
    return ""


def mutants(folder: Path) -> int:
    """How many mutants were read."""
    seeds = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    read = 0

    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(seeds)), st.lists(changes, min_size=1, max_size=4))
    def one(name: str, steps: list[tuple[object, ...]]) -> None:
        nonlocal read
        data = seeds[name]
        for change, *values in steps:
            data = change(*values, data)  # type: ignore[operator]
        path = folder.parent / f"mutant{Path(name).suffix}"
        path.write_bytes(data)
        print(f"about to read {name} after {[(s[0].__name__, *s[1:]) for s in steps]}", flush=True)
        faulthandler.dump_traceback_later(SECONDS_OF_A_MUTANT, exit=True)
        taken(path)
        faulthandler.cancel_dump_traceback_later()
        path.unlink()
        read += 1

    one()
    return read


def growth(read: Callable[[], object], times: int) -> int:
    """Bytes by which the process grows while something is read again and again."""
    for _ in range(times // 4):
        read()
    before = resident()
    for _ in range(times):
        read()
    return resident() - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def broken_reads(folder: Path) -> Iterator[Callable[[], object]]:
    """Reads of clips that break in the middle of the frames, and one that never gets as far."""
    for source in sorted(folder.iterdir()):
        data = source.read_bytes()
        path = folder.parent / f"broken{source.suffix}"
        path.write_bytes(data[: len(data) * 4 // 5])
        yield lambda path=path: taken(path)


def main(folder: Path) -> None:
    faulthandler.enable()
    reads = list(broken_reads(folder))
    taken(next(folder.iterdir()))
    files = open_files()
    kept: list[object] = []
    found = {
        "mutants": mutants(folder),
        "open_files": open_files() - files,
        "growth": growth(lambda: [read() for read in reads], 20),
        "growth_of_a_leak": growth(lambda: kept.append([b"x" * 2_000_000, *(read() for read in reads)]), 20),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
