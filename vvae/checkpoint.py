"""One file holds a model: its tensors, its spec as JSON and a digest of both, in safetensors form.

Metadata of a checkpoint, all strings:

    vvae.format         version of this layout, now "1"
    vvae.spec           the spec, as JSON
    vvae.sha256         `digest` of the tensors
    vvae.spec_sha256    sha256 of `vvae.spec` in UTF-8

A file is replaced as a whole: whenever a writer dies, its path holds the old file or the new one. A file is read as a
whole: what is returned no longer depends on the file, and a damaged file gives an error instead of tensors.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvae.errors import CheckpointError

FilePath = str | os.PathLike[str]

FORMAT = 1
OLDEST_FORMAT = 1
EXTRAS = "published_extras."
"""Leads the names of tensors that a released checkpoint holds, and the model does not use: kept to export them."""
_LISTED = 4
_WRAPPERS = ("state_dict", "model", "gen_model")
_DEEPEST = 4
_OPTIMIZER = re.compile(r"optimizer|lr_scheduler")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, as hex, over (name, dtype, shape, little-endian bytes) of all tensors in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]).encode() + b"\n")
        total.update(_little_endian(tensor))
    return total.hexdigest()


def _little_endian(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    octets: NDArray[np.uint8] = plain.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "little":
        return octets.data
    width = plain.element_size() // (2 if plain.is_complex() else 1)
    return np.ascontiguousarray(octets.reshape(-1, width)[:, ::-1]).data


def write_file(path: FilePath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write one safetensors file, whole or not at all; the same content always gives the same bytes.

    A link is followed and stays a link. Raises CheckpointError, with the old file (if any) untouched, where the folder
    is missing, the disk is full, or a tensor has no plain values.
    """
    if "__metadata__" in tensors:
        raise CheckpointError(f"{os.fspath(path)}: not written, no tensor can be named __metadata__; rename it")
    header, values = _serialize(path, tensors, metadata)
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise CheckpointError(f"{os.fspath(path)}: no such folder {os.path.dirname(target)}; make the folder first")
    with _explained(path, "not written"):
        _replace(target, [header, values])
    with _explained(path, "written, but a power cut could still undo it"):
        _sync_folder(os.path.dirname(target))


@contextlib.contextmanager
def _explained(path: FilePath, outcome: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{os.fspath(path)}: {outcome} ({reason}); make room or choose another disk") from error


def _serialize(path: FilePath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """The file's header, its metadata in order (safetensors shuffles them from run to run), and the bytes after it."""
    try:
        data = safetensors.torch.save(_separate(tensors), dict(metadata) or None)
    except (safetensors.SafetensorError, RuntimeError, NotImplementedError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{os.fspath(path)}: not written, these tensors have no safetensors form ({_one_line(error)}); "
            "give dense tensors with values, and metadata of strings"
        ) from error
    end = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:end])
    ordered = {
        "__metadata__": dict(sorted(metadata.items())),
        **{k: v for k, v in fields.items() if k != "__metadata__"},
    }
    text = json.dumps(ordered, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as contiguous ones of which no two share memory, which safetensors demands; copies only those."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen:
            plain = plain.clone()
        seen.add(storage.data_ptr())
        separate[name] = plain
    return separate


def _replace(target: str, parts: Iterable[bytes | memoryview]) -> None:
    temporary = os.path.join(os.path.dirname(target), f".vvae-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sync_folder(folder: str) -> None:
    """Make a rename last through a power cut. Windows opens no folders, and needs none of this."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: FilePath) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors, on the CPU and in memory of their own, and the metadata of a safetensors file.

    Raises CheckpointError where the path holds no complete safetensors file.
    """
    where = _existing(path)
    try:
        with safetensors.safe_open(where, framework="pt") as file:
            # without the copy a tensor would be a window on the file, which may change after it was checked
            names = file.keys()
            return {name: file.get_tensor(name).clone() for name in names}, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: not a complete safetensors file ({_one_line(error)}); copy it again from its source, "
            "or read a .pth, .pt or .ckpt file with read_pth"
        ) from error


def _existing(path: FilePath) -> str:
    where = os.fspath(path)
    if os.path.isdir(where):
        raise CheckpointError(f"{where}: is a folder; give the path of a file in it")
    if not os.path.exists(where):
        raise CheckpointError(f"{where}: no such file; check the path")
    if os.path.getsize(where) == 0:
        raise CheckpointError(f"{where}: is empty (0 bytes); copy it again from its source")
    return where


def _one_line(error: BaseException) -> str:
    """The first sentence of an error's text, without a final period."""
    text = " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def save_weights(path: FilePath, state_dict: Mapping[str, Tensor], spec_json: str) -> None:
    """Write a checkpoint: the tensors, the spec and the digests of both, whole or not at all."""
    metadata = {
        "vvae.format": str(FORMAT),
        "vvae.spec": spec_json,
        "vvae.sha256": digest(state_dict),
        "vvae.spec_sha256": _text_digest(spec_json),
    }
    write_file(path, state_dict, metadata)


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def load_weights(path: FilePath) -> tuple[str, dict[str, Tensor]]:
    """(spec as JSON, tensors) of a checkpoint that `save_weights` wrote.

    Raises CheckpointError where the file is none, is of another format, or was changed by so much as one bit.
    """
    tensors, metadata = read_file(path)
    where = os.fspath(path)
    _check_format(metadata, where)
    _check_digest("vvae.spec_sha256", metadata, _text_digest(metadata["vvae.spec"]), where)
    _check_digest("vvae.sha256", metadata, digest(tensors), where)
    return metadata["vvae.spec"], tensors


def _check_format(metadata: Mapping[str, str], where: str) -> None:
    needed = ("vvae.format", "vvae.spec", "vvae.sha256", "vvae.spec_sha256")
    missing = [key for key in needed if key not in metadata]
    if missing:
        raise CheckpointError(
            f"{where}: a safetensors file without {', '.join(missing)}, so not a checkpoint of vvae; "
            "convert a released checkpoint first"
        )
    found = metadata["vvae.format"]
    legal = f"this vvae reads {OLDEST_FORMAT} to {FORMAT}"
    if not (found.isascii() and found.isdigit()):
        raise CheckpointError(f"{where}: vvae.format is {found!r}, which is no number ({legal}); copy the file again")
    if int(found) > FORMAT:
        raise CheckpointError(f"{where}: has format {int(found)}, {legal}; install a newer vvae")
    if int(found) < OLDEST_FORMAT:
        raise CheckpointError(f"{where}: has format {int(found)}, {legal}; save it again with the vvae that wrote it")


def _check_digest(key: str, metadata: Mapping[str, str], found: str, where: str) -> None:
    if metadata[key] != found:
        raise CheckpointError(
            f"{where}: damaged, {key} says {metadata[key][:12]} and the content gives {found[:12]}; "
            "copy the file again from its source"
        )


def match(expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], where: str) -> None:
    """Compare names and shapes of tensors; `where` says whose they are ("weights.safetensors").

    Raises CheckpointError that lists all missing, unexpected and misshapen names (long lists are cut, with a count),
    each missing or unexpected one with the nearest name of the other side.
    """
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = sorted(name for name in expected.keys() & found.keys() if tuple(expected[name]) != tuple(found[name]))
    complaints = [
        _listing("missing", [_near(name, unexpected, "found") for name in missing[:_LISTED]], len(missing)),
        _listing(
            "unexpected",
            [_near(name, missing or expected, "expected") for name in unexpected[:_LISTED]],
            len(unexpected),
        ),
        _listing(
            "of another shape",
            [f"{name} is {_shape(found[name])}, expected {_shape(expected[name])}" for name in misshapen[:_LISTED]],
            len(misshapen),
        ),
    ]
    if missing or unexpected or misshapen:
        text = "; ".join(filter(None, complaints))
        raise CheckpointError(f"{where}: {text}; nothing was loaded, use the spec that these tensors belong to")


