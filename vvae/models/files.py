"""Loading a model by name or from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.checkpoint import EXTRAS
from vvae.errors import CheckpointError, SpecError
from vvae.spec import nearest
from vvae.state import weights_digest

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
    path = find_file(name)
    text, tensors = checkpoint.load_weights(path)
    return filled(_parsed(text, path), tensors, str(path), dtype)


def filled(
    spec: VideoAutoencoderSpec, tensors: Mapping[str, Tensor], where: str, dtype: torch.dtype | None = None
) -> VideoAutoencoder:
    """The model of a spec with these weights, in evaluation mode; half precision becomes float32 unless `dtype` says.

    Tensors led by `EXTRAS` are kept beside it, as `published_extras`.

    Raises:
        CheckpointError: names what is missing or misshapen; `where` says whose tensors they are.
    """
    with torch.device("meta"):
        model = spec.build()
    own = {key: tensor for key, tensor in tensors.items() if not key.startswith(EXTRAS)}
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    checkpoint.match(wanted, {key: tensor.shape for key, tensor in own.items()}, where)
    model.load_state_dict({key: _wide(tensor) for key, tensor in own.items()}, assign=True)
    model.published_extras = {k.removeprefix(EXTRAS): t for k, t in tensors.items() if k.startswith(EXTRAS)}
    return (model if dtype is None else model.to(dtype)).eval()


def find_file(name: str | os.PathLike[str]) -> Path:
    """The file of a model by name, or in a folder that holds one.

    Raises:
        CheckpointError: no model of that name, or not one file in the folder.
    """
    models = embedded()
    path = models.get(str(name), Path(name))
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise CheckpointError(f"{path}: holds {len(files)} .safetensors files; give a folder with one, or the file")
        return files[0]
    if not path.exists() and path.suffix != ".safetensors":
        raise CheckpointError(f"model {nearest(str(name), models)}; or give the path of a .safetensors file")
    return path


def made_by(weights: str, name: str, latents: Path) -> str:
    """The name of the model that ships with vvae and has these weights (see `weights_digest`).

    Raises:
        CheckpointError: none has; `name` is what the model was called, `latents` the file that asks.
    """
    for known in embedded():
        if weights_digest(load(known)) == weights:
            return known
    raise CheckpointError(
        f"{latents}: was encoded by {name} with weights {weights[:12]}, which do not ship with vvae; "
        "give that model's file with --model"
    )


def spec_in(path: Path) -> VideoAutoencoderSpec:
    """The spec in a model's file.

    Raises:
        CheckpointError: not such a file, or one that is not whole.
    """
    return _parsed(checkpoint.load_weights(path)[0], path)


def _parsed(text: str, path: Path) -> VideoAutoencoderSpec:
    try:
        return VideoAutoencoderSpec.from_json(text)
    except SpecError as error:
        raise CheckpointError(f"{path}: its spec cannot be used: {error}") from None


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
