"""Checkpoints: what was written comes back bit for bit, or an error of one line comes and nothing else."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vvae.checkpoint import digest, load_weights, match, read_file, read_pth, save_weights, write_file
from vvae.errors import CheckpointError

SPEC = '{"name": "größer", "width": 8}'


def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=draw),
        "conv.bias": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]),
        "half": torch.randn(5, generator=draw).to(torch.bfloat16),
        "steps": torch.tensor(7),
        "none": torch.empty(0, 3, dtype=torch.float64),
    }


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(path, weights(), SPEC)
    return path


# ---- round trips


def test_checkpoint_returns_names_dtypes_shapes_and_bits(saved: Path) -> None:
    spec, tensors = load_weights(saved)
    assert spec == SPEC
    assert digest(tensors) == digest(weights())
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in weights().items()
    }


def test_same_content_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_file(tmp_path / "a", weights(), {"x": "1", "y": "2", "z": "3"})
    write_file(tmp_path / "b", dict(reversed(weights().items())), {"z": "3", "y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_reader_of_safetensors_reads_the_file(saved: Path) -> None:
    assert digest(safetensors.torch.load_file(saved)) == digest(weights())
    assert int.from_bytes(saved.read_bytes()[:8], "little") % 8 == 0, "tensors are aligned"


def test_views_and_shared_tensors_are_written_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "whole": base,
        "again": base,
        "transposed": base.transpose(0, 2),
        "row": base[1, 1],
        "expanded": torch.ones(1, 1).expand(3, 4),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    write_file(tmp_path / "views", tensors, {})
    assert digest(read_file(tmp_path / "views")[0]) == digest(tensors)


def test_read_tensors_do_not_follow_the_file(saved: Path) -> None:
    _, tensors = load_weights(saved)
    with saved.open("r+b") as file:
        file.write(b"\xff" * saved.stat().st_size)
    assert digest(tensors) == digest(weights())


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link = tmp_path / "latest"
    link.symlink_to("store/model")
    for spec in ("{}", SPEC):
        save_weights(link, weights(), spec)
        assert link.is_symlink()
        assert load_weights(tmp_path / "store" / "model")[0] == spec
    assert os.listdir(tmp_path / "store") == ["model"]


def test_the_file_can_be_read_by_whom_the_umask_allows(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o666 & ~umask


# ---- digest


@given(st.binary(min_size=4, max_size=40).filter(lambda data: len(data) % 4 == 0), st.data())
def test_digest_sees_every_bit(data: bytes, more: st.DataObject) -> None:
    bit = more.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    one, other = (torch.frombuffer(bytearray(raw), dtype=torch.float32) for raw in (data, flipped))
    assert digest({"x": one}) != digest({"x": other})


def test_digest_sees_names_dtypes_and_shapes_but_no_order() -> None:
    zeros = torch.zeros(6)
    others = [
        {"x": zeros, "y": zeros},
        {"x": zeros.reshape(2, 3), "y": zeros},
        {"x": zeros.to(torch.int32), "y": zeros},
        {"x": zeros, "z": zeros},
        {"xy": zeros},
        {"x": torch.zeros(12)},
        {},
    ]
    assert len({digest(tensors) for tensors in others}) == len(others)
    assert digest({"y": zeros, "x": zeros}) == digest(others[0])


def test_digest_is_sha256_over_a_line_and_the_bytes_of_each_tensor() -> None:
    # a digest that changes with a release would refuse all files written before
    content = b'["a", "bool", [1, 1]]\n' + b"\x01" + b'["b", "float32", [2]]\n' + struct.pack("<2f", 1.5, -2.0)
    tensors = {"b": torch.tensor([1.5, -2.0]), "a": torch.tensor([[True]])}
    assert digest(tensors) == hashlib.sha256(content).hexdigest()


# ---- damage


def test_one_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "small"
    save_weights(path, {"w": torch.tensor([1.5, 2.5])}, '{"width": 8}')
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert str(path) in refusal(load_weights, path), f"byte {place}"


def test_a_file_cut_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for size in [*range(0, 24), *range(24, len(content), 37), len(content) - 1]:
        saved.write_bytes(content[:size])
        assert str(saved) in refusal(load_weights, saved)
    saved.write_bytes(content + b"\0")
    refusal(load_weights, saved)


@pytest.mark.parametrize("read", [read_file, load_weights, read_pth])
def test_what_is_no_file_is_named(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("weights " * 40)
    for name, word in [("missing", "no such file"), (".", "folder"), ("empty", "empty"), ("text", "not|no plain")]:
        message = refusal(read, tmp_path / name)
        assert str(tmp_path / name) in message
        assert any(part in message for part in word.split("|"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vvae.format": "2"}, ["format 2", "1 to 1", "newer vvae"]),
        ({"vvae.format": "0"}, ["format 0", "1 to 1"]),
        ({"vvae.format": "one"}, ["'one'"]),
        ({"vvae.sha256": "0" * 64}, ["vvae.sha256", "damaged"]),
        ({"vvae.spec": "{}"}, ["vvae.spec_sha256", "damaged"]),
        ({"vvae.format": None}, ["without vvae.format"]),
        ({"vvae.spec": None, "vvae.sha256": None}, ["without vvae.spec, vvae.sha256"]),
    ],
)
def test_wrong_metadata_is_refused(saved: Path, change: dict[str, str | None], words: list[str]) -> None:
    tensors, metadata = read_file(saved)
    write_file(saved, tensors, {k: v for k, v in {**metadata, **change}.items() if v is not None})
    message = refusal(load_weights, saved)
    assert all(word in message for word in words)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}])
def test_a_file_without_tensors_is_written_and_read(tmp_path: Path, metadata: dict[str, str]) -> None:
    write_file(tmp_path / "none.safetensors", {}, metadata)
    assert read_file(tmp_path / "none.safetensors") == ({}, metadata)


def test_what_cannot_be_written_leaves_the_old_file(saved: Path, tmp_path: Path) -> None:
    ones = torch.ones(2)
    assert "no such folder" in refusal(write_file, tmp_path / "no" / "file", {"x": ones}, {})
    assert "no safetensors form" in refusal(write_file, saved, {"x": ones.to("meta")}, {})
    assert "no safetensors form" in refusal(write_file, saved, {"x": ones.to_sparse()}, {})
    assert "no safetensors form" in refusal(write_file, saved, {"x": ones.to(torch.complex128)}, {})
    assert "no safetensors form" in refusal(write_file, saved, {"x": ones}, {"count": 3})
    assert "__metadata__" in refusal(write_file, saved, {"__metadata__": ones}, {})
    (tmp_path / "folder").mkdir()
    assert "not written" in refusal(write_file, tmp_path / "folder", {"x": ones}, {})
    assert load_weights(saved)[0] == SPEC
    assert sorted(os.listdir(tmp_path)) == ["folder", "model.safetensors"]


# ---- names and shapes


def test_match_accepts_what_is_equal() -> None:
    match({"a": (1, 2), "b": []}, {"b": torch.Size([]), "a": [1, 2]}, "here")


def test_match_names_all_kinds_at_once_with_the_nearest_names() -> None:
    expected = {"enc.conv.weight": (4, 3), "enc.conv.bias": (4,), "dec.norm.weight": (8,)}
    found = {"enc.conv.weights": (4, 3), "enc.conv.bias": (5,), "dec.norm.weight": ()}
    message = refusal(match, expected, found, "model.pth")
    assert message.startswith("model.pth: 1 missing: enc.conv.weight (nearest found: enc.conv.weights)")
    assert "1 unexpected: enc.conv.weights (nearest expected: enc.conv.weight)" in message
    assert "2 of another shape: dec.norm.weight is a scalar, expected 8, enc.conv.bias is 5, expected 4" in message


def test_match_cuts_long_lists_with_a_count() -> None:
    message = refusal(match, {f"layer{i}": (1,) for i in range(300)}, {"zzz": (1,)}, "here")
    assert "300 missing: layer0, layer1, layer10, layer100 and 296 more" in message
    assert len(message) < 300


# ---- torch's own files


class Runs:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "model.pth", tmp_path / "it_ran"
    content = {"weight": torch.ones(2), "x": Runs(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert f"{os.mkdir.__module__}.mkdir" in refusal(read_pth, path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Runs(trace)))
    assert trace.exists(), "this pickle runs code where it is allowed to"


@pytest.mark.parametrize(
    "wrap", [lambda x: x, OrderedDict, lambda x: {"state_dict": x}, lambda x: {"epoch": 3, "model": x}]
)
def test_pth_is_read_bare_or_wrapped(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(weights()), tmp_path / "model.ckpt")
    assert digest(read_pth(tmp_path / "model.ckpt")) == digest(weights())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([torch.ones(1)], "list"),
        ({}, "no tensors"),
        ({"weight": torch.ones(1), "epoch": 3}, "1 entries are no named tensors: epoch"),
        ({0: torch.ones(1)}, "0"),
        ({"model": {"w": torch.ones(1)}, "state_dict": {"w": torch.ones(1)}}, "state_dict and model"),
        ({"ema_state_dict": {}}, "1 entries are no named tensors: ema_state_dict"),
    ],
)
def test_pth_of_something_else_is_refused(tmp_path: Path, content: Any, word: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert word in refusal(read_pth, tmp_path / "model.pt")


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_error_and_no_tensors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    refusal(read_file, path)
