"""The laws of parts (layers, encoders, decoders) in the suite: where each applies, and its cases."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial

import torch

from vvae.verify import laws
from vvae.verify.findings import LawError, UnableError
from vvae.verify.kinds import Kind, kinds_inside, one_of_every_kind
from vvae.verify.laws.calls import calls_inside, spread
from vvae.verify.measure import tensor_of
from vvae.verify.subject import Part
from vvae.verify.suite import EFFORTS, Case, Effort, Law

MOST_SIDE, MOST_GROUPS = 24, 9
"""The largest side of a clip in which a halo is looked for, and the longest clip for the shift law."""

# --------------------------------------------------------------------------- where a law applies


def _any_part(part: Part) -> str | None:
    return None


def _with_reach(part: Part) -> str | None:
    return "no reach in time is claimed" if part.reach is None else None


def _causal(part: Part) -> str | None:
    if part.ahead is None:
        return _with_reach(part)
    return f"outputs see {part.ahead} groups ahead" if part.ahead else None


def _with_lead(part: Part) -> str | None:
    return _causal(part) or (None if part.given.lead else "no frame stands alone at the start")


def _shiftable(part: Part) -> str | None:
    if part.reach is None or not part.exact:
        return "no exact reach in time is declared"
    if part.spec is not None and part.spec.numbers_frames():
        return "what becomes of a frame depends on its number"
    return None if any(_shifts(part, EFFORTS["quick"])) else "every output sees the clip's start"


def _with_spec(part: Part) -> str | None:
    return "it has no spec" if part.spec is None else _alone(part)


def _alone(part: Part) -> str | None:
    return "it reads the features of an image" if part.given.content else None


def _streams(part: Part) -> str | None:
    return _with_spec(part) or (part.spec.stream_limit(part.given) if part.spec else None)


def _with_halo(part: Part) -> str | None:
    if part.spec is None:
        return "no halo is claimed"
    return None if part.spec.halo(part.given) is not None else "it sees whole frames"


def _replicates(part: Part) -> str | None:
    filled = getattr(part.spec, "before", None) == "replicate"
    return None if filled else "its past is not said to be its first frame"


def _learns(part: Part) -> str | None:
    if part.spec is None and part.name != "layer":
        return "each part of a model leaves those of the other one"
    return None if any(p.requires_grad for p in part.module.parameters()) else "it has no parameters"


def _own(part: Part) -> str | None:
    return "it need not keep the layout" if part.spec is None else None


# --------------------------------------------------------------------------- cases


def _lengths(part: Part, effort: Effort) -> Iterator[Case]:
    for seed in range(effort.seeds):
        for groups in part.lengths(effort.groups, 0 if part.given.lead else 1):
            yield {"groups": groups, "seed": seed}


def _groups(part: Part, effort: Effort) -> Iterator[Case]:
    """Clips with a group at least, of which several laws say something only then."""
    yield from (case for case in _lengths(part, effort) if case["groups"])


def _once(part: Part, effort: Effort) -> Iterator[Case]:
    yield {"groups": part.lengths(1)[0], "seed": 0}


def _two_groups(part: Part, effort: Effort) -> Iterator[Case]:
    """Of which a stream makes several chunks."""
    yield {"groups": part.lengths(2, 2)[0], "seed": 0}


def _plans(part: Part, effort: Effort) -> Iterator[Case]:
    for groups in range(1, effort.groups + 1):
        plans = [[groups], [1] * groups, [-1, 0, *[1] * groups, 0], [groups - 1, 0, 1]]
        distinct = plans[1:] if groups == 1 else plans
        yield from ({"groups": groups, "seed": 0, "plan": plan} for plan in distinct)
    # of chunks in which several groups are not the last ones
    yield {"groups": effort.groups + 1, "seed": 0, "plan": [effort.groups, 0, 1]}
    # of chunks that are shorter than what a layer keeps, one after the other
    yield {"groups": effort.groups + 2, "seed": 0, "plan": [1] * (effort.groups + 2)}


def _shifts(part: Part, effort: Effort) -> Iterator[Case]:
    """The shortest clip of which an output does not see the start."""
    assert part.reach is not None
    for groups in part.lengths(MOST_GROUPS, 2):
        if part.takes(groups - 1) and laws.free_rows(part.reach(part.given.frames(groups)), part.given, part.out, 1):
            yield {"groups": groups, "seed": 0}
            return


def _inner(part: Part, effort: Effort) -> Iterator[Case]:
    """The layers at which threads meet: the first, one between, the last."""
    names, groups = {module: name for name, module in part.module.named_modules()}, part.lengths(2, 2)[0]
    for module in spread(calls_inside(part.module, lambda: part.run(part.clip(groups)))):
        yield {"groups": groups, "seed": 0, "inside": names[module]}


def _backends(part: Part, effort: Effort) -> Iterator[Case]:
    """The whole part; where it is ours and the effort is small a layer of every kind inside: all of it takes long."""
    groups = part.lengths(1)[0]
    case = {"groups": groups, "seed": 0, "backend": effort.backend}
    inside: list[str] = []
    if part.spec is not None and effort.backend == "aot_eager":
        inside = _small_layers(part)
        known = kinds_inside(part.before.module, _small_layers(part.before)) if part.before is not None else set()
        inside = _small_layers(part, known) or inside[-1:]
    yield from ({**case, "inside": path} for path in inside) if inside else [case]


def _small_layers(part: Part, but: Iterable[Kind] = ()) -> list[str]:
    return one_of_every_kind(part.module, lambda: part.run(part.clip(part.lengths(1)[0])), but)


# --------------------------------------------------------------------------- one case of each


def _traced(part: Part, groups: int, seed: int) -> float:
    assert part.spec is not None
    return laws.check_traced(part.spec, part.given, [(part.given.frames(groups), part.size[0], 2 * part.size[1])])


def _reach(part: Part, groups: int, seed: int) -> float:
    x = part.clip(groups, seed)
    assert part.reach is not None
    return laws.check_reach(part.run, part.reach(x.shape[2]), x, exact=part.exact)


def _halo(part: Part, groups: int, seed: int) -> float:
    assert part.spec is not None
    halo, ratio = part.spec.halo(part.given), part.out.stride / part.given.stride
    assert halo is not None
    scale = min(math.ceil(2 * (halo + max(ratio, Fraction(1))) / part.size[0]), MOST_SIDE // part.size[0])
    return laws.check_halo(part.run, halo, part.clip(groups, seed, scale=max(1, scale)), ratio)


def _shift(part: Part, groups: int, seed: int) -> float:
    x = part.clip(groups, seed)
    assert part.reach is not None
    return laws.check_shift(part.run, part.given, x, part.out, part.reach(x.shape[2]))


def _first_frame(part: Part, groups: int, seed: int) -> float:
    x = part.clip(groups, seed)
    return laws.check_first_frame(part.run, part.given, x, part.out, tolerance=part.tolerance)


def _prefix(part: Part, groups: int, seed: int) -> float:
    x = part.clip(groups + 1, seed)
    return laws.check_prefix(part.run, part.given, x, part.out, tolerance=part.tolerance)


def _stream(part: Part, groups: int, seed: int, plan: list[int]) -> float:
    # a norm may divide by a pixel's small length, so that rounding grows
    return laws.check_stream(part.module, part.given, part.clip(groups, seed), [plan], tolerance=1e-10)


def _interleaved(part: Part, groups: int, seed: int) -> float:
    clips = part.clip(groups, seed), part.clip(groups, seed + 1)
    return laws.check_interleaved(part.module, part.given, *clips, [1] * groups)


def _threads(part: Part, groups: int, seed: int, inside: str) -> float:
    runs = [partial(part.run, part.clip(groups, seed + which)) for which in (0, 1)]
    return laws.check_threads(part.module.get_submodule(inside), runs, patience=10.0)


def _layout(part: Part, groups: int, seed: int) -> float:
    # torch's convolutions of wider numbers keep it or not by the threads that there are
    return laws.check_layout(part.on(torch.bfloat16), part.clip(groups, seed).bfloat16())


def _checkpointing(part: Part, groups: int, seed: int) -> float:
    x, streams = part.clip(groups, seed), _streams(part) is None
    plan = [1] * groups if streams else []
    signal = part.given if streams else None
    return laws.check_checkpointing(part.module, x, part.run, training=part.spec is not None, signal=signal, plan=plan)


def _gradients(part: Part, groups: int, seed: int) -> float:
    # a model of others may compute some step in float32
    return laws.check_gradients(part.module, part.clip(groups, seed), part.run, rough=part.spec is None)


def _compiled(part: Part, groups: int, seed: int, backend: str, inside: str | None = None) -> float:
    x = part.clip(groups, seed)
    if inside is not None:
        twin = copy.deepcopy(part.module)
        twin.get_submodule(inside).compile(backend=backend)
        return laws.check_compiled(part.run, x, backend=backend, fast=lambda clip: tensor_of(part.call(twin, clip)))
    try:
        return laws.check_compiled(part.run, x, backend=backend)
    except LawError:
        raise
    except Exception as error:
        if part.spec is not None or backend != "aot_eager":
            raise
        # a backend for tests, which fails at strides that the real one takes
        raise UnableError(f"{backend} fails: {error}") from error


LAWS: tuple[Law, ...] = (
    Law("traced", laws.check_traced, _traced, _with_spec, _lengths),
    Law("reach", laws.check_reach, _reach, _with_reach, _lengths),
    Law(
        "group_causal",
        laws.check_group_causal,
        lambda part, groups, seed: laws.check_group_causal(part.run, part.given, part.clip(groups, seed), part.out),
        _causal,
        _groups,
    ),
    Law("shift", laws.check_shift, _shift, _shiftable, _shifts),
    Law(
        "first_frame",
        laws.check_first_frame,
        _first_frame,
        _with_lead,
        _groups,
    ),
    Law(
        "prefix",
        laws.check_prefix,
        _prefix,
        _causal,
        _once,
    ),
    Law(
        "padding",
        laws.check_padding,
        lambda part, groups, seed: laws.check_padding(part.run, part.given, part.clip(groups, seed), part.out),
        _replicates,
        _groups,
    ),
    Law("halo", laws.check_halo, _halo, _with_halo, _once),
    Law("stream", laws.check_stream, _stream, _streams, _plans),
    Law(
        "empty",
        laws.check_empty,
        lambda part, groups, seed: laws.check_empty(part.module, part.given, part.clip(groups, seed), part.out),
        _streams,
        _once,
    ),
    Law(
        "kept",
        laws.check_kept,
        lambda part, groups, seed: laws.check_kept(part.module, part.given, part.clip(groups, seed), [1] * groups),
        _streams,
        _groups,
    ),
    Law("interleaved", laws.check_interleaved, _interleaved, _streams, _groups),
    Law("threads", laws.check_threads, _threads, _any_part, _inner),
    Law(
        "stateless",
        laws.check_stateless,
        lambda part, groups, seed: laws.check_stateless(part.module, part.clip(groups, seed), part.run),
        _any_part,
        _once,
    ),
    Law(
        "untouched",
        laws.check_untouched,
        lambda part, groups, seed: laws.check_untouched(part.module, part.clip(groups, seed), part.run),
        _own,
        _once,
    ),
    Law(
        "batch",
        laws.check_batch,
        lambda part, groups, seed: laws.check_batch(part.run, part.clip(groups, seed), tolerance=part.tolerance),
        _any_part,
        _groups,
    ),
    Law(
        "layout",
        laws.check_layout,
        _layout,
        _own,
        _once,
    ),
    Law("checkpointing", laws.check_checkpointing, _checkpointing, _any_part, _two_groups),
    Law(
        "gradients",
        laws.check_gradients,
        _gradients,
        _any_part,
        _once,
    ),
    Law(
        "parameters",
        laws.check_parameters,
        lambda part, groups, seed: laws.check_parameters(part.module, part.clip(groups, seed), part.run),
        _learns,
        _once,
    ),
    Law(
        "bfloat16",
        laws.check_bfloat16,
        lambda part, groups, seed: laws.check_bfloat16(part.run, part.on(torch.bfloat16), part.clip(groups, seed)),
        _any_part,
        _once,
    ),
    Law("compiled", laws.check_compiled, _compiled, _any_part, _backends),
)
