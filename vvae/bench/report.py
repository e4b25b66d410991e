"""A report as tables of text, as Markdown, and in files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from vvae.bench.figures import MIB, Spread, Verdict
from vvae.bench.growth import Growth
from vvae.bench.peers import PUBLISHED_CLASS
from vvae.bench.published import PUBLISHED
from vvae.bench.run import OfSpec, Report
from vvae.bench.units import U_IS
from vvae.bench.work import DIRECTIONS, Size
from vvae.errors import VvaeError

UNITS = (
    f"**U** is {U_IS}.",
    "**C** is the sum of the model's own convolutions alone, on random numbers, channels last, for the same direction "
    "and dtype.",
    "Within a round every contestant runs once, in an order that rotates; ratios are taken within a round. Figures are "
    "median [lower quartile, upper quartile] over rounds. A target is met when its upper quartile meets it.",
)


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def verdict_table(report: Report) -> Table:
    """Every target, with what was measured and whether it is met."""
    return Table("Targets", ("target", "at most", "measured", ""), tuple(_verdict(v) for v in report.verdicts))


def _verdict(v: Verdict) -> tuple[str, ...]:
    return f"{v.name}{' (stretch)' * v.stretch}", f"{v.limit:g}", str(v.ratio), v.text


def tables(report: Report) -> Iterator[Table]:
    """Everything in the report, the targets first."""
    yield verdict_table(report)
    yield from (table for table in _beside_published_class(report) if table.rows)
    for spec in report.specs:
        yield from (table for table in _of_spec(spec) if table.rows)


def _of_spec(spec: OfSpec) -> Iterator[Table]:
    for one in spec.contests:
        columns = ("", "seconds", "GFLOP/s", "/ C", "/ U", "error to float64", "CPU / wall", "load", "first run, s")
        rows = tuple(
            (
                t.name,
                str(t.seconds),
                _number(t.flops_per_second, 1e9),
                _spread(t.over_c),
                _spread(t.over_u),
                _number(t.error),
                str(t.cpu),
                str(t.load),
                _number(t.first_seconds),
            )
            for t in one.timings
        )
        yield Table(f"{spec.name}: speed, {_clip(one.size)}", columns, rows)
    yield _published(spec)
    yield _memory(spec)
    yield _growth(f"{spec.name}: growth with frames", spec.growth_in_frames)
    yield _growth(f"{spec.name}: growth with the side", spec.growth_in_side)
    yield from _costs(spec)
    yield _on_device(spec)


def _published(spec: OfSpec) -> Table:
    """Seconds and peaks beside those of the published code, in the same units."""
    known = PUBLISHED.get(spec.name)
    found = {t.name: t for one in spec.contests if known and one.size == known.size for t in one.timings}
    peaks = {m.direction: m.peak.bytes for m in spec.memory if known and m.size == known.size and not m.stream}
    rows = []
    for direction in DIRECTIONS:
        if known is not None and (timing := found.get(f"{direction} float32")):
            theirs, peak = getattr(known, direction), peaks.get(direction)
            rows.append((direction, f"{theirs:g}", _spread(timing.over_u), _number(known.peak), _number(peak, MIB)))
    columns = ("", "published, U", "here, U", "published peak of both, MiB", "peak here, MiB")
    return Table(f"{spec.name}: beside the published code, float32", columns, tuple(rows))


def _beside_published_class(report: Report) -> Iterator[Table]:
    """A spec beside the peer that is its published code, where both are in the report."""
    found = {spec.name: spec for spec in report.specs}
    for name, peer in PUBLISHED_CLASS.items():
        if name in found and peer in found:
            columns = ("", "clip", "seconds", "MiB", "streamed, seconds", "MiB", f"{peer}, seconds", "MiB")
            title = f"{name} beside {peer}: seconds, and MiB above the model in float32"
            yield Table(title, columns, tuple(_beside(found[name], found[peer])))


def _beside(ours: OfSpec, theirs: OfSpec) -> Iterator[tuple[str, ...]]:
    sizes = dict.fromkeys([*(one.size for one in theirs.contests), *(m.size for m in theirs.memory)])
    for size, dtype, direction in product(sizes, ("float32", "bfloat16"), DIRECTIONS):
        known = _figures(theirs, direction, dtype, size)
        if known != ("-", "-"):
            own = (_figures(ours, way, dtype, size) for way in (direction, f"{direction}_stream"))
            yield f"{direction} {dtype}", _clip(size), *chain.from_iterable(own), *known


def _figures(spec: OfSpec, way: str, dtype: str, size: Size) -> tuple[str, str]:
    """Seconds and the peak of one case, as text."""
    timings = (
        t.seconds for one in spec.contests if one.size == size for t in one.timings if t.name == f"{way} {dtype}"
    )
    held = (m for m in spec.memory if dtype == "float32" and m.size == size)
    peaks = (m.peak.bytes for m in held if f"{m.direction}{'_stream' * m.stream}" == way)
    return _spread(next(timings, None)), _number(next(peaks, None), MIB)


def _memory(spec: OfSpec) -> Table:
    columns = ("", "clip", "peak above the model, MiB", "counted, MiB", "state, MiB", "read from")
    rows = tuple(
        (
            f"{m.direction}{'_stream' * m.stream}",
            _clip(m.size),
            _number(m.peak.bytes, MIB),
            _number(m.counted, MIB),
            _number(m.state, MIB),
            m.peak.method,
        )
        for m in spec.memory
    )
    return Table(f"{spec.name}: memory, float32, a process per case", columns, rows)


def _growth(title: str, found: tuple[Growth, ...]) -> Table:
    columns = ("", "clip", "seconds", "/ smallest", "pixels / smallest", "exponent")
    rows = tuple(
        (g.direction, _clip(g.size), str(g.seconds), str(g.over_smallest), f"{g.pixels:.3g}", _number(g.exponent))
        for g in found
    )
    return Table(f"{title}, float32", columns, rows)


def _costs(spec: OfSpec) -> Iterator[Table]:
    """Operators of at least 1 %; the three largest that are no convolution are numbered."""
    for one in spec.costs:
        places = {cost: f"{place}." for place, cost in enumerate(one.largest_others, 1)}
        rows = tuple(
            (places.get(c, ""), c.operator, f"{c.share:.1%}", f"{c.seconds:.3g}", str(c.calls)) for c in one.operators
        )
        title = f"{spec.name}: costs, {one.direction} {one.dtype}, convolutions {one.convolution_share:.1%}"
        yield Table(title, ("not a convolution", "operator", "share", "seconds", "calls"), rows)


def _on_device(spec: OfSpec) -> Table:
    columns = ("", "clip", "seconds", "TFLOP/s", "/ matrix product", "in convolutions (eager)", "peak, MiB", "first, s")
    rows = tuple(
        (
            f"{d.direction}{'_compiled' * d.compiled}",
            _clip(d.size),
            str(d.seconds),
            _number(d.flops_per_second, 1e12),
            str(d.matmul_share),
            f"{d.convolution_share:.1%}",
            _number(d.peak, MIB),
            _number(d.first_seconds),
        )
        for d in spec.on_device
    )
    return Table(f"{spec.name}: on the GPU, bfloat16", columns, rows)


def _clip(size: Size) -> str:
    return "x".join(map(str, size))


def _number(value: float | None, unit: float = 1) -> str:
    return "-" if value is None else f"{value / unit:.3g}" if abs(value / unit) < 100 else f"{value / unit:.0f}"


def _spread(value: Spread | None) -> str:
    return "-" if value is None else str(value)


def markdown(report: Report) -> str:
    """The report as a page: the machine, what is missing, all tables."""
    m = report.machine
    after = "-" if m.load_after is None else f"{m.load_after:.2f}"
    pages = "large pages (THP_MEM_ALLOC_ENABLE=1)" if m.large_pages else "small pages"
    lines = [
        "# Speed and memory",
        "",
        f"{m.cpu}, {m.cores} cores, {m.threads} threads, {pages}; GPU {m.gpu or 'none'}; torch {m.torch}, diffusers "
        f"{m.diffusers or 'none'}; load {m.load:.2f} before, {after} after; {report.plan.rounds} rounds.",
        "",
        *(f"{unit}  " for unit in UNITS),
        "",
        *(f"- {sentence}." for sentence in report.missing),
    ]
    for table in tables(report):
        lines += ["", f"## {table.title}", "", _row(table.columns), _row(("---",) * len(table.columns))]
        lines += [_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def write(report: Report, folder: Path, name: str = "speed") -> list[Path]:
    """NAME.json and NAME.md in the folder: both whole, or both as they were."""
    files = {f"{name}.json": report.model_dump_json(indent=1) + "\n", f"{name}.md": markdown(report)}
    if folders := [file for file in files if (folder / file).is_dir()]:
        raise VvaeError(f"{folder / folders[0]}: is a folder, so no file can stand there; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _replace(folder, files)
    except OSError as error:
        raise VvaeError(f"{folder}: not written ({error.strerror}); make room or choose another folder") from error


def _replace(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """All texts are on the disk before the first old file goes."""
    mark = secrets.token_hex(8)
    new = {folder / f".{mark}-{name}": folder / name for name in files}
    try:
        for part, text in zip(new, files.values(), strict=True):
            part.write_text(text)
        for part, path in new.items():
            os.replace(part, path)
    finally:
        for part in new:
            with suppress(OSError):
                part.unlink()
    return list(new.values())
