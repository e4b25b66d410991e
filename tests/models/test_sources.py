"""What a path holds: files by their content, folders, shards; and one line where it is not whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.published.test_mindspore import stored
from vvae import CheckpointError, checkpoint
from vvae.models.sources import read_source

TENSORS = {f"encoder.level{i}.weight": torch.full((2, 3), float(i)) for i in range(6)}
NAMES = sorted(TENSORS)
SHARDS = {"a-00001.safetensors": NAMES[:2], "a-00002.safetensors": NAMES[2:5], "a-00003.safetensors": NAMES[5:]}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_source(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mindspore(tensors: Mapping[str, Tensor]) -> bytes:
    return b"".join(stored(name, list(x.shape), "Float32", x.numpy().tobytes()) for name, x in tensors.items())


def write_index(folder: Path, weight_map: object, name: str = "model.safetensors.index.json") -> Path:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder / name


def sharded(folder: Path, ending: str = "safetensors") -> Path:
    """A folder of three shards with their index; gives the index."""
    weight_map = {}
    for shard, names in SHARDS.items():
        file = folder / shard.replace("safetensors", ending)
        tensors = {name: TENSORS[name] for name in names}
        if ending == "bin":
            torch.save(tensors, file)
        else:
            checkpoint.write_file(file, tensors, {})
        weight_map.update(dict.fromkeys(names, file.name))
    return write_index(folder, weight_map, f"pytorch_model.{ending}.index.json")


# ---- files


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "model.ckpt", "model"])
def test_safetensors_are_known_by_content(tmp_path: Path, name: str) -> None:
    checkpoint.write_file(tmp_path / name, TENSORS, {})
    assert same(read_source(tmp_path / name).tensors, TENSORS)


ENTRIES: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "bare": (TENSORS, "", ()),
    "state_dict": ({"epoch": 3, "state_dict": TENSORS}, "state_dict", ("epoch",)),
    "lightning": (
        {"state_dict": TENSORS, "optimizer_states": [{"state": {}}], "pytorch-lightning_version": "2.0.1"},
        "state_dict",
        ("optimizer_states", "pytorch-lightning_version"),
    ),
    "model": ({"model": TENSORS, "optimizer": {"step": 1}}, "model", ("optimizer",)),
    "nested": ({"model": {"state_dict": TENSORS}}, "model.state_dict", ()),
    "both_of_a_pair": (
        {"state_dict": {"gen_model": TENSORS, "dics_model": {"w": torch.zeros(1)}}, "ema_state_dict": {}},
        "state_dict.gen_model",
        ("ema_state_dict", "state_dict.dics_model"),
    ),
    "averages": (
        {"ema_state_dict": {f"module.{k}": v for k, v in TENSORS.items()}, "state_dict": {"gen_model": {}}},
        "ema_state_dict",
        ("state_dict",),
    ),
    "bare_with_optimizer": ({**TENSORS, "optimizer": {"step": 1}}, "", ("optimizer",)),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_entry_of_a_torch_file_is_found_and_told(tmp_path: Path, name: str, zipped: bool) -> None:
    content, entry, rest = ENTRIES[name]
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    found = read_source(tmp_path / "x.ckpt")
    assert same(found.tensors, TENSORS)
    assert found.entry == entry
    assert sorted(found.rest) == sorted(rest)


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "x.ckpt")
    assert "no named tensors" in refusal(tmp_path / "x.ckpt")


def test_a_file_of_mindspore_is_known_by_content(tmp_path: Path) -> None:
    file = tmp_path / "renamed.pth"
    file.write_bytes(mindspore({f"autoencoder.{name}": tensor for name, tensor in TENSORS.items()}))
    assert same(read_source(file).tensors, TENSORS)
    checkpoint.write_file(file, {f"_backbone.{name}": tensor for name, tensor in TENSORS.items()}, {"format": "ms"})
    assert same(read_source(file).tensors, TENSORS)


# ---- folders


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("give", ["folder", "index"])
def test_shards_are_joined(tmp_path: Path, ending: str, give: str) -> None:
    index = sharded(tmp_path, ending)
    assert same(read_source(index if give == "index" else tmp_path).tensors, TENSORS)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "a-00002.safetensors").unlink()
    assert "1 of 3 files are not there: a-00002.safetensors" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "no weight_map"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"w": 3}, "no weight_map"),
        ({"w": "../a.safetensors"}, "no weight_map"),
        ({"w": "/etc/a.safetensors"}, "no weight_map"),
        (dict.fromkeys([*NAMES, "encoder.level9.weight"], "all.safetensors"), "1 missing: encoder.level9.weight"),
        (dict.fromkeys(NAMES[1:], "all.safetensors"), "1 unexpected: encoder.level0.weight"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path: Path, weight_map: object, message: str) -> None:
    checkpoint.write_file(tmp_path / "all.safetensors", TENSORS, {})
    write_index(tmp_path, weight_map)
    assert message in refusal(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    checkpoint.write_file(tmp_path / "a-00003.safetensors", {name: TENSORS[name] for name in (NAMES[0], NAMES[5])}, {})
    assert f"{NAMES[0]} stands in a-00003.safetensors and in another file" in refusal(tmp_path)


def test_a_folder_is_one_kind_of_file(tmp_path: Path) -> None:
    checkpoint.write_file(tmp_path / "x.safetensors", TENSORS, {})
    torch.save({"other": torch.zeros(1)}, tmp_path / "x.bin")
    assert same(read_source(tmp_path).tensors, TENSORS)


def test_a_folder_without_weights_names_those_below(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "scheduler").mkdir()
    assert "give another" in refusal(tmp_path)
    checkpoint.write_file(tmp_path / "vae" / "x.safetensors", TENSORS, {})
    assert "give one of its folders, vae" in refusal(tmp_path)


def test_two_indices_are_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    write_index(tmp_path, {"w": "x"}, "other.safetensors.index.json")
    assert "other.safetensors.index.json, pytorch_model.safetensors.index.json; give the one" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "3", "\udcff"])
def test_a_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    checkpoint.write_file(tmp_path / "x.safetensors", TENSORS, {})
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "config.json" in refusal(tmp_path)


def test_a_config_beside_a_file_is_read(tmp_path: Path) -> None:
    checkpoint.write_file(tmp_path / "x.safetensors", TENSORS, {})
    assert read_source(tmp_path / "x.safetensors").config == {}
    (tmp_path / "config.json").write_text('{"scaling_factor": 0.5}')
    assert read_source(tmp_path / "x.safetensors").config == read_source(tmp_path).config == {"scaling_factor": 0.5}


# ---- damage


@given(st.data())
def test_any_cut_or_foreign_bytes_give_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["safetensors", "zip", "pickle", "mindspore"]))
    file = tmp_path_factory.mktemp("cut") / "x.ckpt"
    if kind == "safetensors":
        checkpoint.write_file(file, TENSORS, {})
    elif kind == "mindspore":
        file.write_bytes(mindspore(TENSORS))
    else:
        torch.save(TENSORS, file, _use_new_zipfile_serialization=kind == "zip")
    whole = file.read_bytes()
    kept = whole[: data.draw(st.integers(0, len(whole) - 1))]
    file.write_bytes(data.draw(st.binary(max_size=12)) + kept if data.draw(st.booleans()) else kept)
    with suppress(CheckpointError):  # what is left may be whole: a file of MindSpore is one tensor after the other
        read_source(file)
