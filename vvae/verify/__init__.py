"""Laws that layers and models keep, to point at ours or at your own. `strategies` needs hypothesis."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vvae.verify.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Public names are fetched when they are first used: torch takes seconds, and every run of pytest comes by here."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'vvae.verify' has no attribute {name!r}")
    if find_spec(f"vvae.verify.{name}") is not None:
        return import_module(f"vvae.verify.{name}")
    public = import_module("vvae.verify.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module 'vvae.verify' has no attribute {name!r}")
    value = globals()[name] = getattr(public, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("vvae.verify.public").__all__})
