"""The laws of whole models that are models of this library."""

from __future__ import annotations

from collections.abc import Iterator

from vvae.errors import SpecError
from vvae.tiling import Compression, Frames, Pixels, blended, compression
from vvae.verify import laws
from vvae.verify.clips import random_clip
from vvae.verify.subject import Model
from vvae.verify.suite import Case, Effort, Law

# --------------------------------------------------------------------------- where a law applies


def _own(model: Model) -> str | None:
    return "it is no model of this library" if model.own is None else None


def _in_cells(model: Model) -> str | None:
    if model.own is None:
        return _own(model)
    whole = model.own.spec.framing.surplus == "end" and model.pixels.group % model.own.spec.latents.group == 0
    return None if whole else "its clips do not begin with a whole group"


# --------------------------------------------------------------------------- cases


def _ragged(model: Model, effort: Effort) -> Iterator[Case]:
    """Sizes of which frames, rows and columns must be filled."""
    height, width = model.size
    for frames in range(1, model.pixels.group + 2):
        yield {"frames": frames, "height": height, "width": width}
    yield {"frames": model.frames, "height": height + 1, "width": width}
    yield {"frames": model.frames, "height": height, "width": width + 1}


def _once(model: Model, effort: Effort) -> Iterator[Case]:
    yield {"frames": model.frames, "seed": 0}


def _directions(model: Model, effort: Effort) -> Iterator[Case]:
    assert model.own is not None
    piece = model.own.spec.framing.piece or 0
    for frames in (1, model.frames, (piece or model.frames) + 1):
        for direction in ("encode", "decode"):
            yield {"frames": frames, "direction": direction}


def _rules(model: Model, effort: Effort) -> Iterator[Case]:
    yield from ({"shared_cells": shared, "join": "drop"} for shared in (0, 1, 2))
    yield from ({"shared_cells": 1, "join": join} for join in ("mean", "ramp"))


def _nothing(model: Model, effort: Effort) -> Iterator[Case]:
    yield {}


# --------------------------------------------------------------------------- one case of each


def _dependency(model: Model, frames: int, direction: str) -> float:
    assert model.own is not None
    own, x = model.own, model.clip(frames)
    if direction == "encode":
        return laws.check_reach(own.encode, own.spec.dependency(frames, "encode"), x)
    posterior = own.encode(x)
    content = {} if posterior.content is None else {"content": own.content(posterior.content)}  # type: ignore[misc]
    z = random_clip(own.spec.latents, *posterior.mean.shape[2:])
    declared = own.spec.dependency(frames, "decode")
    return laws.check_reach(lambda latents: own.decode(latents, frames=frames, **content), declared, z)


def _filled(model: Model, frames: int, height: int, width: int) -> float:
    assert model.own is not None
    return laws.check_filled(model.own, model.clip(frames, height, width))


def _scaling(model: Model, frames: int, seed: int) -> float:
    assert model.own is not None
    return laws.check_scaling(model.own.scaling, random_clip(model.own.spec.latents, 3 * frames, 2, 2, seed=seed))


def _noise(model: Model, frames: int, seed: int) -> float:
    assert model.own is not None
    return laws.check_noise(model.own, model.clip(frames, seed=seed))


def _compression(model: Model) -> Compression:
    """How the model compresses; of one that takes clips of one length alone, as if it left time as it is."""
    assert model.own is not None
    try:
        return compression(model.own.spec)
    except SpecError:
        return compression(model.own.spec, in_time=False)


def _blended(model: Model, shared_cells: int, join: str) -> float:
    by = _compression(model)
    tile, shared = Pixels(4 * by.cell), Pixels(shared_cells * by.cell)
    both = by.lead + (by.group if join != "drop" else 0)
    chunk, length = Frames(by.lead + 3 * by.group), by.lead + 7 * by.group
    rule = blended(by, tile, shared, chunk=chunk, shared=Frames(both), join=join)  # type: ignore[arg-type]
    return laws.check_blended(by, rule, (length, 9 * by.cell, 11 * by.cell))


def _units(model: Model) -> float:
    return laws.check_units(_compression(model))


LAWS: tuple[Law, ...] = (
    Law("reach", laws.check_reach, _dependency, _own, _directions),
    Law("filled", laws.check_filled, _filled, _own, _ragged),
    Law("scaling", laws.check_scaling, _scaling, _own, _once),
    Law("noise", laws.check_noise, _noise, _own, _once),
    Law("blended", laws.check_blended, _blended, _in_cells, _rules),
    Law("units", laws.check_units, _units, _in_cells, _nothing),
)
