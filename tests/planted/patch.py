"""Patches: what stands above a diff, and its application to a copy. No tool but Python is needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = re.compile(r"^[#\s]*(laws?|unrelated)\s*[:=]\s*(.*)$", re.IGNORECASE)
START = re.compile(r"^(diff |Index: |--- )")
HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class PatchError(Exception):
    """A file that is no patch, or one that does not apply any more; says where."""


@dataclass(frozen=True)
class Hunk:
    """Lines that stand somewhere near `line`, and those that take their place."""

    line: int
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Patch:
    """A defect: its name, what its header says, and the hunks for each file.

    `laws` are those that it names, as the suite calls them; none where it names none that is known. `told`: what the
    header says beside that.
    """

    name: str
    laws: tuple[str, ...]
    unrelated: tuple[str, ...]
    told: str
    files: dict[str, tuple[Hunk, ...]]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that it changes, as they are imported."""
        return tuple(file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in self.files)


def read(path: Path, known: Collection[str]) -> Patch:
    """The patch in a file; `known` are the names of laws.

    Raises:
        PatchError: there is no diff in it.
    """
    lines = path.read_text().splitlines()
    start = next((number for number, line in enumerate(lines) if START.match(line)), len(lines))
    named: dict[str, list[str]] = {"law": [], "unrelated": []}
    told: list[str] = []
    for line in lines[:start]:
        if found := HEADER.match(line):
            named["unrelated" if found[1].lower() == "unrelated" else "law"] += re.split(r"[,;]|\band\b", found[2])
        elif line.strip(" #"):
            told.append(line.strip(" #"))
    files = dict(_files(lines[start:]))
    if not files:
        raise PatchError(f"{path.name}: no unified diff in it")
    laws, unrelated = (tuple(law for name in names if (law := known_as(name, known))) for names in named.values())
    return Patch(path.stem, laws, unrelated, " ".join(told), files)


def known_as(name: str, known: Collection[str]) -> str | None:
    """What the suite calls a law that is written with spaces, dashes or capitals; None where it has none."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("check_").removeprefix("law_")
    return plain if plain in known else None


def _files(lines: list[str]) -> Iterator[tuple[str, tuple[Hunk, ...]]]:
    """Each file of a diff with its hunks."""
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")):
            at += 1
            continue
        old, new = (lines[at + more][4:].split("\t")[0].strip() for more in (0, 1))
        at, hunks = at + 2, list[Hunk]()
        while at < len(lines) and (found := HUNK.match(lines[at])):
            hunk, at = _hunk(lines, at + 1, int(found[1]), int(found[2] or 1), int(found[4] or 1))
            hunks.append(hunk)
        yield _inside(old if new == "/dev/null" else new), tuple(hunks)


def _inside(name: str) -> str:
    """The path below the folder that holds the package."""
    parts = name.split("/")
    return "/".join(parts[parts.index("vvae") :]) if "vvae" in parts else name


def _hunk(lines: list[str], at: int, line: int, old: int, new: int) -> tuple[Hunk, int]:
    """A hunk of so many old and new lines, and where it ends."""
    before: list[str] = []
    after: list[str] = []
    while at < len(lines) and (len(before) < old or len(after) < new):
        sign, text = lines[at][:1] or " ", lines[at][1:]
        if sign in " -":
            before.append(text)
        if sign in " +":
            after.append(text)
        at += 1
    while at < len(lines) and lines[at].startswith("\\"):  # no newline at the end of the file
        at += 1
    return Hunk(line, tuple(before), tuple(after)), at


def apply(patch: Patch, root: Path) -> None:
    """Changes the files below the folder.

    Raises:
        PatchError: lines that the patch changes stand nowhere in a file, or the file is not there.
    """
    for name, hunks in patch.files.items():
        file = root / name
        if not file.exists() and any(hunk.before for hunk in hunks):
            raise PatchError(f"{patch.name} does not apply any more: no file {name}")
        lines = file.read_text().splitlines() if file.exists() else []
        moved = 0
        for number, hunk in enumerate(hunks, start=1):
            at = _place(lines, hunk, hunk.line - 1 + moved)
            if at is None:
                raise PatchError(f"{patch.name} does not apply any more: hunk {number} of {name} stands nowhere in it")
            lines[at : at + len(hunk.before)] = hunk.after
            moved = at + len(hunk.after) - len(hunk.before) - (hunk.line - 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))


def _place(lines: list[str], hunk: Hunk, near: int) -> int | None:
    """Where the old lines of a hunk stand, as near as possible to where they stood."""
    length = len(hunk.before)
    if not length:
        return max(0, min(near + 1, len(lines)))
    places = [at for at in range(len(lines) - length + 1) if tuple(lines[at : at + length]) == hunk.before]
    return min(places, key=lambda at: abs(at - near), default=None)
