"""How a clip passes through layers: whole, or as one step of a stream. State lives in the step, never in a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor, nn

from vvae.errors import StreamError

Kept: TypeAlias = tuple[Tensor, ...]
_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class Context:
    """What a layer may ask for while a clip passes.

    `frames` is how many frames at the pixels pass, as far as they are the clip's own (None: unknown). `content` holds
    features by name. `draw(layer)` is the noise that was drawn for that layer, or None: take the mode.
    `recall(layer)` is what the layer kept of the stream so far, or None: it has seen no frame yet. `keep(layer, ...)`
    replaces that. `last` says that no further frame follows.
    """

    def __init__(
        self,
        *,
        names: Mapping[nn.Module, str] | None = None,
        content: Mapping[str, Tensor] = _NOTHING,
        noise: Mapping[str, Tensor] = _NOTHING,
        last: bool = True,
        frames: int | None = None,
    ) -> None:
        self.names = names or {}
        self.frames = frames
        self.content = content
        self.noise = noise
        self.last = last

    def draw(self, layer: nn.Module) -> Tensor | None:
        return self.noise.get(self.names[layer]) if len(self.noise) else None

    def recall(self, layer: nn.Module) -> Kept | None:
        raise NotImplementedError

    def keep(self, layer: nn.Module, *tensors: Tensor) -> None:
        raise NotImplementedError


class WholeClip(Context):
    """The whole clip at once: nothing came before it and nothing follows."""

    def recall(self, layer: nn.Module) -> Kept | None:
        return None

    def keep(self, layer: nn.Module, *tensors: Tensor) -> None:
        pass


WHOLE_CLIP = WholeClip()


def module_names(root: nn.Module) -> dict[nn.Module, str]:
    """The dotted path of every module below `root`: the keys of noise and of stream state."""
    return {module: name for name, module in root.named_modules()}


class StreamStep(Context):
    """One chunk's passage: reads what the step before left, collects what the next one needs.

    A chunk is, at every level, the lead if it has not passed yet, then whole groups, possibly none. Neither the modules
    nor `before` change. After `close` nothing is collected any more, so that a recomputation in the backward pass
    writes into nothing.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        before: Mapping[str, Kept] | None = None,
        *,
        last: bool = False,
        content: Mapping[str, Tensor] = _NOTHING,
        noise: Mapping[str, Tensor] = _NOTHING,
        frames: int | None = None,
    ) -> None:
        super().__init__(names=names, content=content, noise=noise, last=last, frames=frames)
        self.before = before or {}
        self.after: dict[str, Kept] = {}
        self.open = True

    def recall(self, layer: nn.Module) -> Kept | None:
        return self.before.get(self.names[layer])

    def keep(self, layer: nn.Module, *tensors: Tensor) -> None:
        """Keep copies of `tensors` for the next step; gradients flow through them.

        Raises:
            StreamError: the layer kept something in this step already (one module stands at two places).
        """
        if not self.open:
            return
        path = self.names[layer]
        if path in self.after:
            raise StreamError(f"{path}: runs twice in one step; a layer that keeps state must stand at one place only")
        # a copy: a view would hold the whole chunk in memory
        self.after[path] = tuple(tensor.clone() for tensor in tensors)

    def close(self) -> dict[str, Kept]:
        """End the step: what the next one starts from."""
        self.open = False
        return {**self.before, **self.after}


@dataclass(frozen=True, eq=False)
class StreamState:
    """What one step leaves for the next: tensors by layer path, and how far the stream has come. Immutable.

    `position` counts the frames (encoding) or latent positions (decoding) that went in, `given` what came out.
    `frame` is (batch, height, width) of all chunks; after the last one the stream has `ended`. `digest` is that of
    the spec the state belongs to; `direction` is "encode" or "decode".
    """

    digest: str
    direction: str
    position: int = 0
    given: int = 0
    frame: tuple[int, int, int] = (0, 0, 0)
    ended: bool = False
    tensors: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for kept in self.tensors.values() for t in kept)

    def detach(self) -> StreamState:
        """The same state, cut off from the autograd graph."""
        tensors = {path: tuple(t.detach() for t in kept) for path, kept in self.tensors.items()}
        return replace(self, tensors=tensors)
