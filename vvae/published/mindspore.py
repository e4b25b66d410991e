"""Checkpoints that MindSpore wrote (.ckpt), read without MindSpore.

The file is one protobuf message without a header, read here by its wire format:

    Checkpoint   1: Value, once for each tensor, in order     Value   1: tag (the name)   2: tensor
    tensor       1: dims (int64 each)   2: type ("Float32")   3: content (little-endian, last axis fastest)

A tensor above 512 MiB is cut: Values of the same tag follow each other, each with all dims and a part of the content.
Behind the message may stand the 7 bytes `crc_num` and a big-endian number of 10 bytes, the CRC-32 of all before them.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vvae.errors import CheckpointError
from vvae.spec import nearest

DTYPES = {
    "Bool": torch.bool,
    "Int8": torch.int8,
    "UInt8": torch.uint8,
    "Int16": torch.int16,
    "UInt16": torch.uint16,
    "Int32": torch.int32,
    "UInt32": torch.uint32,
    "Int64": torch.int64,
    "UInt64": torch.uint64,
    "Float16": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float32": torch.float32,
    "Float64": torch.float64,
}

_FOOTER, _FOOTER_BYTES = b"crc_num", 17
_HEAD = 4096  # more than the first name and all lengths before it
_MAP = 3


class _DamagedError(Exception):
    """What is wrong with the bytes."""


@dataclass
class _Stored:
    """One tensor as stored: its content in pieces."""

    dims: tuple[int, ...]
    type: str
    content: list[memoryview] = field(default_factory=list)

    def tensor(self) -> Tensor:
        if self.type not in DTYPES:
            raise _DamagedError(f"type {nearest(self.type, DTYPES)}")
        octets = bytearray().join(self.content)
        dtype = DTYPES[self.type]
        # a scalar has no dims, or [0] in older files
        shape = () if self.dims == (0,) and octets else self.dims
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(octets):
            raise _DamagedError(f"{len(octets)} bytes are no {self.type} of shape {list(self.dims)}")
        return torch.frombuffer(octets, dtype=dtype).reshape(shape) if octets else torch.empty(shape, dtype=dtype)


def is_mindspore(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as a checkpoint of MindSpore does; torch's own .ckpt files begin otherwise."""
    try:
        with open(path, "rb") as file:
            head = memoryview(file.read(_HEAD))
        inner = head[_varint(head, 1)[1] :]
        size, start = _varint(inner, 1)
        name, after = bytes(inner[start : start + size]).decode(), bytes(inner[start + size : start + size + 1])
    except (OSError, _DamagedError, UnicodeDecodeError):
        return False
    # field 1 of the whole, field 1 of the first value (a name), then its field 2
    return bytes(head[:1]) == bytes(inner[:1]) == b"\x0a" and name.isprintable() and after == b"\x12"


def read_ckpt(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a MindSpore checkpoint by their stored names, in order, with their stored types, on the CPU.

    Raises:
        CheckpointError: no such file, not whole, changed since it was written, or not a checkpoint of MindSpore.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = memoryview(file.read())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{where}: not read ({reason}); give the path of a .ckpt file") from error
    try:
        return {name: _named(name, stored) for name, stored in _stored(_message(data)).items()}
    except _DamagedError as damage:
        raise CheckpointError(
            f"{where}: not a complete checkpoint of MindSpore ({damage}); copy it again from its source"
        ) from None


def _message(data: memoryview) -> memoryview:
    """The message without its footer, if any, which must agree with it."""
    footer = bytes(data[-_FOOTER_BYTES:])
    if not footer.startswith(_FOOTER):
        return data
    message, said = data[:-_FOOTER_BYTES], int.from_bytes(footer[len(_FOOTER) :], "big")
    if (found := zlib.crc32(message)) != said:
        raise _DamagedError(f"its CRC-32 is {found}, but {said} was written behind it")
    return message


def _stored(message: memoryview) -> dict[str, _Stored]:
    tensors: dict[str, _Stored] = {}
    last = ""
    for number, value in _fields(message):
        if number != 1 or isinstance(value, int):
            raise _DamagedError(f"field {number} where a tensor should stand")
        name, stored = _value(value)
        if name not in tensors:
            tensors[name] = stored
        elif name == last and (stored.dims, stored.type) == (tensors[name].dims, tensors[name].type):
            tensors[name].content += stored.content
        else:
            raise _DamagedError(f"{name} stands in it twice")
        last = name
    if not tensors:
        raise _DamagedError("it holds no tensors")
    return tensors


def _value(data: memoryview) -> tuple[str, _Stored]:
    name, stored = None, None
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            stored = _tensor(value)
        elif number == _MAP:
            raise _DamagedError(f"{name} is a hash table, not a tensor")
    if name is None:
        raise _DamagedError("a tensor in it has no name")
    if stored is None:
        raise _DamagedError(f"{name} has no tensor")
    return name, stored


def _tensor(data: int | memoryview) -> _Stored:
    dims: list[int] = []
    kind, content = "", memoryview(b"")
    for number, value in _fields(_bytes(data)):
        if number == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == 2:
            kind = _text(value)
        elif number == 3:
            content = _bytes(value)
    return _Stored(tuple(_signed(size) for size in dims), kind, [content])


def _named(name: str, stored: _Stored) -> Tensor:
    try:
        return stored.tensor()
    except _DamagedError as damage:
        raise _DamagedError(f"{name}: {damage}") from None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: a number, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise _DamagedError(f"byte {at} begins nothing that is known")
        size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + size > len(data):
            raise _DamagedError(f"it ends {at + size - len(data)} bytes too early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = 0
    for count, octet in enumerate(data[at : at + 10]):
        value |= (octet & 0x7F) << 7 * count
        if octet < 0x80:
            return value, at + count + 1
    raise _DamagedError("a number in it has no end")


def _packed(data: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _DamagedError("a number where bytes should stand")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_bytes(value)).decode()
    except UnicodeDecodeError:
        raise _DamagedError("a name in it is no text") from None