def _listing(what: str, shown: Sequence[str], count: int) -> str:
    if not count:
        return ""
    rest = f" and {count - len(shown)} more" if count > len(shown) else ""
    return f"{count} {what}: {', '.join(shown)}{rest}"


def _near(name: str, others: Collection[str], side: str) -> str:
    nearest = difflib.get_close_matches(name, others, n=1)
    return f"{name} (nearest {side}: {nearest[0]})" if nearest else name


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


@dataclass(frozen=True)
class State:
    """What a file of torch holds: named tensors, the entry of the file under which they stood, its other entries."""

    tensors: dict[str, Tensor]
    entry: str = ""
    rest: tuple[str, ...] = ()


def read_pth(path: FilePath) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.ckpt` file of torch, on the CPU; see `read_state`."""
    return read_state(path).tensors


def read_state(path: FilePath) -> State:
    """The state dict in a `.pth`, `.pt` or `.ckpt` file of torch, on the CPU; no code in the file is run.

    It may stand in the file as it is, or under "state_dict", "model" or "gen_model", also one inside the other;
    "ema_state_dict", unless it is empty, comes before these. Entries of an optimizer beside it are left out.

    Raises CheckpointError where the pickle asks for anything but tensors and plain containers (before it gets it), is
    damaged, or holds something else than named tensors.
    """
    where = _existing(path)
    try:
        content = torch.load(where, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise anything
        raise CheckpointError(
            f"{where}: refused, it is no plain torch file of tensors ({_refusal(error)}); get a file that holds only a "
            "state dict, as safetensors if possible"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{where}: holds a {type(content).__name__}, not a dictionary; save a state dict instead")
    return _state(content, where)


def _refusal(error: Exception) -> str:
    asked = re.search(r"GLOBAL (\S+)", str(error))
    return f"its pickle asks for {asked[1]}" if asked else _one_line(error)


def _state(content: dict[Any, Any], where: str) -> State:
    entry: list[str] = []
    rest: list[str] = []
    while (inner := _inner(content, where)) and len(entry) < _DEEPEST:
        rest += [".".join([*entry, str(key)]) for key in content if key != inner]
        content = content[inner]
        entry.append(inner)
    training = [key for key in content if isinstance(key, str) and _OPTIMIZER.match(key)]
    tensors = _only_tensors({key: value for key, value in content.items() if key not in training}, where)
    return State(tensors, ".".join(entry), (*rest, *(".".join([*entry, key]) for key in training)))


def _inner(content: Mapping[Any, Any], where: str) -> str | None:
    """The entry that holds the state dict; None where the content is one."""
    if isinstance(content.get("ema_state_dict"), dict) and content["ema_state_dict"]:
        return "ema_state_dict"
    wrappers = [key for key in _WRAPPERS if isinstance(content.get(key), dict)]
    if len(wrappers) > 1:
        raise CheckpointError(
            f"{where}: holds both {' and '.join(wrappers)}; save the one that is meant in a file alone"
        )
    return wrappers[0] if wrappers else None


def _only_tensors(content: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    foreign = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if foreign or not content:
        listed = _listing("entries are no named tensors", [str(key) for key in foreign[:_LISTED]], len(foreign))
        raise CheckpointError(f"{where}: {listed or 'holds no tensors'}; save only the state dict of the model")
    return {name: tensor.detach() for name, tensor in content.items()}
