"""Planted defects: each patch of a folder is applied to a copy of the package, and laws are pointed at the copy.

`python -m tests.planted [FOLDER]` prints a row for each patch and ends with one line of JSON: `planted`, the patches;
`caught`, those of which the law that they name does not hold on the copy (and does on the package as it is), while some
output changes by more than 1e-6; `false_alarms`, the laws that do not hold on the package as it is, plus the unrelated
laws that patches name and that do not hold on the copy beside the named one. The exit code is 0 where all are caught
and nothing is a false alarm, else 1.

A patch is a unified diff below a header: `law: NAME`, `unrelated: NAME`, and a line that says what is wrong. A law may
be written with capitals, spaces or dashes. With `--any` a patch whose header names no law of the suite, or one that
holds, is caught by any other one; the row says by which.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.planted.patch import Patch, PatchError, apply, read

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = Path(__file__).parent / "patches"
SECONDS = 300
"""Of a process on a patched copy; one that takes longer hangs."""
SECONDS_OF_OTHERS = 60
"""How long laws that a patch does not name are looked for once one is found."""


@dataclass
class Row:
    """What came of a patch."""

    name: str
    laws: tuple[str, ...] = ()
    failed: list[dict[str, Any]] = field(default_factory=list)
    unrelated: list[dict[str, Any]] = field(default_factory=list)
    change: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def caught(self) -> bool:
        return bool(self.failed) and bool(self.change.get("seen"))

    @property
    def alarms(self) -> int:
        return sum(found["fails"] for found in self.unrelated)

    def __str__(self) -> str:
        wanted = ", ".join(self.laws) or "any"
        if self.error:
            return f"{self.name:<44} {wanted:<14} {'ERROR':<8} {self.error}"
        first = self.failed[0] if self.failed else None
        verdict = "caught" if self.caught else "unseen" if first else "MISSED"
        by = sorted({found["law"] for found in self.failed})
        others = f" (by {', '.join(by)})" if by and set(by) != set(self.laws) else ""
        told = f"{first['subject']} {first['part']}: {first['verdict']}, {first['told']}" if first else "all laws hold"
        beside = ", ".join(sorted({f"{v['law']} {v['verdict']}" for v in self.unrelated})) or "-"
        change = f"{self.change.get('output', '-')} by {self.change.get('by', 0.0):.1e}"
        return f"{self.name:<44} {wanted:<14} {verdict:<8}{others} | {told} | beside: {beside} | changes {change}"


def known_laws() -> list[str]:
    """The names of all laws, as the package as it is has them."""
    from vvae.verify import all_laws

    return list(all_laws())


def patches_in(folder: Path, known: Sequence[str]) -> tuple[list[Patch], list[Row]]:
    """The patches of a folder, and a row for each file that is none."""
    found: list[Patch] = []
    bad: list[Row] = []
    for file in sorted([*folder.rglob("*.patch"), *folder.rglob("*.diff")]):
        try:
            found.append(read(file, known))
        except (PatchError, UnicodeDecodeError) as error:
            bad.append(Row(file.stem, error=str(error)))
    return found, bad


def copied(patch: Patch, folder: Path) -> Path:
    """A copy of the package below the folder, patched."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "vvae", folder / "vvae", ignore=ignored, copy_function=_copy)
    apply(patch, folder)
    return folder


def _copy(source: str, target: str) -> None:
    """Code is copied; the rest, which is large, is linked to."""
    if source.endswith(".py"):
        shutil.copyfile(source, target)
    else:
        os.symlink(source, target)


