"""The exceptions of vvae. Every message says what was found, where, what is legal and what to do.

VvaeError (a ValueError)
├── SpecError         a spec that cannot work; led by the dotted path of the layer
├── StreamError       a chunk or a state that does not continue the stream
├── CheckpointError   a file that does not hold what was asked for
├── VideoError        a clip that cannot be read or written
└── TileError         a tiling that cannot cover the clip
"""

from __future__ import annotations

from collections.abc import Iterable


class VvaeError(ValueError):
    """The base of all errors that vvae raises on purpose."""


class SpecError(VvaeError):
    """A spec that cannot work. `path` is the dotted path of the layer at fault, outermost name first."""

    def __init__(self, message: str, path: Iterable[str] = ()) -> None:
        self.message = message
        self.path = tuple(path)
        super().__init__(message)

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.message}" if self.path else self.message

    def under(self, name: str) -> SpecError:
        """The same error, seen from the layer that owns `name`."""
        return SpecError(self.message, (name, *self.path))


class StreamError(VvaeError):
    """A chunk or a state that does not continue the stream."""


class CheckpointError(VvaeError):
    """A file that does not hold what was asked for."""


class VideoError(VvaeError):
    """A clip that cannot be read or written."""


class TileError(VvaeError):
    """A tiling that cannot cover the clip."""
