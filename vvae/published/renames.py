"""Tensors of a released checkpoint under one's own names, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vvae.checkpoint import match
from vvae.errors import CheckpointError
from vvae.published.table import Placement, Rename, extra_names, place, published_shapes

__all__ = ["Rename", "to_own", "to_published"]


def to_own(
    table: Sequence[Rename],
    published: Mapping[str, Tensor],
    own_shapes: Mapping[str, Sequence[int]],
    where: str = "the published checkpoint",
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(own tensors in the shapes of `own_shapes`, extras under their published names) of a released checkpoint.

    Values and dtypes stay. Raises CheckpointError that names every missing, unexpected or misshapen published tensor,
    and SpecError where the table does not fit the own names.
    """
    expected = published_shapes(table, own_shapes)
    extras = extra_names(table, published.keys() - expected.keys())
    match(expected, {name: tensor.shape for name, tensor in published.items() if name not in extras}, where)
    own = {
        name: _join(placement, [published[source] for source in placement.published], own_shapes[name], where)
        for name, placement in place(table, own_shapes).items()
    }
    return own, {name: published[name] for name in published if name in extras}


def to_published(
    table: Sequence[Rename], own: Mapping[str, Tensor], extras: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The released checkpoint's tensors: the reverse of `to_own`, without need of the released file.

    Raises CheckpointError where an extra is none by the table, and SpecError where the table does not fit.
    """
    published: dict[str, Tensor] = {}
    for name, placement in place(table, own).items():
        published.update(zip(placement.published, _split(placement.row, own[name]), strict=True))
    extras = extras or {}
    stray = sorted(extras.keys() - extra_names(table, extras.keys() - published.keys()))
    if stray:
        raise CheckpointError(f"published_extras: {stray[0]} is no extra by the table of renames; drop it or add a row")
    return {**published, **extras}


def _join(placement: Placement, sources: Sequence[Tensor], own_shape: Sequence[int], where: str) -> Tensor:
    dtypes = sorted({str(source.dtype) for source in sources})
    if len(dtypes) > 1:
        names = ", ".join(placement.published)
        raise CheckpointError(
            f"{where}: {names} are {' and '.join(dtypes)}, to be one tensor; convert them to one dtype"
        )
    pieces = placement.row.pieces(own_shape)
    viewed = [source.reshape(shape) for source, shape in zip(sources, pieces, strict=True)]
    return viewed[0] if len(viewed) == 1 else torch.cat(viewed)


def _split(row: Rename, own: Tensor) -> list[Tensor]:
    shapes = row.published_shapes(own.shape)
    pieces = own.split_with_sizes([piece[0] for piece in row.pieces(own.shape)]) if row.op == "cat" else (own,)
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
