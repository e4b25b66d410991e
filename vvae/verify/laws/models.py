"""Laws of whole models: sizes, posteriors, files. E encodes a clip, D decodes latents."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import VvaeError
from vvae.gaussian import DiagonalGaussian
from vvae.models.files import load
from vvae.models.recognise import shapes_of
from vvae.models.released import as_published
from vvae.published.renames import to_own
from vvae.published.table import Rename, place
from vvae.reach import Reach
from vvae.state import load_state, save_state
from vvae.verify.findings import LawError, near
from vvae.verify.gradients import weighting
from vvae.verify.measure import Run, exchanged, measured, tensor_of

KL_LIMIT = 1e-5
"""A posterior may sum in float32."""


def check_accounting(encode: Run, decode: Run, x: Tensor, *, seen: bool = True) -> float:
    """shape of D(E(x)) = shape of x, in frames, rows and columns; and every frame of x moves some latent (`seen`).

    A size that is refused by an error is refused honestly; the error is passed on. No tolerance.
    """
    with torch.no_grad():
        y = tensor_of(decode(encode(x)))
    if y.ndim != x.ndim:
        raise LawError("accounting", f"{tuple(x.shape)} comes back as {tuple(y.shape)}")
    sizes = zip(_SIDES, x.shape[2:], y.shape[2:], strict=True)
    if changed := {side: [was, now] for side, was, now in sizes if was != now}:
        told = ", ".join(f"{side} {was} -> {now}" for side, (was, now) in changed.items())
        lost = float(max(abs(was - now) for was, now in changed.values()))
        raise LawError("accounting", f"comes back in another size: {told}", figure=lost, changed=changed)
    if seen and (unseen := _unseen(encode, x)):
        told = f"of {x.shape[2]} frames {unseen} move no latent"
        raise LawError("accounting", told, figure=float(len(unseen)), unseen=unseen)
    return 0.0


_SIDES = ("frames", "height", "width")


def _unseen(encode: Run, x: Tensor) -> list[int]:
    """Frames that move no latent: those to which no gradient comes are looked at again by exchange."""
    moves: Reach = np.zeros(x.shape[2], dtype=np.bool_)
    with suppress(RuntimeError):  # a model that cannot be differentiated
        moves = measured(lambda clip: _summed(tensor_of(encode(clip))), x, "time", "gradients")[0]
    if moves.all():
        return []
    with torch.no_grad():
        base = tensor_of(encode(x))
        others = enumerate(exchanged(x))
        return [at for at, other in others if not moves[at] and torch.equal(tensor_of(encode(other)), base)]


def _summed(y: Tensor) -> Tensor:
    """All frames in one, so that one gradient stands for all of them. `b c 1 h w`"""
    return (y * weighting(y)).sum(2, keepdim=True)


def check_kl(posterior: Any, *, moments: Tensor | None = None) -> float:
    """kl() = sum over all but the batch of (mean^2 + exp(logvar) - 1 - logvar) / 2: one number per clip; mode() = mean.

    With the `moments` behind it: mean is the first half of their channels, logvar the second, clamped at most.
    Tolerance: KL_LIMIT.
    """
    mean, logvar = posterior.mean.double(), posterior.logvar.double()
    want = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
    found = posterior.kl()
    if tuple(found.shape) != tuple(want.shape):
        told = f"kl() of {tuple(mean.shape)} has shape {tuple(found.shape)}; one number per clip is {tuple(want.shape)}"
        raise LawError("kl", told, shape=list(found.shape))
    worst = near("kl", "kl() and the closed form", found, want, KL_LIMIT)
    near("kl", "mode() and mean", posterior.mode(), posterior.mean, 0.0)
    if isinstance(posterior, DiagonalGaussian):
        worst = max(worst, _check_from_another(posterior))
    if moments is not None:
        first, second = moments.to(mean).chunk(2, 1)
        near("kl", "mean and the first half of the moments", mean, first, KL_LIMIT)
        near("kl", "logvar and the second half", logvar, second.clamp(logvar.min(), logvar.max()), KL_LIMIT)
    return worst


def _check_from_another(p: DiagonalGaussian) -> float:
    """kl(other) and nll(sample) in closed form, for another posterior of the same shape."""
    mean, logvar = 0.5 * p.mean + 0.1, 0.5 * p.logvar - 0.2
    other = replace(p, mean=mean, logvar=logvar)
    gap = (p.mean - mean) ** 2 / logvar.exp()
    want = 0.5 * (gap + (p.logvar - logvar).exp() - 1 - p.logvar + logvar).flatten(1).sum(1)
    near("kl", "kl(p) and zero", p.kl(p), torch.zeros_like(want), 0.0)
    of_sample = 0.5 * (math.log(2 * math.pi) + p.logvar + (mean - p.mean) ** 2 / p.logvar.exp()).flatten(1).sum(1)
    near("kl", "nll(sample) and the closed form", p.nll(mean), of_sample, KL_LIMIT)
    return near("kl", "kl(other) and the closed form", p.kl(other), want, KL_LIMIT)


def check_model_stream(model: VideoAutoencoder, x: Tensor, chunks: list[int], *, tolerance: float = 1e-12) -> float:
    """encode_stream and decode_stream of chunks of so many frames = encode and decode of the whole clip.

    Tolerance: that of chunks (TOLERANCE).
    """
    with torch.no_grad():
        whole, parts = model.encode(x), list(model.encode_stream(x.split(chunks, 2), frames=x.shape[2]))
        # of a clip that passes as one no chunk knows the content image
        given: dict[str, Any] = {} if whole.content is None or model.spec.stretch else {"content": whole.content}
        video = torch.cat(list(model.decode_stream(parts, frames=x.shape[2], **given)), 2)
        compared = {
            "encode": (torch.cat([part.mean for part in parts], 2), whole.mean),
            "logvar of encode": (torch.cat([part.logvar for part in parts], 2), whole.logvar),
            "decode": (video, model.decode(whole)),
        }
    return max(near("stream", what, found, want, tolerance, chunks=chunks) for what, (found, want) in compared.items())


def check_saved(model: VideoAutoencoder, x: Tensor) -> float:
    """load(save(model)) = model: the same spec, the same weights bit for bit, the same outputs. No tolerance."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "model.safetensors"
        model.save(file)
        again = load(file)
        if again.spec != model.spec:
            raise LawError("saved", "the spec that is loaded is another one than was saved")
        _same("saved", dict(again.state_dict()), dict(model.state_dict()))
        near("saved", "the clip that comes back", again(x), model(x), 0.0)
        if not (model.spec.stream_limit("encode") or model.spec.framing.piece):
            _check_state(model, x, Path(folder) / "state.safetensors")
    return float(len(model.state_dict()))


