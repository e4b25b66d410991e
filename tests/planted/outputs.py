"""What comes out of a subject in every way in which it can be used, so that a defect shows somewhere in it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.context import Kept, StreamStep, module_names
from vvae.cost import flops
from vvae.models.recognise import shapes_of
from vvae.models.released import as_published
from vvae.published.renames import to_own
from vvae.tiling import Cells, Frames, Pixels, Positions, blended, compression, exact, in_tiles, published, tile_plan
from vvae.verify import Subject, random_clip, split
from vvae.verify.gradients import with_gradients
from vvae.verify.subject import Model, Part

Value: TypeAlias = Tensor | str | float
Outputs: TypeAlias = dict[str, Value]
SEEN = 1e-6
"""What a defect changes by more than this."""


def outputs(subject: Subject, *, long: bool) -> Outputs:
    """Every output by name; those that take long only where they are asked for."""
    found: Outputs = {}
    for part in subject.parts:
        for name, look in {**OF_PARTS, **(LONG if long else {})}.items():
            found |= _named(f"{part.name}, {name}", lambda: look(part))  # noqa: B023
    if subject.model is not None and subject.model.own is not None:
        for name, see in OF_MODELS.items():
            found |= _named(f"model, {name}", lambda: see(subject.model))  # noqa: B023
    return found


def changed(found: Mapping[str, Value], want: Mapping[str, Value]) -> tuple[str, float]:
    """The output that differs most, and by how much: infinity where a shape, a text or an error does."""
    worst = ("nothing", 0.0)
    for name in {**want, **found}:
        apart = _apart(found.get(name, "nothing"), want.get(name, "nothing"))
        worst = max(worst, (name, apart), key=lambda known: known[1])
    return worst


def _apart(a: Value, b: Value) -> float:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            return math.inf
        a, b = a.double(), b.double()
        equal = (a == b) | (a.isnan() & b.isnan())
        gap = torch.where(equal, 0.0, (a - b).abs()).nan_to_num(nan=math.inf)
        return gap.max().item() if gap.numel() else 0.0
    if isinstance(a, float | int) and isinstance(b, float | int):
        return abs(a - b)
    return 0.0 if isinstance(a, str) and a == b else math.inf


def _named(name: str, look: Callable[[], Any]) -> Outputs:
    """What was looked at, name by name; an error as its text."""
    try:
        found = look()
    except Exception as error:
        return {name: f"{type(error).__name__}: {error}"}
    if isinstance(found, Mapping):
        return {f"{name}: {key}": _plain(value) for key, value in found.items()}
    return {name: _plain(found)}


def _plain(value: Any) -> Value:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return float(value) if isinstance(value, int | float | Fraction) else str(value)


# --------------------------------------------------------------------------- of a part


def _groups(part: Part) -> int:
    return part.lengths(2, 2)[0]


def _streams(part: Part) -> bool:
    spec = part.spec
    return spec is not None and not part.given.content and spec.stream_limit(part.given) is None


def _forward(part: Part) -> Tensor:
    with torch.no_grad():
        return part.run(part.clip(_groups(part)))


def _image(part: Part) -> Tensor:
    with torch.no_grad():
        return part.run(part.clip(part.lengths(1, 0 if part.given.lead else 1)[0]))


def _learning(part: Part) -> dict[str, Tensor]:
    part.module.train()
    y, gradients = with_gradients(part.module, part.clip(_groups(part)), part.run)
    part.module.eval()
    return {"values": y, **{f"gradient of {name}": value for name, value in gradients.items()}}


def _half(part: Part) -> dict[str, Tensor]:
    x, run = part.clip(_groups(part)).bfloat16(), part.on(torch.bfloat16)
    with torch.no_grad():
        y = run(x.contiguous(memory_format=torch.channels_last_3d))
        return {"values": y, "of zeros": run(torch.zeros_like(x)), "strides": torch.tensor(y.stride())}


def _pair(part: Part) -> Tensor:
    x = part.clip(_groups(part))
    with torch.no_grad():
        return part.run(torch.cat([x, -2 * x]))


def _again(part: Part) -> dict[str, Any]:
    """The same clip after another one; and the attributes that the calls leave."""
    x = part.clip(_groups(part))
    with torch.no_grad():
        part.run(1 - x)
        y = part.run(x)
    kept = sorted(f"{path}.{name}" for path, m in part.module.named_modules() for name in vars(m))
    plain = [str(v) for m in part.module.modules() for v in vars(m).values() if isinstance(v, int | float | str)]
    return {"values": y, "attributes": f"{kept} {plain}"}


def _stream(part: Part) -> dict[str, Any]:
    """Chunk by chunk; each step is taken twice from the same state, and what is kept is weighed."""
    found: dict[str, Any] = {}
    state: dict[str, Kept] = {}
    names = module_names(part.module)
    x = part.clip(4)
    with torch.no_grad():
        for number, chunk in enumerate(split(x, part.given, [-1, 1, 0, 1, 1, 1])):
            for turn in ("", " again"):
                step = StreamStep(names, state, last=number == 5)
                found[f"chunk {number}{turn}"] = part.module(chunk, step)
            state = step.close()
            held = [t.untyped_storage().nbytes() for kept in state.values() for t in kept]
            found[f"bytes after {number}"] = sum(held)
    return found


def _stream_gradients(part: Part) -> dict[str, Tensor]:
    def chunked(x: Tensor) -> Tensor:
        state: dict[str, Kept] = {}
        names, given = module_names(part.module), []
        for number, chunk in enumerate(split(x, part.given, [1, 1])):
            step = StreamStep(names, state, last=number == 1)
            given.append(part.module(chunk, step))
            state = step.close()
        return torch.cat(given, 2)

    return with_gradients(part.module, part.clip(2), chunked)[1]


def _two_streams(part: Part) -> dict[str, Tensor]:
    states: list[dict[str, Kept]] = [{}, {}]
    names, found = module_names(part.module), {}
    clips = [split(part.clip(2, seed), part.given, [1, 1]) for seed in (0, 1)]
    with torch.no_grad():
        for number in (0, 1):
            for which in (0, 1):
                step = StreamStep(names, states[which], last=number == 1)
                found[f"stream {which}, chunk {number}"] = part.module(clips[which][number], step)
                states[which] = step.close()
    return found


def _two_threads(part: Part) -> dict[str, Tensor]:
    """Two clips at once, which meet before each call of the last layer inside."""
    leaves = [module for module in part.module.modules() if not list(module.children())]
    meeting = threading.Barrier(2, timeout=2.0)

    def meet(*_: object) -> None:
        meeting.wait()

    def run(seed: int) -> Tensor:
        with torch.no_grad():
            return part.run(part.clip(_groups(part), seed))

    hook = leaves[-1].register_forward_pre_hook(meet)
    try:
        with ThreadPoolExecutor(2) as pool:
            return {f"thread {seed}": y for seed, y in enumerate(pool.map(run, (0, 1)))}
    finally:
        hook.remove()


def _told(part: Part) -> dict[str, Any]:
    """What the spec says: reach, halo, what comes out, cost, JSON."""
    spec = part.spec
    if spec is None:
        return {}
    x = part.clip(_groups(part))
    given: list[Tensor] = []
    cost = flops(lambda: given.append(spec.build(part.given).double()(x))) if not part.given.content else {}
    return {
        "reach": spec.reach(part.given, x.shape[2]),
        "halo": str(spec.halo(part.given)),
        "trace": spec.trace(part.given),
        "frames": str([part.takes(n) and spec.frames(part.given, part.given.frames(n)) for n in range(4)]),
        "stream limit": spec.stream_limit(part.given),
        "cost": float(cost.get("Global", 0)),
        "JSON": "" if spec.kind == "opaque" else spec.to_json(),
        "parameters": str({name: tuple(value.shape) for name, value in part.module.state_dict().items()}),
    }


def _compiled(part: Part) -> Tensor:
    torch._dynamo.reset()
    with torch.no_grad():
        found: Tensor = torch.compile(part.run, backend="aot_eager")(part.clip(_groups(part)))
    return found


def _in_slices(part: Part) -> Tensor | str:
    """A clip that is long enough to pass in several slices."""
    if any("attention" in type(module).__module__ for module in part.module.modules()):
        return "compares positions with each other"
    with torch.no_grad():
        return part.run(random_clip(part.given, part.given.frames(-(-40 // part.given.group)), 32, 32))


def _if_it_streams(look: Callable[[Part], Any]) -> Callable[[Part], Any]:
    return lambda part: look(part) if _streams(part) else "does not stream"


OF_PARTS: Mapping[str, Callable[[Part], Any]] = {
    "forward": _forward,
    "of one image": _image,
    "in training": _learning,
    "in bfloat16": _half,
    "two clips": _pair,
    "called again": _again,
    "in chunks": _if_it_streams(_stream),
    "in chunks, learning": _if_it_streams(_stream_gradients),
    "two streams": _if_it_streams(_two_streams),
    "two threads": _two_threads,
    "its spec": _told,
}
LONG: Mapping[str, Callable[[Part], Any]] = {"compiled": _compiled, "in slices": _in_slices}
LONG_ONES = tuple(LONG)

# --------------------------------------------------------------------------- of a model


def _own(model: Model) -> VideoAutoencoder:
    assert model.own is not None
    return model.own


@torch.no_grad()
def _coded(model: Model) -> dict[str, Any]:
    """Latents and the clip that comes back, of whole sizes and of broken ones."""
    own, found = _own(model), dict[str, Any]()
    height, width = model.size
    piece = own.spec.framing.piece or model.frames
    for size in ((1, height, width), (model.frames, *model.size), (piece + 1, height + 1, width + 1)):
        posterior = own.encode(model.clip(*size))
        found |= {f"mean of {size}": posterior.mean, f"logvar of {size}": posterior.logvar}
        found[f"clip of {size}"] = own.decode(posterior)
        if posterior.content is not None:
            found[f"content of {size}"] = posterior.content
    return found


@torch.no_grad()
def _posterior(model: Model) -> dict[str, Any]:
    own, x = _own(model), torch.cat([model.clip(model.frames, seed=seed) for seed in (0, 1)])
    posterior, other = own.encode(x), own.encode(1 - x)
    drawn = own.draw(x, torch.Generator().manual_seed(1))
    return {
        "kl": posterior.kl(),
        "kl from another": posterior.kl(other),
        "nll": posterior.nll(other.mean),
        "sample": posterior.sample(torch.Generator().manual_seed(0)),
        "with noise": own.encode(x, noise=drawn).mean,
        "with a generator": own.encode(x, torch.Generator().manual_seed(1)).mean,
        "normalized": own.scaling.normalize(posterior.mean),
        **{f"noise of {name}": value for name, value in drawn.items()},
    }


def _restored(model: Model) -> Tensor:
    z = random_clip(_own(model).spec.latents, 3, 2, 2)
    return _own(model).scaling.restore(z)


@torch.no_grad()
def _model_stream(model: Model) -> dict[str, Any]:
    own, frames = _own(model), model.frames + (_own(model).spec.framing.piece or 0) + 1
    x = model.clip(frames)
    parts = list(own.encode_stream(x.split(2, 2), frames=frames))
    video = list(own.decode_stream(parts, frames=frames))
    return {"means": torch.cat([part.mean for part in parts], 2), "clip": torch.cat(video, 2)}


@torch.no_grad()
def _tiles(model: Model) -> dict[str, Any]:
    own, x = _own(model), model.clip(model.frames, 3 * model.size[0], 3 * model.size[1])
    tiled = exact(own, Pixels(model.size[0]))
    posterior = tiled.encode(x)
    return {"mean": posterior.mean, "clip": tiled.decode(posterior), "plans": str(tiled.plans(*x.shape[3:]))}


@torch.no_grad()
def _chunks(model: Model) -> dict[str, Any]:
    own, x = _own(model), model.clip(model.frames)
    tiled = exact(own, chunk=Frames(own.spec.chunks("encode").group))
    posterior = tiled.encode(x)
    return {"mean": posterior.mean, "clip": tiled.decode(posterior)}


@torch.no_grad()
def _blended(model: Model) -> dict[str, Any]:
    """The model in blended tiles, and what stays as it is in them."""
    by = compression(_own(model).spec, in_time=False)
    rule = blended(by, Pixels(4 * by.cell), Pixels(2 * by.cell))
    x = model.clip(model.frames, 7 * by.cell, 7 * by.cell)
    tiled = published(_own(model), rule)
    posterior, plan = tiled.encode(x), tile_plan(rule, "decode", (model.frames, 7, 7), by)
    cells = random_clip(_own(model).spec.latents, model.frames, 7, 7)
    grown = in_tiles(lambda z, place: z.repeat_interleave(by.cell, 3).repeat_interleave(by.cell, 4), cells, plan)
    return {"mean": posterior.mean, "clip": tiled.decode(posterior), "grown": grown}


def _units(model: Model) -> dict[str, Any]:
    by = compression(_own(model).spec)
    frames = [int(by.frames(Positions(n))) for n in range(by.lead, 5)]
    return {
        "pixels": str([int(by.pixels(Cells(n))) for n in range(5)]),
        "frames": str(frames),
        "positions": str([int(by.positions(Frames(n))) for n in frames]),
        **_named("sum", lambda: Pixels(8) + Cells(1)),
        **_named("equal", lambda: Pixels(8) == Cells(8)),
        **_named("cells", lambda: by.cells(Cells(8))),
    }


@torch.no_grad()
def _files(model: Model) -> dict[str, Any]:
    """What a file holds, and what is loaded from it."""
    from vvae.models.files import load

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        _own(model).save(file)
        text, tensors = checkpoint.load_weights(file)
        again = load(file)
        clip = again(model.clip(model.frames).to(next(again.parameters())))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"bytes": digest, "spec": text, "digest": checkpoint.digest(tensors), "clip": clip}


def _names(model: Model) -> dict[str, Any]:
    """The tensors under published names, and read again."""
    if model.released is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        model.released.save(file)
        exported = as_published(file)
    tensors = dict(exported.tensors)
    again, _ = to_own(exported.recognised.table, tensors, shapes_of(model.released.spec))
    found = {name: tensor.flatten()[:8].clone() for name, tensor in tensors.items()} | {"all": str(sorted(tensors))}
    return found | {f"own {name}": tensor.flatten()[:8].clone() for name, tensor in again.items()}


def _truths(model: Model) -> dict[str, Any]:
    spec = _own(model).spec
    return {
        "dependency": spec.dependency(model.frames + 1),
        "pieces": str([spec.pieces(n) for n in range(1, 10)]),
        "sizes": str([spec.filled_size(n, n + 1) for n in range(1, 10)]),
        "JSON": spec.to_json(),
        "digest": spec.digest,
        "limits": f"{spec.stream_limit('encode')} {spec.stream_limit('decode')}",
        "latents": str(dataclasses.astuple(spec.latents)[:4]),
    }


OF_MODELS: Mapping[str, Callable[[Model], Any]] = {
    "coded": _coded,
    "its posterior": _posterior,
    "restored": _restored,
    "in chunks": _model_stream,
    "in tiles": _tiles,
    "in exact chunks": _chunks,
    "in blended tiles": _blended,
    "units": _units,
    "in a file": _files,
    "as released": _names,
    "its spec": _truths,
}
