"""An image VAE's weights as the start of a video VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vvae.errors import CheckpointError, SpecError
from vvae.published.inflation import How, Inflation
from vvae.published.table import translate


def inflate(table: Sequence[Inflation], image: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a video VAE, by a table of `vvae.arch.inflate`, from those of an image VAE.

    fresh: the tensors of a new model; their shapes are kept, and their values where the table says so.

    Raises:
        SpecError: the table has no row for a tensor of the model.
        CheckpointError: a tensor of the image VAE is missing, has no place in the model, or is of a shape without one.
    """
    made, used = {}, set()
    for name, new in fresh.items():
        row, source = _source(table, name)
        if source is not None and source not in image:
            raise CheckpointError(f"{name} is made of the image VAE's {source}, which it does not have; take another")
        made[name] = _made(row, new if source is None else image[source].to(new), new, name)
        used.add(source)
    if left := sorted(image.keys() - used):
        raise CheckpointError(f"the image VAE's {left[0]} has no place in the video VAE; take another, or another spec")
    return made


def _source(table: Sequence[Inflation], name: str) -> tuple[Inflation, str | None]:
    for row in table:
        source = translate(name, row.own, row.image or row.own)
        if source is not None:
            return row, None if row.image is None else source
    raise SpecError(f"no row of the inflation says where {name} comes from; add one")


def _made(row: Inflation, image: Tensor, new: Tensor, name: str) -> Tensor:
    if row.image is None:
        return _WITHOUT_IMAGE[row.how](new)
    made = torch.zeros_like(new)
    taps = row.how in ("last", "centre") and new.ndim == image.ndim + 1
    place = made[:, :, -1 if row.how == "last" else new.shape[2] // 2] if taps else made
    if image.ndim != place.ndim and _sizes(image) == _sizes(place):
        image = image.reshape(place.shape)
    if not _fits(image, place):
        raise CheckpointError(
            f"{name}: shape {tuple(new.shape)} cannot be filled from {tuple(image.shape)} of the image VAE; "
            "take one of the same widths"
        )
    _fill(image, place, row.half)
    return made


def _fits(image: Tensor, place: Tensor) -> bool:
    """Whether the shapes are equal, but for twice the channels that are given or read."""
    if image.ndim != place.ndim:
        return False
    times = [size / own for size, own in zip(place.shape, image.shape, strict=True)]
    return all(many in (1, 2) for many in times[:2]) and all(many == 1 for many in times[2:])


def _fill(image: Tensor, place: Tensor, half: int) -> None:
    given = place.chunk(place.shape[0] // image.shape[0])
    for number, rows in enumerate(given):
        read = number if len(given) > 1 else half
        part = rows if rows.shape == image.shape else rows.narrow(1, read * image.shape[1], image.shape[1])
        part.copy_(image)


def _sizes(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size > 1]


def _pass(new: Tensor) -> Tensor:
    made = torch.zeros_like(new)
    made[:, :, new.shape[2] // 2] = _same_channel(new)
    return made


def _mean(new: Tensor) -> Tensor:
    return (_same_channel(new) / new.shape[2]).unsqueeze(2).expand_as(new).clone()


def _same_channel(new: Tensor) -> Tensor:
    """1 from each channel to itself, for one tap of a kernel over time."""
    same = torch.eye(*new.shape[:2], dtype=new.dtype, device=new.device)
    return same.reshape(new[:, :, 0].shape)


_WITHOUT_IMAGE: Mapping[How, Callable[[Tensor], Tensor]] = {
    "pass": _pass,
    "mean": _mean,
    "zero": torch.zeros_like,
    "fresh": torch.clone,
}