def _check_state(model: VideoAutoencoder, x: Tensor, file: Path) -> None:
    """A stream goes on from a state in a file as from the state itself."""
    first = model.spec.chunks("encode").frames(1)
    if x.shape[2] <= first:
        return
    state = model.encode_chunk(x[:, :, :first])[1]
    save_state(state, file)
    again, rest = load_state(file), x[:, :, first:]
    about = [(s.digest, s.direction, s.position, s.given, s.frame, s.ended) for s in (again, state)]
    if about[0] != about[1] or again.tensors.keys() != state.tensors.keys():
        raise LawError("saved", f"the state of a stream that is loaded, {about[0]}, is another one than {about[1]}")
    want, found = (model.encode_chunk(rest, one, last=True)[0].mean for one in (state, again))
    near("saved", "what a stream gives that goes on from a file", found, want, 0.0)


def check_restored(module: torch.nn.Module, fresh: torch.nn.Module, call: Callable[..., Any], x: Tensor) -> float:
    """A module with other weights gives the same once it has loaded the first one's state_dict. No tolerance.

    `fresh` is a copy of the module; its weights are replaced. `call(module, x)` runs either.
    """
    with torch.no_grad():
        want = tensor_of(call(module, x))
        for value in fresh.state_dict().values():  # a buffer that is not saved is made anew with the module
            if value.is_floating_point():
                value.fill_(0.5)
        fresh.load_state_dict(module.state_dict(), strict=True)
        near("saved", "what comes out of the loaded module", tensor_of(call(fresh, x)), want, 0.0)
    return float(len(module.state_dict()))


def check_converted(
    model: VideoAutoencoder, naming: str | None = None, *, names: Mapping[str, str] | None = None
) -> float:
    """import(export(model)) = model bit for bit, under the names and shapes that the release's own layout reads.

    `names`: the published names of each tensor as they are known from the release, joined by " + " where they are
    several; two that change places come back all the same. No tolerance. Returns the number of tensors.
    """
    try:
        return _check_converted(model, naming, names or {})
    except VvaeError as error:
        raise LawError("converted", f"a release has no such tensors: {error}") from error


def _check_converted(model: VideoAutoencoder, naming: str | None, names: Mapping[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        model.save(file)
        exported = as_published(file, naming)
        out = Path(folder) / "published.safetensors"
        checkpoint.write_file(out, dict(exported.tensors), {"format": "pt"})
        held = checkpoint.read_file(out)[0]
    table, shapes = exported.recognised.table, shapes_of(model.spec)
    for name, found in published_names(table, shapes).items():
        if found != names.get(name, found):
            raise LawError("converted", f"{name} is exported as {found}, but released as {names[name]}", tensor=name)
    own, _ = to_own(table, held, shapes, str(out))
    _same("converted", own, dict(model.state_dict()))
    return float(len(own))


def published_names(table: Sequence[Rename], shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The published name of each own tensor; of those that are joined all names."""
    return {name: " + ".join(placement.published) for name, placement in place(table, shapes).items()}


def _same(law: str, found: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    if found.keys() != want.keys():
        raise LawError(law, f"tensors differ by name: {sorted(found.keys() ^ want.keys())[:4]}")
    for name, tensor in want.items():
        if found[name].dtype != tensor.dtype or not torch.equal(found[name], tensor):
            raise LawError(law, f"{name} is another one", tensor=name)


def check_spec_json(spec: VideoAutoencoderSpec) -> float:
    """from_json(to_json(spec)) = spec, with the same digest, the same text and the same parameters. No tolerance."""
    again = VideoAutoencoderSpec.from_json(spec.to_json())
    if again != spec or again.digest != spec.digest or again.to_json() != spec.to_json():
        raise LawError("spec_json", "the spec that is read is another one than was written")
    if shapes_of(again) != shapes_of(spec):
        raise LawError("spec_json", "the spec that is read builds other parameters")
    return float(len(spec.to_json()))
