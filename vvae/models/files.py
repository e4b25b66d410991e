"""Loading a model by name or from a file; the state of a stream in a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder, VideoAutoencoderSpec
from vvae.context import StreamState
from vvae.errors import CheckpointError, SpecError
from vvae.spec import nearest

_HERE = Path(__file__).parent


def embedded() -> dict[str, Path]:
    """The models that ship with the package: name -> file."""
    return {file.stem: file for file in sorted(_HERE.glob("*.safetensors"))}


def load(name: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> VideoAutoencoder:
    """A model by the name of one that ships with vvae, or from a file that `save` wrote (or its folder).

    In evaluation mode.

    Weights are float32 where the file holds half precision, unless `dtype` says otherwise.

    Raises:
        CheckpointError: no such model or file, or a file that is not whole; names what is missing or misshapen.
    """
    models = embedded()
    path = _in_folder(models.get(str(name), Path(name)))
    if not path.exists() and path.suffix != ".safetensors":
        raise CheckpointError(f"model {nearest(str(name), models)}; or give the path of a .safetensors file")
    text, tensors = checkpoint.load_weights(path)
    try:
        spec = VideoAutoencoderSpec.from_json(text)
    except SpecError as error:
        raise CheckpointError(f"{path}: its spec cannot be used: {error}") from None
    with torch.device("meta"):
        model = spec.build()
    wanted = model.state_dict()
    checkpoint.match({k: v.shape for k, v in wanted.items()}, {k: v.shape for k, v in tensors.items()}, str(path))
    model.load_state_dict({k: _wide(v) for k, v in tensors.items()}, assign=True)
    return (model if dtype is None else model.to(dtype)).eval()


def _in_folder(path: Path) -> Path:
    """The model's file, where `path` is a folder that holds one."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise CheckpointError(f"{path}: holds {len(files)} .safetensors files; give a folder with one, or the file")
    return files[0]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def save_state(state: StreamState, path: str | os.PathLike[str]) -> None:
    """The state of a stream in one safetensors file, all or nothing."""
    tensors = {f"{layer}/{i}": t.detach() for layer, kept in state.tensors.items() for i, t in enumerate(kept)}
    about = {
        "direction": state.direction,
        "given": state.given,
        "frame": state.frame,
        "ended": state.ended,
        "layers": sorted(state.tensors),
    }
    metadata = {
        "vvae.position": str(state.position),
        "vvae.spec_sha256": state.digest,
        "vvae.stream": json.dumps(about),
    }
    metadata["vvae.sha256"] = _digest(tensors, metadata)
    checkpoint.write_file(path, tensors, metadata)


def load_state(path: str | os.PathLike[str]) -> StreamState:
    """The state of a stream that `save_state` wrote.

    Raises:
        CheckpointError: not such a file, or one that is not whole.
    """
    tensors, metadata = checkpoint.read_file(path)
    try:
        stream, told = metadata["vvae.stream"], metadata.pop("vvae.sha256")
        if told != _digest(tensors, metadata):
            raise CheckpointError(f"{path}: is not what was saved; save the state again")
        about = json.loads(stream)
        return StreamState(
            digest=metadata["vvae.spec_sha256"],
            direction=about["direction"],
            position=int(metadata["vvae.position"]),
            given=about["given"],
            frame=tuple(about["frame"]),
            ended=about["ended"],
            tensors={layer: tuple(_numbered(tensors, layer)) for layer in about["layers"]},
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no state of a stream; give a file that save_state wrote") from error


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Over the tensors and everything that stands beside them."""
    text = json.dumps([checkpoint.digest(tensors), sorted(metadata.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _numbered(tensors: dict[str, Tensor], layer: str) -> list[Tensor]:
    numbers = sorted(int(name.rpartition("/")[2]) for name in tensors if name.rpartition("/")[0] == layer)
    return [tensors[f"{layer}/{i}"] for i in numbers]
