"""What is checked, from what a user says: a name, a file, `package.module:object`, or the object itself.

wan, iv_vae:z16_dim64      a published architecture or a variant: in small widths, with random weights
vvae-small                 a model that ships with vvae
FILE, FOLDER               a checkpoint of vvae, or a released one
SPEC.json                  the spec of a model, or of a layer
package.module:object      somebody else's: a module, what makes one when it is called, a function of clips, a spec
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors
import torch
from torch import nn

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import CheckpointError, SpecError, VvaeError
from vvae.models.files import embedded, find_file, load
from vvae.models.names import architectures, is_architecture, spec_of, variants
from vvae.models.released import as_published, load_published
from vvae.models.sources import ENDINGS
from vvae.spec import LayerSpec, layer_from_json, nearest
from vvae.verify.measure import TargetError
from vvae.verify.small import RELEASED, SMALL
from vvae.verify.subject import Claims, Subject, claimed_subject, layer_subject, model_subject


class Target(NamedTuple):
    """What a name stands for; `note` says what was chosen for it, `claims` what was said of it."""

    subject: Subject
    note: str = ""
    claims: Claims | None = None


@dataclass(frozen=True)
class Said:
    """What a user says of a target; None: nothing. See `Claims`."""

    input: Sequence[int] | None = None
    lead: int | None = None
    group: int | None = None
    causal: bool | Literal["encoder", "decoder"] | None = None
    look_ahead: int | None = None

    def claims(self, name: str) -> Claims:
        """The claims. Raises VvaeError where there is no input, or one that cannot be."""
        if self.input is None:
            told = "say what it takes with --input b,c,t,h,w (b,c,h,w for images; in Python input=)"
            raise VvaeError(f"{name}: is no model's spec, so {told}")
        try:
            return Claims(
                tuple(self.input),
                lead=self.lead or 0,
                group=1 if self.group is None else self.group,
                causal=self.look_ahead is not None if self.causal is None else self.causal,
                look_ahead=self.look_ahead or 0,
            )
        except TargetError as error:
            raise VvaeError(str(error)) from None

    def refuse(self, name: str) -> None:
        """Raises VvaeError where something is said of what has a spec."""
        if said := [told.replace("_", "") for told, value in vars(self).items() if value is not None]:
            raise VvaeError(f"{name}: its spec says what holds of it; leave out --{', --'.join(said)}")


def target(
    what: object,
    *,
    input: Sequence[int] | None = None,
    lead: int | None = None,
    group: int | None = None,
    causal: bool | Literal["encoder", "decoder"] | None = None,
    look_ahead: int | None = None,
    full_width: bool = False,
) -> Subject:
    """What laws are pointed at, from a name (see the top of this file) or from an object, which is left as it is.

    What has no spec needs claims: `input` is the shape `b c t h w` of a clip that it takes (`b c h w`: an image); the
    others are those of `Claims`, `look_ahead` alone means causal up to so many groups. A layer's spec takes channels,
    lead and group from them. An architecture is built in small widths, or as published with `full_width`. Random
    weights are the same every time. For names of objects the current folder can be imported, and stays so.

    Raises:
        TargetError: it cannot be made, or is no function of clips.
        VvaeError: nothing is called so, claims are missing, or nothing needs them.
    """
    return resolve(what, Said(input, lead, group, causal, look_ahead), full_width).subject


def resolve(what: object, said: Said, full_width: bool = False) -> Target:
    """As `target`, with what was chosen."""
    if isinstance(what, str) and is_architecture(what):
        said.refuse(what)
        return _architecture(what, full_width)
    if full_width:
        raise VvaeError(f"{what}: is no architecture by name; leave out --full-width")
    found = _named(what, said) if isinstance(what, str) else _object(what, type(what).__name__, said)
    return found._replace(subject=replace(found.subject, name=what)) if isinstance(what, str) else found


# --------------------------------------------------------------------------- names and files


def _architecture(name: str, full_width: bool) -> Target:
    head, _, variant = name.partition(":")
    make = partial(architectures()[head], variant or None)
    fields = {} if full_width else SMALL.get(head, {})
    released = _built(make(**RELEASED[head])) if head in RELEASED else None
    subject = model_subject(_built(make(**fields)), released)
    note = "as published" if full_width else "in small widths; --full-width checks it as published"
    return Target(replace(subject, name=name), f"{note}; random weights")


def _built(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
    with _seeded():
        return spec.build()


@contextmanager
def _seeded() -> Iterator[None]:
    """Draws are the same every time, and those of others are as if there had been none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _named(name: str, said: Said) -> Target:
    path = Path(name)
    if ".py" in (path.suffix, Path(name.partition(":")[0]).suffix):
        raise VvaeError(f"{name}: is Python; say what stands in it, as {path.name.partition('.py')[0]}:NAME")
    if path.suffix == ".json":
        return _spec_file(path, said)
    if name in embedded() or path.exists() or path.suffix in ENDINGS:
        said.refuse(name)
        return _checkpoint(name)
    if ":" in name:
        return _imported(name, said)
    known = dict.fromkeys([*embedded(), *architectures(), *variants()])
    raise VvaeError(f"target {nearest(name, known)}; or give a spec, a checkpoint, or package.module:object")


