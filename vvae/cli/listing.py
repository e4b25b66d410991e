"""What `vvae list` prints: each architecture, what is true of its variants, and these; for 80 columns and more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from vvae.models.catalogue import Entry

NOTES = """\
takes   sizes that pass as they are; others are filled, and cropped afterwards
4x8x8   frames x rows x columns of a latent position; z: its channels
A released file becomes a model with vvae convert. vvae downloads nothing.\
"""


def print_models(entries: Iterable[Entry]) -> None:
    console = Console(highlight=False)
    for architecture, family in groupby(entries, lambda entry: entry.architecture):
        console.print(f"[bold]{architecture}[/bold]")
        for number, (truths, alike) in enumerate(groupby(family, _truths)):
            variants = list(alike)
            lines = [*truths] if number else [*_origin(variants[0]), *truths]
            console.print(Padding(_facts(lines), (0, 0, 0, 2)))
            console.print(Padding(_variants(variants), (0, 0, 0, 4)))
        console.print()
    console.print(NOTES)


def _origin(entry: Entry) -> list[tuple[str, str]]:
    """Whose it is."""
    release = entry.release
    return [
        ("licence", f"code {release.code_licence}; weights {release.weights_licence}"),
        ("files", release.place),
    ]


def _truths(entry: Entry) -> list[tuple[str, str]]:
    """What is the same for all variants that stand together."""
    return [
        ("in time", f"{entry.in_time}; {'streams' if entry.streams else 'does not stream'}"),
        ("takes", f"{_lengths(entry.frames)}, {_sides(entry.sides)}"),
    ]


def _lengths(frames: str) -> str:
    """The numbers of frames in few words, from "any" or "1, 5, 9, ... (1 + 4k)"."""
    if frames == "any":
        return "any number of frames"
    found = re.search(r"\((\d+) \+ (\d+)k\)", frames)
    if found is None:
        return f"{frames} frames"
    first, step = found.groups()
    return f"multiples of {step} frames" if first == step else f"{first} + {step}k frames"


def _sides(cell: int) -> str:
    return "sides of any length" if cell == 1 else f"sides multiples of {cell}"


def _facts(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=7)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, text)
    return table


def _variants(entries: Iterable[Entry]) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left", "left", "left"):
        table.add_column(justify=justify, overflow="fold")
    for entry in entries:
        cell = "x".join(f"{side:g}" for side in entry.compression)
        file = entry.file or (f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "")
        table.add_row(entry.name, f"{entry.parameters / 1e6:.2f} M", cell, f"z {entry.latent_channels}", file)
    return table
