"""What lies beside a model: the state of a stream in a file, and what its weights are known by."""

from __future__ import annotations

import hashlib
import json
import os

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.context import StreamState
from vvae.errors import CheckpointError


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


def weights_digest(model: VideoAutoencoder) -> str:
    """What the weights of a model are known by: `checkpoint.digest`, half precision taken as float32.

    So a model has the same one whether its file holds half precision or what came of loading that.
    """
    half = (torch.float16, torch.bfloat16)
    return checkpoint.digest({name: t.float() if t.dtype in half else t for name, t in model.state_dict().items()})
