"""The laws of whole models in the suite: where each applies, and its cases."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from vvae.autoencoder import VideoAutoencoder
from vvae.errors import TileError
from vvae.tiling import ExactTiling, Pixels, PublishedTiling, blended, compression, exact, published
from vvae.verify import laws
from vvae.verify.findings import TOLERANCE, LawError, RefusalError
from vvae.verify.measure import TargetError
from vvae.verify.subject import Model
from vvae.verify.suite import Case, Effort, Law

_SIDES = ("frames", "height", "width")

# --------------------------------------------------------------------------- where a law applies


def _any_model(model: Model) -> str | None:
    return None


def _own(model: Model) -> str | None:
    return "it is no model of this library" if model.own is None else None


def _streams(model: Model) -> str | None:
    if model.own is None:
        return _own(model)
    return model.own.spec.stream_limit("encode") or model.own.spec.stream_limit("decode")


def _with_posterior(model: Model) -> str | None:
    return None if hasattr(_posterior(model, model.frames, 0), "kl") else "it has no posterior with kl()"


def _posterior(model: Model, frames: int, seed: int) -> Any:
    with torch.no_grad():
        given = model.encode(model.module, torch.cat([model.clip(frames, seed=seed + more) for more in (0, 1)]))
    return getattr(given, "latent_dist", given)


def _released(model: Model) -> str | None:
    return "no release has names for it" if model.released is None else None


def _with_tiles(model: Model) -> str | None:
    has = model.own is not None or hasattr(model.module, "enable_tiling")
    return None if has else "it has no tiles"


def _exact_tiles(model: Model) -> ExactTiling | None:
    """The model in tiles with all that reaches into them; None where it sees whole frames, or is no model of ours."""
    try:
        return None if model.own is None else exact(model.own, Pixels(model.size[0]))
    except TileError:
        return None


def _inexact(model: Model) -> bool:
    return model.own is not None and _exact_tiles(model) is None


# --------------------------------------------------------------------------- cases


def _sizes(model: Model, effort: Effort) -> Iterator[Case]:
    """Every number of frames up to some, then heights and widths that are no whole cells."""
    height, width = model.size
    for frames in range(1, max(effort.sweep, model.frames + model.pixels.group) + 1):
        yield {"frames": frames, "height": height, "width": width}
    for more in (1, max(2, height // 2 + 1)):
        yield {"frames": model.frames, "height": height + more, "width": width}
        yield {"frames": model.frames, "height": height, "width": width + more}


def _one_clip(model: Model, effort: Effort) -> Iterator[Case]:
    for seed in range(effort.seeds):
        yield {"frames": model.frames, "seed": seed}


def _chunks(model: Model, effort: Effort) -> Iterator[Case]:
    yield from ({"frames": model.frames, "chunk": chunk} for chunk in (model.frames, 1, 2, 3))
    # a broken end, behind several pieces where a clip falls into such
    stretch = model.own.spec.stretch if model.own is not None else None
    yield {"frames": 1 + (2 * stretch if stretch else model.frames), "chunk": 3}


def _namings(model: Model, effort: Effort) -> Iterator[Case]:
    yield from ({"naming": naming} for naming in model.names or (None,))


# --------------------------------------------------------------------------- one case of each


def _accounting(model: Model, frames: int, height: int, width: int) -> float:
    module, x = model.fresh().module, model.clip(frames, height, width)
    try:
        return laws.check_accounting(lambda c: model.encode(module, c), lambda z: model.decode(module, z), x)
    except (LawError, TargetError):
        raise
    except Exception:
        sizes = zip(_SIDES, (frames, height, width), (model.frames, *model.size), strict=True)
        other = {side: asked for side, asked, own in sizes if asked != own}
        if not other or model.own is not None:
            raise
        raise RefusalError(**other) from None  # what is refused in words is not lost in silence


def _all_sizes(failed: Sequence[LawError], refused: Sequence[RefusalError]) -> str:
    """All sizes that change, after one another: "frames 2 -> 1, 6 -> 5; height 33 -> 32"."""
    changed: dict[str, list[str]] = {}
    for error in failed:
        for side, (was, now) in error.where.get("changed", {}).items():
            changed.setdefault(side, []).append(f"{was} -> {now}")
    sides = "; ".join(f"{side} {', '.join(sizes)}" for side, sizes in changed.items())
    told = [f"comes back in another size: {sides}"] if sides else []
    told += [error.message for error in failed if "changed" not in error.where]
    numbers = {side: [str(error.where[side]) for error in refused if side in error.where] for side in _SIDES}
    names = "; ".join(f"{side} {', '.join(sizes)}" for side, sizes in numbers.items() if sizes)
    return "; ".join([*told, *([f"refused: {names}"] if names else [])])


def _kl(model: Model, frames: int, seed: int) -> float:
    posterior, moments = _posterior(model, frames, seed), None
    if model.own is not None:
        with torch.no_grad():
            clips = torch.cat([model.clip(frames, seed=seed + more) for more in (0, 1)])
            own = model.own.encode(clips)
            moments = None if model.own.spec.framing.piece else model.own.encoder(clips)
        posterior = own
    return laws.check_kl(posterior, moments=moments)


def _stream(model: Model, frames: int, chunk: int) -> float:
    assert model.own is not None
    x = model.clip(frames)
    sizes = [min(chunk, frames - start) for start in range(0, frames, chunk)]
    return laws.check_model_stream(model.own, x, sizes, tolerance=1e-10)


def _tiled(model: Model, frames: int, seed: int) -> float:
    if model.own is None:
        return _switched(model, model.clip(frames, 2 * model.size[0], 2 * model.size[1], seed=seed))
    own, x = model.own, model.clip(frames, 3 * model.size[0], 3 * model.size[1], seed=seed)
    exactly = _exact_tiles(model)
    tiled = _blended(own, model.size[0]) if exactly is None else exactly
    limit = math.inf if exactly is None else 1e-10
    worst = laws.check_tiled(lambda: own.encode(x).mean, lambda: tiled.encode(x).mean, limit=limit)
    if own.content is not None:
        return worst
    z = own.encode(x).mean.detach()
    return max(worst, laws.check_tiled(lambda: own.decode(z), lambda: tiled.decode(z), limit=limit))


def _blended(own: VideoAutoencoder, side: int) -> PublishedTiling:
    """Tiles of `side` pixels that blend over half of it."""
    return published(own, blended(compression(own.spec, in_time=False), Pixels(side), Pixels(side // 2)))


def _switched(model: Model, x: torch.Tensor) -> float:
    """A copy with its tiles switched on gives what the model gives: a switch that does not say that it changes it."""
    twin = copy.deepcopy(model.module)
    _switch_on(twin, model.size[0])
    if _calls(model, twin, x) <= _calls(model, model.module, x):
        raise LawError("tiled", f"with its tiles switched on, {tuple(x.shape)} still passes at once: nothing is tiled")
    whole, tiled = (partial(model.both, module, x) for module in (model.module, twin))
    return laws.check_tiled(whole, tiled, limit=TOLERANCE[torch.float32])


def _switch_on(twin: Any, side: int) -> None:
    """Tiles of `side` pixels, half of them shared, as models of diffusers are told."""
    sides = {f"tile_sample_min_{name}": side for name in ("height", "width", "size")}
    strides = {f"tile_sample_stride_{name}": side // 2 for name in ("height", "width")}
    shares = {f"tile_overlap_factor_{name}": 0.5 for name in ("height", "width")}
    known = inspect.signature(twin.enable_tiling).parameters
    asked = {**sides, **strides, **shares}
    twin.enable_tiling(**{name: value for name, value in asked.items() if name in known})
    for name, value in asked.items():
        if hasattr(twin, name) and name not in known:
            setattr(twin, name, value)


def _calls(model: Model, module: torch.nn.Module, x: torch.Tensor) -> int:
    """How often the innermost layers are called."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    leaves = [part for part in module.modules() if not list(part.children())]
    hooks = [leaf.register_forward_pre_hook(counted) for leaf in leaves]
    with torch.no_grad():
        model.both(module, x)
    for hook in hooks:
        hook.remove()
    return count


