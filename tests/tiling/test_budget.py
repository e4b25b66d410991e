"""How much memory there is, from the files of made-up systems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vvae import VideoError
from vvae.tiling.budget import SHARE, available, parse_bytes, resident, told, usable

MEMINFO = {"proc/meminfo": "MemTotal:       2000 kB\nMemAvailable:   1000 kB\n"}
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "9:cpu,cpuacct:/a/b\n4:memory:/a/b\n0::/a/b\n"}
NO_LIMIT = str(2**63 - 4096)  # what v1 says where there is none


def system(root: Path, *files: Mapping[str, str]) -> Path:
    """A root with these files."""
    for name, text in {name: text for some in files for name, text in some.items()}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group_v2(folder: str, limit: str, used: int, spare: int = 0) -> dict[str, str]:
    at = f"sys/fs/cgroup/{folder}"
    return {
        f"{at}/memory.max": f"{limit}\n",
        f"{at}/memory.current": f"{used}\n",
        f"{at}/memory.stat": f"anon 5\ninactive_file {spare}\n",
    }


def group_v1(folder: str, limit: str, used: int, spare: int = 0) -> dict[str, str]:
    at = f"sys/fs/cgroup/memory/{folder}"
    return {
        f"{at}/memory.limit_in_bytes": f"{limit}\n",
        f"{at}/memory.usage_in_bytes": f"{used}\n",
        f"{at}/memory.stat": f"inactive_file 1\ntotal_inactive_file {spare}\n",
    }


def test_without_a_limit_the_system_counts(tmp_path: Path) -> None:
    free = 1000 * 1024
    assert available(system(tmp_path / "bare", MEMINFO)) == free
    assert available(system(tmp_path / "v2", MEMINFO, V2, group_v2("a/b", "max", 10))) == free
    assert available(system(tmp_path / "v1", MEMINFO, V1, group_v1("a/b", NO_LIMIT, 10))) == free
    assert available(system(tmp_path / "none", {})) is None


@pytest.mark.parametrize("folder", ["a/b", "a", ""])
def test_the_smallest_limit_of_all_groups_around_counts_less_what_is_used(tmp_path: Path, folder: str) -> None:
    v2 = system(tmp_path / "v2", MEMINFO, V2, group_v2("a/b", "900000", 10), group_v2(folder, "500000", 100_000, 7))
    assert available(v2) == 500_000 - (100_000 - 7)
    v1 = system(tmp_path / "v1", MEMINFO, V1, group_v1("a/b", NO_LIMIT, 10), group_v1(folder, "500000", 100_000, 7))
    assert available(v1) == 500_000 - (100_000 - 7)


def test_a_group_that_uses_more_than_its_limit_leaves_nothing(tmp_path: Path) -> None:
    assert available(system(tmp_path, MEMINFO, V2, group_v2("a/b", "500", 1000))) == 0


def test_a_limit_above_what_the_system_has_changes_nothing(tmp_path: Path) -> None:
    assert available(system(tmp_path, MEMINFO, V2, group_v2("a", "99000000", 0))) == 1000 * 1024


def test_what_is_usable_leaves_a_margin_and_holds_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vvae.tiling.budget.available", lambda: 1000)
    monkeypatch.setattr("vvae.tiling.budget.resident", lambda: 70)
    assert usable() == int(SHARE * 1000) + 70
    monkeypatch.setattr("vvae.tiling.budget.available", lambda: None)
    assert usable() is None


def test_what_is_resident_is_read_from_the_status(tmp_path: Path) -> None:
    root = system(tmp_path, {"proc/self/status": "Name:\tpython\nVmHWM:\t   9 kB\nVmRSS:\t   7 kB\n"})
    assert (resident(root=root), resident("VmHWM", root)) == (7 * 1024, 9 * 1024)
    assert resident(root=tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GiB", 2 * 2**30), ("500MB", 500_000_000), ("1.5 gb", 1_500_000_000), ("1024", 1024), ("3 KiB", 3072)],
)
def test_amounts_are_read_as_they_are_written(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "0.1", "1PB", "2 GiB extra", "nanGB", "1e3MB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(VideoError, match="is no amount"):
        parse_bytes(text)


@pytest.mark.parametrize("count", [1, 2**20, 2**20 + 1, 2**30, 2**30 + 1, 123_456_789_012])
def test_told_amounts_are_enough(count: int) -> None:
    assert count <= parse_bytes(told(count)) <= 1.11 * count + 2**20
