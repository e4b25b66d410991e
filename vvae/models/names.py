"""What a name on the command line can mean: a model that ships, a file, or an architecture by name.

vvae-small                 a model that ships with vvae
FILE.safetensors, FOLDER   a model that `save` wrote
SPEC.json                  a spec without weights
iv_vae:z16_dim64, iv_vae   a variant of an architecture, or the architecture by its defaults; without weights
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vvae import arch
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import CheckpointError, SpecError
from vvae.models.files import embedded, find_file, spec_in
from vvae.spec import nearest


def architectures() -> dict[str, Callable[..., VideoAutoencoderSpec]]:
    """The published architectures: name -> spec function."""
    return {name: getattr(arch, name) for name in arch.__all__}


def variants() -> list[str]:
    """The named variants of all architectures, as ARCHITECTURE:VARIANT."""
    return [f"{name}:{variant}" for name, make in architectures().items() for variant in _variants(make)]


def is_architecture(name: str | os.PathLike[str]) -> bool:
    """Whether this names an architecture (or tries to), not a file."""
    head, _, _ = str(name).partition(":")
    return head in architectures() and not Path(name).exists()


def spec_of(name: str | os.PathLike[str]) -> VideoAutoencoderSpec:
    """The spec behind any name; see the top of this file.

    Raises:
        CheckpointError, SpecError: nothing of that name, or a file without a usable spec.
    """
    if is_architecture(name):
        head, _, variant = str(name).partition(":")
        return architectures()[head](variant or None)
    path = Path(name)
    if path.suffix == ".json":
        return _spec_in_json(path)
    if str(name) not in embedded() and not path.exists() and path.suffix != ".safetensors":
        raise CheckpointError(f"model {nearest(str(name), _all())}; or give a .safetensors file or a spec as .json")
    return spec_in(find_file(name))


def _spec_in_json(path: Path) -> VideoAutoencoderSpec:
    try:
        return VideoAutoencoderSpec.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CheckpointError(f"{path}: cannot be read ({reason}); give a spec as JSON") from None
    except SpecError as error:
        raise CheckpointError(f"{path}: is no spec of a model: {error}") from None


def _variants(make: Callable[..., Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(make, "variants", {})
    return found


def _all() -> dict[str, None]:
    return dict.fromkeys([*embedded(), *variants()])
