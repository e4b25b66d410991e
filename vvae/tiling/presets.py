"""The tiling rules of the releases by name: `preset("od_vae.v1_2")`. `rules()` has all of them.

The name of an architecture alone is the first of its rules, as `tae` is `tae.code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError, TileError
from vvae.gaussian import DiagonalGaussian
from vvae.spec import nearest
from vvae.tiling.model import PublishedTiling, compression, published
from vvae.tiling.rules import Direction, TilingRule

ARCHITECTURES = ("image_vae", "od_vae", "open_sora", "reducio", "tae", "wan")


def rules() -> dict[str, TilingRule]:
    """All presets by name."""
    return {f"{name}.{release}": rule for name in ARCHITECTURES for release, rule in _of(name).items()}


def preset(name: str) -> TilingRule:
    """The rule of that name.

    Raises:
        TileError: unknown; names those that look like it.
    """
    if name in ARCHITECTURES:
        return next(iter(_of(name).values()))
    known = rules()
    if name not in known:
        raise TileError(f"preset {nearest(name, known)}")
    return known[name]


def fitting(spec: VideoAutoencoderSpec) -> tuple[str, ...]:
    """The presets under which a model of that spec joins only what belongs together."""
    return tuple(name for name, rule in rules().items() if not faults(rule, spec))


def faults(rule: TilingRule, spec: VideoAutoencoderSpec) -> list[str]:
    """What a rule would join wrongly for a model of that spec, in a phrase each."""
    try:
        by = compression(spec, in_time=rule.in_time)
    except SpecError as error:  # a model that takes one length alone
        return [str(error)]
    return rule.faults(by)


def _of(name: str) -> Mapping[str, TilingRule]:
    # architectures stand above tiling, since their rules are data of theirs
    found: Mapping[str, TilingRule] = getattr(import_module(f"vvae.arch.{name}"), name).tiling
    return found


@dataclass(frozen=True)
class PresetWay:
    """The way through a model under the rule of that name: another function than the whole clip, all frames at hand."""

    name: str
    groups: ClassVar[None] = None
    exact: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"under the rule {self.name}, which is not exact"

    def to_dict(self) -> dict[str, Any]:
        """For a record beside the result."""
        return {"preset": self.name, "rule": preset(self.name).model_dump(mode="json")}

    def on(self, model: VideoAutoencoder, direction: Direction) -> PublishedTiling:
        """The model under the rule.

        Raises:
            TileError: the rule would join what is unlike for such a model.
        """
        return published(model, preset(self.name))

    def encoded(self, model: VideoAutoencoder, x: Tensor) -> DiagonalGaussian:
        """The posterior of clips `b c t h w`."""
        return self.on(model, "encode").encode(x)

    def decoded(
        self,
        model: VideoAutoencoder,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Any = "own",
    ) -> Tensor:
        """The clips of latents."""
        return self.on(model, "decode").decode(latents, frames=frames, size=size, content=content)