def _saved(model: Model, frames: int, seed: int) -> float:
    if model.own is not None:
        return laws.check_saved(model.own, model.clip(frames, seed=seed))
    return laws.check_restored(model.module, copy.deepcopy(model.module), model.both, model.clip(frames, seed=seed))


def _converted(model: Model, naming: str | None) -> float:
    assert model.released is not None
    return laws.check_converted(model.released, naming, names=model.names.get(naming or ""))


def _parameters(model: Model, frames: int, seed: int) -> float:
    x = model.clip(frames, seed=seed)
    return laws.check_parameters(model.module, x, lambda clip: model.both(model.module, clip))


def _spec_json(model: Model, frames: int, seed: int) -> float:
    assert model.own is not None
    return laws.check_spec_json(model.own.spec)


LAWS: tuple[Law, ...] = (
    Law("accounting", laws.check_accounting, _accounting, _any_model, _sizes, tells=_all_sizes),
    Law("kl", laws.check_kl, _kl, _with_posterior, _one_clip),
    Law("stream", laws.check_model_stream, _stream, _streams, _chunks),
    Law("tiled", laws.check_tiled, _tiled, _with_tiles, _one_clip, _inexact),
    Law("parameters", laws.check_parameters, _parameters, _any_model, _one_clip),
    Law("saved", laws.check_saved, _saved, _any_model, _one_clip),
    Law("converted", laws.check_converted, _converted, _released, _namings),
    Law("spec_json", laws.check_spec_json, _spec_json, _own, _one_clip),
)
