"""What a released checkpoint holds: a file of safetensors, torch or MindSpore, or a folder of one or of shards.

A file is read by what it holds, not by the ending of its name. No code in a file is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vvae import checkpoint
from vvae.errors import CheckpointError
from vvae.models.wrappers import LeftOut, bare, without_infixes
from vvae.published.mindspore import is_mindspore, read_ckpt

ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
INDEX = ".index.json"
CONFIG = "config.json"


@dataclass(frozen=True)
class Source:
    """The tensors of a model by their published names, and what else was there.

    prefix: what stood before every name. entry: the entry of a torch file under which they stood. left_out: tensors
    that are no part of the model. rest: other entries of the file. config: of the config.json beside them.
    """

    where: str
    tensors: Mapping[str, Tensor]
    prefix: str = ""
    entry: str = ""
    left_out: tuple[LeftOut, ...] = ()
    rest: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_source(path: str | os.PathLike[str]) -> Source:
    """What a file or folder holds, without the wrappers around it.

    Raises:
        CheckpointError: nothing there that holds tensors, a shard that is missing, a file that is not whole.
    """
    place, where = Path(path), os.fspath(path)
    state = _read_folder(place) if place.is_dir() else _read_shards(place) if _is_index(place) else read_one(place)
    found = bare(state.tensors)
    if not found.tensors:
        raise CheckpointError(f"{where}: holds no tensors of a model; give another file")
    config = _config(place if place.is_dir() else place.parent)
    return Source(where, found.tensors, found.prefix, state.entry, found.left_out, state.rest, config)


def _read_folder(folder: Path) -> checkpoint.State:
    """The tensors of a folder: of the shards that an index lists, or of all its files of one kind."""
    indices = [file for file in sorted(folder.iterdir()) if _is_index(file)]
    if len(indices) > 1:
        raise CheckpointError(f"{folder}: holds {_names(indices)}; give the one that is meant")
    if indices:
        return _read_shards(indices[0])
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.suffix in ENDINGS]
    files = [file for file in files if file.suffix == ".safetensors"] or files
    if not files:
        raise CheckpointError(f"{folder}: the folder holds no {', '.join(ENDINGS)} file; {_elsewhere(folder)}")
    return read_one(files[0]) if len(files) == 1 else _joined(folder, files)


def _elsewhere(folder: Path) -> str:
    """The folders below that hold weights."""
    near = [f for f in sorted(folder.iterdir()) if f.is_dir() and any(g.suffix in ENDINGS for g in f.iterdir())]
    return f"give one of its folders, {_names(near)}" if near else "give another"


def _joined(folder: Path, files: list[Path]) -> checkpoint.State:
    tensors: dict[str, Tensor] = {}
    for file in files:
        held = read_one(file).tensors
        if twice := sorted(held.keys() & tensors.keys()):
            raise CheckpointError(
                f"{folder}: {twice[0]} stands in {file.name} and in another file of the folder; give one file alone"
            )
        tensors.update(held)
    return checkpoint.State(tensors)


def _is_index(file: Path) -> bool:
    return file.name.endswith(tuple(f"{ending}{INDEX}" for ending in ENDINGS))


def _read_shards(index: Path) -> checkpoint.State:
    """The tensors of all shards that an index lists: each of them there, none beside them."""
    places = _json(index).get("weight_map")
    if not (isinstance(places, dict) and places and all(_is_plain(name) for name in places.values())):
        raise CheckpointError(f"{index}: has no weight_map of tensors and files beside it; get the index again")
    shards = [index.parent / name for name in sorted(set(places.values()))]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise CheckpointError(
            f"{index}: {len(missing)} of {len(shards)} files are not there: {_names(missing)}; get them, too"
        )
    state = _joined(index.parent, shards)
    checkpoint.match(dict.fromkeys(places, ()), dict.fromkeys(state.tensors, ()), f"{index}: the files that it lists")
    return state


def _is_plain(name: object) -> bool:
    """Whether this names a file in the same folder."""
    return isinstance(name, str) and name == Path(name).name


def _names(files: list[Path]) -> str:
    shown = ", ".join(file.name for file in files[:4])
    return f"{shown} and {len(files) - 4} more" if len(files) > 4 else shown


def read_one(file: Path) -> checkpoint.State:
    """The tensors of one file, by what it holds."""
    if is_mindspore(file):
        return checkpoint.State(without_infixes(read_ckpt(file), os.fspath(file)))
    if file.suffix != ".safetensors" and not _is_safetensors(file):
        return checkpoint.read_state(file)
    tensors, metadata = checkpoint.read_file(file)
    if "vvae.spec" in metadata:
        raise CheckpointError(f"{file}: is a model of vvae already; use it as it is, or export it with --to published")
    of_mindspore = metadata.get("format") == "ms"
    return checkpoint.State(without_infixes(tensors, os.fspath(file)) if of_mindspore else tensors)


def _is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header, and the header."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(9)
        size = file.stat().st_size
    except OSError:
        return False
    return head[8:] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size


def _config(folder: Path) -> Mapping[str, Any]:
    """What a config.json in the folder says; nothing where there is none."""
    file = folder / CONFIG
    return _json(file) if file.is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is no JSON ({type(error).__name__}); get it again from its source") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, not an object; get it again from its source")
    return content
