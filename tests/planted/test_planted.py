"""Planted defects: each is caught by the law that it names; and what reads and applies their patches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.planted.outputs import changed
from tests.planted.patch import PatchError, apply, known_as, read
from tests.planted.run import OWN, REPOSITORY, main, patches_in
from vvae.verify import all_laws

LAWS = list(all_laws())
PATCHES, BAD = patches_in(OWN, LAWS)
HEAD = "Law:  Shift\nUNRELATED = first frame\n# what is wrong\n\n"
DIFF = "--- a/vvae/one.py\t2020\n+++ b/vvae/one.py\n@@ -2,2 +2,3 @@\n b\n-c\n+C\n+CC\n"


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_every_law_is_named_by_a_patch() -> None:
    assert not BAD
    assert len(PATCHES) >= 30
    assert set(LAWS) == {law for patch in PATCHES for law in patch.laws}
    assert all(len(patch.laws) == len(patch.unrelated) == 1 and patch.told for patch in PATCHES)
    assert all(patch.laws != patch.unrelated for patch in PATCHES)


def test_every_patch_still_applies(tmp_path: Path) -> None:
    for patch in PATCHES:
        for name in patch.files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, tmp_path / name)
        apply(patch, tmp_path)
        assert any((REPOSITORY / name).read_text() != (tmp_path / name).read_text() for name in patch.files)
        for name in patch.files:
            compile((tmp_path / name).read_text(), name, "exec")


@pytest.mark.thorough
def test_all_defects_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([])
    assert result(capsys) == {"planted": len(PATCHES), "caught": len(PATCHES), "false_alarms": 0}
    assert code == 0


@pytest.mark.thorough
def test_a_patch_that_changes_nothing_is_not_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / "vvae/layers/activation.py").read_text().splitlines()
    at = text.index("        return F.silu(x)")
    head = "law: untouched\nA comment.\n\n--- a/vvae/layers/activation.py\n+++ b/vvae/layers/activation.py\n"
    hunk = f"@@ -{at + 1},1 +{at + 1},1 @@\n-{text[at]}\n+{text[at]}  # x * sigmoid(x)\n"
    (tmp_path / "comment.patch").write_text(head + hunk)
    (tmp_path / "none.patch").write_text("law: untouched\nno diff\n")
    assert main([str(tmp_path)]) == 1
    assert result(capsys) == {"planted": 2, "caught": 0, "false_alarms": 0}


def test_a_header_is_read_in_many_ways(tmp_path: Path) -> None:
    (tmp_path / "one.patch").write_text(HEAD + DIFF)
    patch = read(tmp_path / "one.patch", LAWS)
    assert (patch.laws, patch.unrelated, patch.told) == (("shift",), ("first_frame",), "what is wrong")
    assert known_as("check_Group-Causal ", LAWS) == "group_causal"
    assert known_as("the law of causality", LAWS) is None
    (tmp_path / "bare.patch").write_text(DIFF)
    assert read(tmp_path / "bare.patch", LAWS).laws == ()


@pytest.mark.parametrize("lines", ["a\nb\nc\nd\n", "new\nnew\na\nb\nc\nd\n"])
def test_a_patch_applies_where_its_lines_stand(lines: str, tmp_path: Path) -> None:
    (tmp_path / "vvae").mkdir()
    (tmp_path / "vvae/one.py").write_text(lines)
    (tmp_path / "one.patch").write_text(DIFF)
    apply(read(tmp_path / "one.patch", LAWS), tmp_path)
    assert (tmp_path / "vvae/one.py").read_text() == lines.replace("c\n", "C\nCC\n")


def test_a_patch_whose_lines_are_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "vvae").mkdir()
    (tmp_path / "vvae/one.py").write_text("a\nB\nc\n")
    (tmp_path / "one.patch").write_text(DIFF)
    with pytest.raises(PatchError, match="one does not apply any more: hunk 1 of vvae/one"):
        apply(read(tmp_path / "one.patch", LAWS), tmp_path)
    (tmp_path / "vvae/one.py").unlink()
    with pytest.raises(PatchError, match="no file"):
        apply(read(tmp_path / "one.patch", LAWS), tmp_path)


def test_outputs_differ_by_numbers_shapes_and_texts() -> None:
    x = torch.tensor([1.0, float("nan")])
    assert changed({"a": x, "b": "text"}, {"a": x.clone(), "b": "text"}) == ("nothing", 0.0)
    assert changed({"a": x + 1e-3}, {"a": x})[1] == pytest.approx(1e-3, rel=1e-3)
    assert changed({"a": torch.nan_to_num(x)}, {"a": x}) == ("a", float("inf"))
    assert changed({"a": x[:1]}, {"a": x}) == ("a", float("inf"))
    assert changed({"a": "other"}, {"a": "text"}) == ("a", float("inf"))
    assert changed({}, {"a": 1.0}) == ("a", float("inf"))