def _spec_file(path: Path, said: Said) -> Target:
    try:
        layer = layer_from_json(path.read_bytes())
    except (OSError, SpecError):
        return _object(spec_of(path), str(path), said)
    return _object(layer, str(path), said)


def _checkpoint(name: str) -> Target:
    if name not in embedded() and Path(name).exists() and not _is_own(Path(name)):
        try:
            model = load_published(None, name)
        except CheckpointError as error:
            told = "; answer with vvae convert --choose, and verify what it writes" if ": choose " in str(error) else ""
            raise CheckpointError(f"{error}{told}") from None
        return Target(model_subject(model, copy.deepcopy(model)), f"a released checkpoint of {model.spec.name}")
    model = load(name)
    try:
        as_published(find_file(name))
    except CheckpointError:
        return Target(model_subject(model))
    return Target(model_subject(model, copy.deepcopy(model)))


def _is_own(path: Path) -> bool:
    """Whether vvae wrote it, as far as the file says."""
    try:
        with safetensors.safe_open(find_file(path), framework="pt") as file:
            return "vvae.format" in (file.metadata() or {})
    except (CheckpointError, safetensors.SafetensorError, OSError):
        return False


# --------------------------------------------------------------------------- objects


def _imported(name: str, said: Said) -> Target:
    with _seeded():
        return _object(imported(*name.split(":", 1)), name, said)


def imported(module: str, path: str) -> object:
    """What stands at a dotted path in a module, which is imported from the current folder or from elsewhere.

    Raises:
        VvaeError: there is no such thing.
        TargetError: the module cannot be imported.
    """
    name = f"{module}:{path}"
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise VvaeError(
            f"target {name!r} is no package.module:object; write it as net:Net for what net.py here defines"
        )
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        return reduce(getattr, path.split("."), import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or f"{module}.".startswith(f"{error.name}."):
            raise VvaeError(
                f"target {name!r}: {error}, from {here}; nor is {nearest(module, architectures())}"
            ) from None
        raise TargetError(f"{module} cannot be imported: {_told(error)}") from error
    except AttributeError as error:
        if (found := sys.modules.get(module)) is None:
            raise TargetError(f"{module} cannot be imported: {_told(error)}") from error
        raise VvaeError(f"target {name!r}: in {module} {nearest(path, dict.fromkeys(_public(found)))}") from None
    except (Exception, SystemExit) as error:
        raise TargetError(f"{module} cannot be imported: {_told(error)}") from error


def _public(module: object) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300].rstrip(": ")


def _object(what: object, name: str, said: Said) -> Target:
    """A subject of an object, or of what it makes when it is called without arguments."""
    if _makes(what):
        what = _made(what, name)  # type: ignore[arg-type]
    if isinstance(what, VideoAutoencoderSpec | VideoAutoencoder):
        said.refuse(name)
        return Target(model_subject(_built(what) if isinstance(what, VideoAutoencoderSpec) else copy.deepcopy(what)))
    if inspect.isclass(what) or not (callable(what) or isinstance(what, LayerSpec | nn.Module)):
        raise VvaeError(f"{name}: is {_kind(what)}; give a module, what makes one without arguments, or a function")
    if not isinstance(what, nn.Module) and hasattr(what, "encode") and hasattr(what, "decode"):
        raise VvaeError(f"{name}: has encode and decode and is {_kind(what)}; give an nn.Module")
    if isinstance(what, LayerSpec):
        replace(said, input=None, lead=None, group=None).refuse(name)
        claims = said.claims(name)
        with _seeded():
            return Target(layer_subject(what, claims.signal), claims=claims)
    claims = said.claims(name)
    return Target(_claimed(what, claims, name), claims=claims)


def _kind(what: object) -> str:
    return f"a class that needs arguments: {what.__name__}" if isinstance(what, type) else f"a {type(what).__name__}"


def _makes(what: object) -> bool:
    """Whether it is a class or a function that can be called without arguments."""
    if isinstance(what, nn.Module | LayerSpec | VideoAutoencoderSpec) or not callable(what):
        return False
    try:
        inspect.signature(what).bind()
    except (TypeError, ValueError):  # arguments are missing; or it is built in and says nothing
        return False
    return True


def _made(make: Callable[[], object], name: str) -> object:
    try:
        with _seeded():
            made = make()
    except (Exception, SystemExit) as error:
        raise TargetError(f"{name} cannot be made: {_told(error)}") from error
    if not callable(made) and not isinstance(made, LayerSpec | VideoAutoencoderSpec | nn.Module):
        raise TargetError(
            f"{name} gives a {type(made).__name__} when it is called; it must give a module, or a function"
        )
    return made


def _claimed(what: Any, claims: Claims, name: str) -> Subject:
    try:
        return claimed_subject(copy.deepcopy(what), claims, name)
    except VvaeError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(f"{name} cannot be made ready: {_told(error)}") from error
