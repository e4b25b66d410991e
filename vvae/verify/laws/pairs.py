"""Laws of pairs: what one does the other undoes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vvae.autoencoder import VideoAutoencoder
from vvae.context import WholeClip
from vvae.errors import SpecError
from vvae.scaling import Affine, ClipNorm, LatentScaling
from vvae.signal import Signal
from vvae.spec import LayerSpec, layer_from_json
from vvae.verify.findings import TOLERANCE, LawError, near


def check_undone(layer: nn.Module, inverse: nn.Module, x: Tensor) -> float:
    """g(f(x)) = x for a layer f and the one that undoes it. Tolerance: TOLERANCE, where both only move numbers 0."""
    ctx = WholeClip(frames=x.shape[2])
    with torch.no_grad():
        return near("undone", "the clip that comes back", inverse(layer(x, ctx), ctx), x, TOLERANCE[x.dtype])


def check_layer_json(spec: LayerSpec, signal: Signal) -> float:
    """from_json(to_json(spec)) = spec, with the same text, the same trace and the same parameters. No tolerance."""
    again = layer_from_json(spec.to_json())
    if again != spec or again.to_json() != spec.to_json() or str(again) != str(spec):
        raise LawError("spec_json", "the spec that is read is another one than was written")
    if again.trace(signal) != spec.trace(signal) or _shapes(again, signal) != _shapes(spec, signal):
        raise LawError("spec_json", "the spec that is read makes another layer")
    return float(len(spec.to_json()))


def _shapes(spec: LayerSpec, signal: Signal) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in spec.build(signal).state_dict().items()}


def check_filled(model: VideoAutoencoder, x: Tensor) -> float:
    """E(x) = E(x') and D(E(x)) = D(E(x')) cropped, where x' is x with its last frame, row and column repeated up to a
    size that fits. No tolerance: the same work is done."""
    spec = model.spec
    full = spec.filled_frames(x.shape[2]), *spec.filled_size(x.shape[3], x.shape[4])
    other = x
    for axis, length in enumerate(full, start=2):
        other = other.index_select(axis, torch.arange(length).clamp(max=x.shape[axis] - 1))
    with torch.no_grad():
        posterior, by_hand = model.encode(x), model.encode(other)
        for name in ("mean", "logvar"):
            near("filled", f"{name} of {_size(x)}", getattr(posterior, name), getattr(by_hand, name), 0.0)
        want = model.decode(by_hand)[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]
        return near("filled", f"the clip of {_size(x)} that comes back", model.decode(posterior), want, 0.0)


def _size(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[2:]))


def check_scaling(scaling: LatentScaling, z: Tensor) -> float:
    """restore(normalize(z)) = z and normalize(z)[c] = (z[c] - shift[c]) scale[c]; of a norm over a piece, normalize(z)
    is (z - mean) / sqrt(variance + eps) of each piece, and restore refuses. Tolerance: TOLERANCE."""
    limit, normalized = TOLERANCE[z.dtype], scaling.normalize(z)
    if isinstance(scaling, Affine):
        shift, scale = (_per_channel(value, z) for value in (scaling.shift, scaling.scale))
        near("scaling", "normalized latents", normalized, (z - shift) * scale, limit)
        return near("scaling", "restored latents", scaling.restore(normalized), z, limit)
    _check_refused(scaling, normalized)
    pieces = z.split(scaling.piece or z.shape[2], 2)
    want = [(p - _over(p)) / (_over((p - _over(p)) ** 2) + scaling.eps).sqrt() for p in pieces]
    return near("scaling", "normalized latents", normalized, torch.cat(want, 2), limit)


def _check_refused(scaling: ClipNorm, normalized: Tensor) -> None:
    try:
        scaling.restore(normalized)
    except SpecError:
        return
    raise LawError("scaling", "a norm over the piece was undone, though mean and size of the piece are gone")


def _over(piece: Tensor) -> Tensor:
    """The mean of each clip of the batch."""
    return piece.mean((1, 2, 3, 4), keepdim=True)


def _per_channel(value: float | tuple[float, ...], z: Tensor) -> Tensor:
    numbers = torch.tensor(value, dtype=z.dtype).expand(z.shape[1])
    return numbers[:, None, None, None]
