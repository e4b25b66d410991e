"""A run from the command to its files, both written or neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vvae import bench
from vvae.bench import QUICK, Plan, Report, Verdict, machine, report, run, spread
from vvae.cli.bench import bench as command
from vvae.errors import VvaeError

APP = typer.Typer()
APP.command()(command)
EMPTY = Report(
    machine=machine.look(),
    plan=Plan(),
    specs=(),
    verdicts=(
        Verdict(name="a / b", ratio=spread([1.0, 2.0]), limit=3.0),
        Verdict(name="c / d", ratio=spread([9.0]), limit=3.0, stretch=True),
    ),
    missing=("U is missing: a reason",),
)


@pytest.fixture(scope="module")
def quick() -> Report:
    return run(QUICK.model_copy(update={"parts": ("speed", "growth", "costs")}))


def test_quick_run_fills_its_parts(quick: Report) -> None:
    (spec,) = quick.specs
    assert spec.contests
    assert spec.costs
    assert spec.growth_in_frames
    assert spec.growth_in_side
    assert spec.memory == ()
    assert "memory was not measured in this run" in quick.missing


def test_quick_run_is_on_the_page_and_in_the_json(quick: Report, tmp_path: Path) -> None:
    bench.write(quick, tmp_path)
    page, data = (tmp_path / "speed.md").read_text(), json.loads((tmp_path / "speed.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md"]
    for timing in data["specs"][0]["contests"][0]["timings"]:
        assert f"| {timing['name']} |" in page
    assert data["specs"][0]["costs"][0]["largest_others"][0]["operator"] in page
    assert len(data["specs"][0]["contests"][0]["rounds"]) == QUICK.rounds


def test_every_row_of_a_table_has_all_columns(quick: Report) -> None:
    for table in bench.tables(quick):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_page_says_of_every_target_whether_it_is_met() -> None:
    page = bench.markdown(EMPTY)
    assert "| a / b | 3 | 1.5 [1.25, 1.75] | met |" in page
    assert "| c / d (stretch) | 3 | 9 [9, 9] | not met |" in page
    assert "- U is missing: a reason." in page


@pytest.mark.parametrize("number", [1, 2])
def test_a_write_that_fails_leaves_both_files_as_they_were(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("speed.json", "speed.md"):
        (tmp_path / name).write_text("old")
    written, write_text = [], Path.write_text

    def full_disk(self: Path, text: str) -> int:
        written.append(self)
        if len(written) == number:
            write_text(self, text[:10])
            raise OSError(28, "No space left on device")
        return write_text(self, text)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(VvaeError, match=r"not written \(No space left on device\); make room"):
        bench.write(EMPTY, tmp_path)
    assert len(written) == number
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"speed.json": "old", "speed.md": "old"}


def test_a_folder_in_the_way_leaves_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "speed.md").mkdir()
    with pytest.raises(VvaeError, match=r"speed\.md: is a folder"):
        bench.write(EMPTY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["speed.md"]


def test_command_prints_targets_and_writes_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Plan] = []
    monkeypatch.setattr("vvae.bench.run", lambda plan, say: asked.append(plan) or EMPTY)
    found = CliRunner().invoke(APP, ["vvae-small", "--size", "5x16x16", "--rounds", "3", "--out", str(tmp_path)])
    assert found.exit_code == 0
    assert "not met" in found.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md"]
    assert asked == [Plan(specs=("vvae-small",), sizes=((5, 16, 16),), rounds=3)]


def test_command_prints_json_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vvae.bench.run", lambda plan, say: say("a step") or EMPTY)
    found = CliRunner().invoke(APP, ["--json", "--quick"])
    assert json.loads(found.stdout)["verdicts"][0]["met"] is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--size", "17x128"], "FRAMESxHEIGHTxWIDTH"),
        (["--size", "0x16x16"], "FRAMESxHEIGHTxWIDTH"),
        (["--device", "tpu"], "cpu, cuda"),
        (["--part", "spede"], "speed, memory, growth, costs"),
    ],
)
def test_command_refuses_what_it_does_not_know(given: list[str], said: str) -> None:
    found = CliRunner(env={"TERMINAL_WIDTH": "200"}).invoke(APP, given)
    assert found.exit_code == 2
    assert said in found.stderr


def test_an_unknown_spec_is_refused_before_anything_runs() -> None:
    said: list[str] = []
    with pytest.raises(VvaeError, match="near it: vvae-small"):
        run(QUICK.model_copy(update={"specs": ("vvae-small", "vvae-smal")}), said.append)
    assert said == []


def test_missing_parts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda package: None)
    monkeypatch.setattr(machine, "has_bfloat16", lambda lines: False)
    found = run(QUICK.model_copy(update={"parts": ("costs",), "unit": True})).missing
    assert "U is missing: diffusers is not installed" in found
    assert "bfloat16 is missing: this CPU does not multiply it" in found
    assert report.markdown(EMPTY.model_copy(update={"missing": found})).count("missing:") == 2