def worked(home: Path, most: float | None = None, **job: Any) -> dict[str, Any]:
    """What a process makes of a job that imports the package below `home`.

    Raises:
        subprocess.TimeoutExpired: it takes longer.
        RuntimeError: it fails; the last line that it wrote.
    """
    folder = Path(tempfile.mkdtemp(dir=job.pop("scratch")))
    (folder / "job.json").write_text(json.dumps({"home": str(home), **job}))
    path = os.pathsep.join([str(home), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.planted.worker", str(folder)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=most)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return {**json.loads((folder / "done.json").read_text()), "folder": str(folder)}


def tried(patch: Patch, known: Sequence[dict[str, Any]], scratch: Path, any_law: bool) -> tuple[Row, Path | None]:
    """A patch on a copy, and the file of what comes out of it."""
    row = Row(patch.name, patch.laws)
    try:
        home = copied(patch, Path(tempfile.mkdtemp(dir=scratch)))
        done = worked(
            home,
            most=SECONDS,
            scratch=str(scratch),
            do="patched",
            laws=patch.laws,
            unrelated=patch.unrelated,
            touched=patch.modules,
            known=[found for found in known if any_law or found["law"] in (*patch.laws, *patch.unrelated)],
            any=any_law,
            seconds=SECONDS_OF_OTHERS,
        )
    except PatchError as error:
        row.error = str(error)
    except subprocess.TimeoutExpired:
        row.failed = [_whole(patch, "hangs", f"no end after {SECONDS} seconds")]
        row.change = {"output": "everything", "by": float("inf"), "seen": True}
    except RuntimeError as error:
        if not any_law:
            row.error = str(error)
            return row, None
        row.failed = [_whole(patch, "crashed", str(error))]
        row.change = {"output": "everything", "by": float("inf"), "seen": True}
    else:
        row.failed, row.unrelated = done["failed"], done["unrelated"]
        return row, Path(done["folder"]) / "outputs.pt"
    return row, None


def _whole(patch: Patch, verdict: str, told: str) -> dict[str, Any]:
    law = patch.laws[0] if patch.laws else "any"
    return {"law": law, "subject": "the package", "part": "", "verdict": verdict, "told": told}


def baseline(laws: Sequence[str], scratch: Path, workers: int) -> list[dict[str, Any]]:
    """The verdicts on the package as it is."""
    shares = 2 * workers
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(
                worked, REPOSITORY, scratch=str(scratch), do="unpatched", laws=list(laws), share=[share, shares]
            )
            for share in range(shares)
        ]
        return [found for job in jobs for found in job.result()["verdicts"]]


def run(folder: Path, *, any_law: bool = False, workers: int = 2, only: Iterable[str] = ()) -> tuple[list[Row], int]:
    """A row for each patch of a folder, and the number of laws that do not hold on the package as it is."""
    laws = known_laws()
    patches, rows = patches_in(folder, laws)
    patches = [patch for patch in patches if not only or patch.name in only]
    needed = sorted({law for patch in patches for law in (*patch.laws, *patch.unrelated)})
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        scratch = Path(place)
        known = baseline(laws if any_law else needed, scratch, workers)
        alarms = [found for found in known if found["verdict"] in ("violated", "crashed")]
        for found in alarms:
            print(f"FALSE ALARM {found['law']} on {found['subject']} {found['part']}: {found['told']}", flush=True)
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(tried, patch, known, scratch, any_law) for patch in patches]
            given = [_told(job.result()) for job in jobs]
        files = {row.name: str(file) for row, file in given if file}
        changes = worked(REPOSITORY, scratch=str(scratch), do="compared", files=files)
        for row, _ in given:
            row.change = changes.get(row.name, row.change)
    return sorted([*rows, *(row for row, _ in given)], key=lambda row: row.name), len(alarms)


def _told(given: tuple[Row, Path | None]) -> tuple[Row, Path | None]:
    """A word for each patch as it is done."""
    row = given[0]
    print(f"{row.name}: {row.error or ', '.join(found['law'] for found in row.failed) or 'nothing fails'}", flush=True)
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=OWN, help="where the patches are")
    parser.add_argument("--any", action="store_true", help="any law may catch a patch")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", nargs="*", default=(), help="names of patches")
    asked = parser.parse_args(arguments)
    rows, alarms = run(asked.folder, any_law=asked.any, workers=asked.workers, only=asked.only)
    for row in rows:
        print(row)
    caught, alarms = sum(row.caught for row in rows), alarms + sum(row.alarms for row in rows)
    print(json.dumps({"planted": len(rows), "caught": caught, "false_alarms": alarms}))
    return 0 if rows and caught == len(rows) and not alarms else 1
