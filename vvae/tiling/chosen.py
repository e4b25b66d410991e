"""Plans that a user chooses: tiles and chunks of a size, or the rule of a release. `plan` chooses by memory."""

from __future__ import annotations

from collections.abc import Sequence

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import TileError
from vvae.tiling.exact import exact, groups_of
from vvae.tiling.plan import BOTH, Plan, usual_plan
from vvae.tiling.presets import PresetWay, faults, fitting, preset
from vvae.tiling.rules import Direction
from vvae.tiling.units import Frames, Pixels, checked
from vvae.tiling.way import Way


def exact_plan(
    model: VideoAutoencoder,
    tile: Pixels | None = None,
    chunk: Frames | None = None,
    directions: Sequence[Direction] = BOTH,
) -> Plan:
    """Tiles of which so many pixels of each side are kept, and steps of a stream of so many frames; exact.

    Raises:
        TileError: as `exact`; and chunks of a model that cannot stream. Names the presets that fit.
    """
    ways: list[tuple[Direction, Way]] = []
    size = None if tile is None else checked(tile, Pixels, "tile")
    if tile is not None:
        _check(model, tile, directions)
    for direction in directions:
        if chunk is not None and (limit := model.spec.stream_limit(direction)):
            raise TileError(f"{model.spec.name} cannot {direction} in steps: {limit}; {_inexact(model.spec)}")
        groups = usual_plan(model.spec).way(direction).groups
        if chunk is not None:
            groups = groups_of(model.spec.chunks("encode"), checked(chunk, Frames, "chunk"))
        ways.append((direction, Way(groups, None, size)))
    return Plan(tuple(ways))


def _check(model: VideoAutoencoder, tile: Pixels, directions: Sequence[Direction]) -> None:
    try:
        exact(model, tile, directions=directions)
    except TileError as error:
        told = str(error).replace("take an inexact preset (vvae.tiling.presets)", _inexact(model.spec))
        raise TileError(told) from None


def preset_plan(spec: VideoAutoencoderSpec, name: str, directions: Sequence[Direction] = BOTH) -> Plan:
    """The rule of a release; not exact.

    Raises:
        TileError: unknown, or it would join what is unlike for such a model. Names the presets that fit.
    """
    if wrong := faults(preset(name), spec):
        raise TileError(f"{name} does not fit {spec.name} ({wrong[0]}); {_inexact(spec)}")
    return Plan(tuple((direction, PresetWay(name)) for direction in directions))


def _inexact(spec: VideoAutoencoderSpec) -> str:
    names = fitting(spec)
    return f"presets that fit, not exact: {', '.join(names)}" if names else "no preset fits it either"
