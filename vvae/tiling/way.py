"""Exact ways through a model: at once, in steps, some clips of a batch at a time, in tiles with all that reaches in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.gaussian import DiagonalGaussian
from vvae.tiling.exact import exact
from vvae.tiling.rules import Direction
from vvae.tiling.units import Frames, Pixels
from vvae.whole_clips import Content, dtype_of, own_content


@dataclass(frozen=True)
class Way:
    """One way through a model in one direction; what it gives is what the whole clip gives.

    groups: so many groups of frames in each step; None: all frames in one call. clips: so many of a batch in one call;
    None: all. tile: pixels of each side of a tile that are kept; None: whole frames.
    """

    groups: int | None = None
    clips: int | None = None
    tile: int | None = None
    exact: ClassVar[bool] = True

    def __str__(self) -> str:
        groups = f"{self.groups} group{'' if self.groups == 1 else 's'} of frames at a time"
        parts = [
            "all frames at once" if self.groups is None else groups,
            *([] if self.clips is None else [f"{self.clips} of the batch at a time"]),
            *([] if self.tile is None else [f"in tiles of {self.tile} pixels and what reaches into them"]),
        ]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """For a record beside the result."""
        return asdict(self)

    def on(self, model: VideoAutoencoder, direction: Direction) -> VideoAutoencoder:
        """The model that takes steps of this way one by one: itself, or its twin in tiles.

        Raises:
            TileError: no tiles of that size give what the whole frame gives.
        """
        return model if self.tile is None else exact(model, Pixels(self.tile), directions=(direction,))

    def encoded(self, model: VideoAutoencoder, x: Tensor) -> DiagonalGaussian:
        """The posterior of clips `b c t h w`, which are held, as `model.encode` gives it. Errors as of `exact`."""
        model = self._all(model, "encode")
        parts = [model.encode(part) for part in x.split(self.clips or len(x))]
        return parts[0] if len(parts) == 1 else _stacked(parts)

    def decoded(
        self,
        model: VideoAutoencoder,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
    ) -> Tensor:
        """The clips of latents, as `model.decode` gives them; laid into one tensor that is made once."""
        model = self._all(model, "decode")
        if self.clips is None:
            return model.decode(latents, frames=frames, size=size, content=content)
        z, fit = model._latents(latents)
        fit = model._cropped(z, fit, model.spec.decoded_frames(z.shape[2]), frames, size)
        content = own_content(latents, content)
        kept: dict[str, Any] = {"frames": fit.frames, "size": (fit.height, fit.width)}
        shape = (len(z), model.spec.pixels.channels, fit.frames, fit.height, fit.width)
        out = z.new_empty(shape, dtype=dtype_of(model.decoder, z.dtype))
        for start in range(0, len(z), self.clips):
            rows = slice(start, start + self.clips)
            out[rows] = model.decode(z[rows], content=_rows(content, rows), **kept)
        return out

    def _all(self, model: VideoAutoencoder, direction: Direction) -> VideoAutoencoder:
        """The model that takes whole clips this way."""
        if (self.tile, self.groups) == (None, None):
            return model
        tile = None if self.tile is None else Pixels(self.tile)
        chunk = None if self.groups is None else Frames(self.groups * model.spec.chunks("encode").group)
        return exact(model, tile, chunk, directions=(direction,))


def _rows(content: Content, rows: slice) -> Content:
    """The content of some clips of a batch."""
    if isinstance(content, Tensor):
        return content[rows]
    if isinstance(content, Mapping):
        return {name: feature[rows] for name, feature in content.items()}
    return content


def _stacked(parts: list[DiagonalGaussian]) -> DiagonalGaussian:
    """Posteriors of clips of the same size as those of one batch."""
    images = [part.content for part in parts if part.content is not None]
    mean, logvar = (torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "logvar"))
    return replace(parts[0], mean=mean, logvar=logvar, content=torch.cat(images) if images else None)
