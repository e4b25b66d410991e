"""Checkpoints of MindSpore: what is whole is read, all else is refused in one line."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import parity
from vvae import CheckpointError
from vvae.published.mindspore import is_mindspore, read_ckpt


def number(value: int) -> bytes:
    """As protobuf writes it: 7 bits a byte, the lowest first."""
    value &= (1 << 64) - 1
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(high) if high else bytes([low])


def field(index: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return number(index << 3) + number(value)
    return number(index << 3 | 2) + number(len(value)) + value


def stored(name: str, dims: list[int], kind: str, content: bytes, packed: bool = False) -> bytes:
    sizes = field(1, b"".join(map(number, dims))) if packed else b"".join(field(1, size) for size in dims)
    tensor = sizes + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, name.encode()) + field(2, tensor))


def footer(message: bytes) -> bytes:
    return b"crc_num" + zlib.crc32(message).to_bytes(10, "big")


FLOATS = struct.pack("<6f", *range(6))
WHOLE = stored("a.weight", [2, 3], "Float32", FLOATS) + stored("b", [], "Int64", struct.pack("<q", -5))


def file(folder: Path, content: bytes) -> Path:
    path = folder / "x.ckpt"
    path.write_bytes(content)
    return path


def test_tensors_come_with_names_order_types_and_shapes(tmp_path: Path) -> None:
    path = file(tmp_path, WHOLE + footer(WHOLE))
    assert is_mindspore(path)
    found = read_ckpt(path)
    assert list(found) == ["a.weight", "b"]
    assert torch.equal(found["a.weight"], torch.arange(6.0).view(2, 3))
    assert found["b"].shape == ()
    assert found["b"].item() == -5
    path.write_bytes(b"")  # what was read does not depend on the file
    assert found["a.weight"].sum() == 15


def test_dims_may_be_packed_and_a_scalar_may_have_dims_of_0(tmp_path: Path) -> None:
    message = stored("a", [3, 2], "Float32", FLOATS, packed=True) + stored("s", [0], "Float32", FLOATS[4:8])
    found = read_ckpt(file(tmp_path, message + stored("none", [0], "Float32", b"")))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (3, 2), "s": (), "none": (0,)}


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    unknown = field(9, 7) + field(10, b"text") + number(11 << 3 | 1) + bytes(8) + number(12 << 3 | 5) + bytes(4)
    tensor = field(1, 6) + field(2, b"Float32") + field(3, FLOATS)
    path = file(tmp_path, field(1, field(1, b"a") + field(2, tensor + unknown) + unknown))
    assert torch.equal(read_ckpt(path)["a"], torch.arange(6.0))


def test_pieces_of_a_tensor_are_joined_in_order(tmp_path: Path) -> None:
    pieces = [stored("a", [6], "Float32", FLOATS[start : start + 8]) for start in (0, 8, 16)]
    assert torch.equal(read_ckpt(file(tmp_path, b"".join(pieces)))["a"], torch.arange(6.0))


TENSOR = field(2, field(1, 1))
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it holds no tensors"),
    "cut": (WHOLE[:-3], "it ends 3 bytes too early"),
    "cut_in_a_length": (WHOLE + b"\x0a\x80", "a number in it has no end"),
    "number_without_end": (b"\x0a" + b"\xff" * 12, "a number in it has no end"),
    "footer": (WHOLE[:30] + b"\x7f" + WHOLE[31:] + footer(WHOLE), "CRC-32"),
    "torch": (b"PK\x03\x04" + bytes(100), "holds no|begins nothing|too early|a tensor should stand"),
    "text": (b"hello, this is no checkpoint", "."),
    "type": (stored("a", [6], "Float31", FLOATS), "a: type 'Float31' is unknown; near it: Float32"),
    "letters": (stored("a", [6], "str", FLOATS), "a: type 'str' is unknown"),
    "size": (stored("a", [7], "Float32", FLOATS), r"a: 24 bytes are no Float32 of shape \[7\]"),
    "negative": (stored("a", [-6], "Float32", FLOATS), r"a: 24 bytes are no Float32 of shape \[-6\]"),
    "huge": (stored("a", [1 << 62, 1 << 62], "Float32", FLOATS), "24 bytes are no Float32"),
    "piece_missing": (stored("a", [6], "Float32", FLOATS[:8]) * 2, "16 bytes are no Float32"),
    "pieces_apart": (stored("a", [6], "Float32", FLOATS) + WHOLE + stored("a", [6], "Float32", FLOATS), "a stands"),
    "pieces_unlike": (stored("a", [6], "Float32", FLOATS[:8]) + stored("a", [4], "Float32", FLOATS[8:]), "a stands"),
    "no_name": (field(1, TENSOR), "a tensor in it has no name"),
    "no_tensor": (field(1, field(1, b"a")), "a has no tensor"),
    "table": (field(1, field(1, b"a") + field(3, b"")), "a is a hash table"),
    "name_of_no_letters": (field(1, field(1, b"\xff\xfe") + TENSOR), "a name in it is no text"),
    "number_for_a_tensor": (field(1, field(1, b"a") + field(2, 5)), "a number where bytes should stand"),
    "number_for_all": (field(1, 5), "field 1 where a tensor should stand"),
    "other_field": (field(4, b"x"), "field 4 where a tensor should stand"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_whole_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, told = WRONG[name]
    with pytest.raises(CheckpointError, match=told) as caught:
        read_ckpt(file(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert str(caught.value).endswith("copy it again from its source")


def test_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="not read"):
            read_ckpt(path)
        assert not is_mindspore(path)


def test_files_of_torch_and_others_are_told_from_it(tmp_path: Path) -> None:
    for legacy in (True, False):
        torch.save({"a": torch.zeros(3)}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not legacy)
        assert not is_mindspore(tmp_path / "x.ckpt")
    for content in (b"", b"\n", b"\n\n\n\n", b"text\nand more", b"\x0a" * 40, bytes(40), b"{}", WHOLE[1:]):
        assert not is_mindspore(file(tmp_path, content))
    assert is_mindspore(file(tmp_path, WHOLE[:200]))


@settings(max_examples=200)
@given(st.data())
def test_changed_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    path = file(tmp_path_factory.mktemp("changed"), cut)
    is_mindspore(path)
    with suppress(CheckpointError):
        assert read_ckpt(path)


def test_files_of_mindspore_itself_are_known() -> None:
    if not parity.FOLDER.exists():
        pytest.skip("no parity files")
    for name in ("mindspore_format.ckpt", "mindspore_dtypes.ckpt"):
        assert is_mindspore(parity.stored_file("tae", name))
