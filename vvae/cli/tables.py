"""What the commands print as tables: readable in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.models.released import TensorKind
from vvae.models.truths import in_time
from vvae.models.truths import told as told_in_time
from vvae.stages import Stage, fitting_frames
from vvae.summary import PartSummary, Summary
from vvae.tiling.budget import told


def print_table(table: Table) -> None:
    Console(highlight=False).print(table)


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def rows_table(rows: Sequence[Sequence[str]]) -> Table:
    """A table of texts, the first row of which are its headings; all columns but the first stand to the right."""
    head, *rest = rows
    table = _table(*((name, "right" if place else "left") for place, name in enumerate(head)))
    for row in rest:
        table.add_row(*row)
    return table


def print_summary(spec: VideoAutoencoderSpec, summary: Summary, stages: Sequence[Stage]) -> None:
    console = Console(highlight=False)
    frames, height, width = summary.size
    latents = " x ".join(map(str, summary.latent_shape))
    console.print(f"[bold]{summary.name}[/bold]  {summary.parameters:,} parameters")
    for name, text in (
        ("clip", f"{frames} x {height} x {width} -> latents {latents} (c t h w)"),
        ("compression", f"{float(summary.positions):g} pixels a position, {float(summary.numbers):g} numbers a number"),
        ("frames that fit", f"{fitting_frames(spec)}; others are filled and cropped"),
        ("sides that fit", f"multiples of {spec.cell} pixels; others are filled and cropped"),
        ("in time", f"{in_time(spec)}; lead {summary.lead}, groups of {summary.group}"),
        ("encode", _truths(summary.encode, told_in_time(spec, "encode"))),
        ("decode", _truths(summary.decode, told_in_time(spec, "decode"))),
    ):
        console.print(f"{name:<16}{text}", soft_wrap=True)
    console.print()
    console.print(_stage_table(stages))
    console.print()
    console.print("ch: channels given; t, px: frames and pixels per cell; sees: of its input")


def _truths(part: PartSummary, layers: Sequence[str]) -> str:
    past = "the whole past" if part.history is None else f"{part.history} frames back"
    ahead = "the whole future" if part.look_ahead is None else f"{part.look_ahead} ahead"
    streams = f"streams (state {told(part.state_bytes)})" if part.state_bytes is not None else "does not stream"
    sight = f"sees its group, {past}" + ("" if part.group_causal else f", {ahead}")
    lines = [sight, *layers, f"{part.flops / 1e9:,.2f} GFLOP, peak {told(part.peak_bytes)}; {streams}"]
    wrapped = [row for line in [*lines, part.limit or ""] for row in wrap(line, 80 - 16)]
    return f"\n{'':<16}".join(wrapped)


def _stage_table(stages: Sequence[Stage]) -> Table:
    table = _table(
        ("stage", "left"),
        ("ch", "right"),
        ("t", "right"),
        ("px", "right"),
        ("sees", "left"),
        ("parameters", "right"),
        ("GFLOP", "right"),
    )
    for index, stage in enumerate(stages):
        if index and stage.path.partition(".")[0] != stages[index - 1].path.partition(".")[0]:
            table.add_section()
        table.add_row(
            stage.path,
            str(stage.channels),
            _side(stage.time),
            _side(stage.space),
            stage.sees,
            f"{stage.parameters:,}" if stage.parameters else "-",
            f"{stage.flops / 1e9:,.2f}" if stage.flops else "-",
        )
    return table


def _side(value: Fraction) -> str:
    return str(value)


def kinds_table(kinds: Iterable[TensorKind], to: str) -> Table:
    names = ("published", "vvae") if to == "vvae" else ("vvae", "published")
    table = _table((names[0], "left"), (names[1], "left"), ("tensors", "right"), ("what was done", "left"))
    for kind in kinds:
        sides = (kind.published, kind.own or "-")
        done = kind.done if to == "vvae" else kind.done.replace("dropped", "added")
        table.add_row(*(sides if to == "vvae" else sides[::-1]), str(kind.count), done)
    return table
