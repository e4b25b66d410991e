"""What a layer is, as data: frozen, validated, loadable from JSON, open to kinds from anywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError
from torch import nn

from vvae.errors import SpecError
from vvae.reach import Reach, same_frame
from vvae.signal import Signal


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """`name` beside the known names that look like it, for an error message."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)[:6]
    return f"{name!r} is unknown; near it: {', '.join(close)}"


@contextmanager
def at(name: str) -> Iterator[None]:
    """Errors from inside are led by `name`."""
    try:
        yield
    except SpecError as error:
        raise error.under(name) from None


class Spec(BaseModel):
    """A frozen piece of data; unknown keys are errors, and so is everything that `trace` finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _as_spec_error(error) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: not JSON, unknown keys or kinds, values of a wrong type, or a wiring that cannot work.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _as_spec_error(error) from None

    def to_json(self) -> str:
        return self.model_dump_json(exclude_defaults=False)

    def replace(self, **fields: Any) -> Self:
        """A copy with other field values, validated like any new spec."""
        return type(self)(**{**self._fields(), **fields})

    def replace_at(self, path: str, layer: LayerSpec | None = None, /, **fields: Any) -> Self:
        """A copy with another layer at the dotted `path`, or with other fields of the layer there.

        >>> spec.replace_at("encoder.level0.block0.conv_a.motion", group=2)  # doctest: +SKIP
        """
        name, _, rest = path.partition(".")
        child = self.children().get(name)
        if child is None:
            raise SpecError(f"no layer there: {nearest(name, self.children())}", (name,))
        with at(name):
            new = child.replace_at(rest, layer, **fields) if rest else (layer or child).replace(**fields)
        return self._with_child(name, new)

    def children(self) -> dict[str, LayerSpec]:
        """The layers that this spec owns, by the name under which they stand in a path."""
        found: dict[str, LayerSpec] = {}
        for name, value in self._fields().items():
            if isinstance(value, LayerSpec):
                found[name] = value
            elif isinstance(value, Mapping):
                found.update({key: layer for key, layer in value.items() if isinstance(layer, LayerSpec)})
        return found

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def _with_child(self, name: str, layer: LayerSpec) -> Self:
        if name in type(self).model_fields:
            return self.replace(**{name: layer})
        owner = next(k for k, v in self._fields().items() if isinstance(v, Mapping) and name in v)
        return self.replace(**{owner: {**getattr(self, owner), name: layer}})

    def __str__(self) -> str:
        return "\n".join(_tree(self, "", 0))

    def __repr__(self) -> str:
        return str(self)


def _as_spec_error(error: ValidationError) -> SpecError:
    """One line for what pydantic found first; an error of ours keeps its path."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        return cause
    where = ".".join(str(part) for part in first["loc"])
    found = "" if first["type"] in ("missing", "json_invalid") else f" (found {first['input']!r})"
    return SpecError(f"{where}: {first['msg']}{found}" if where else f"{first['msg']}{found}")


def _tree(spec: Spec, name: str, depth: int) -> Iterator[str]:
    children = spec.children()
    owned = {k for k, v in spec._fields().items() if isinstance(v, LayerSpec | Mapping)}
    shown = [
        f"{key}={value!r}"
        for key, value in spec._fields().items()
        if key not in owned | {"kind"} and value != type(spec).model_fields[key].default
    ]
    title = getattr(spec, "kind", type(spec).__name__)
    head = f"{name}: " if name else ""
    yield "  " * depth + head + title + (f"({', '.join(shown)})" if shown else "")
    for key, child in children.items():
        yield from _tree(child, key, depth + 1)


class LayerSpec(Spec):
    """What a layer is. A subclass with `kind: Literal["my_package.my_layer"] = ...` is known to JSON from then on.

    Never holds the number of input channels: the signal brings it. A subclass states `trace`, `build` and `reach`;
    the rest has defaults that are right for a layer without memory of its own.
    """

    kinds: ClassVar[dict[str, type[LayerSpec]]] = {}
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        literal = get_args(cls.model_fields["kind"].annotation)
        if not literal:  # an abstract spec
            return
        kind = literal[0]
        known = LayerSpec.kinds.setdefault(kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SpecError(f"kind {kind!r} is defined by {known.__module__}.{known.__qualname__}; choose another name")
        LayerSpec.kinds[kind] = cls

    def trace(self, signal: Signal) -> Signal:
        """What comes out of this layer for that input.

        Raises:
            SpecError: the layer cannot stand behind this signal. Whatever is accepted here builds.
        """
        raise NotImplementedError

    def build(self, signal: Signal) -> nn.Module:
        """The layer for that input: `forward(x, ctx=WHOLE_CLIP)`, x of shape `b c t h w`."""
        raise NotImplementedError

    def reach(self, signal: Signal, frames: int) -> Reach:
        """Which input frames each output frame sees, for a clip of that many frames."""
        raise NotImplementedError

    def frames(self, signal: Signal, frames: int) -> int:
        """How many frames come out of `frames` that go in.

        Raises:
            SpecError: a clip of that length does not pass through this layer.
        """
        out = self.trace(signal)
        if (signal.lead, signal.group) == (out.lead, out.group):
            return frames
        return out.frames(self.whole_groups(signal, frames))

    @staticmethod
    def whole_groups(signal: Signal, frames: int) -> int:
        """The whole groups behind the lead of a clip of that length; SpecError where it has a broken one."""
        groups, rest = divmod(frames - signal.lead, signal.group)
        if rest or groups < 0:
            raise SpecError(f"{frames} frames are not {signal.lead} + whole groups of {signal.group}")
        return groups

    def halo(self, signal: Signal) -> Fraction | None:
        """Cells of the input around a cell of it that matter in space; None: the whole frame."""
        return None

    def stream_limit(self, signal: Signal) -> str | None:
        """Why this layer cannot run in a stream; None: it can."""
        return None

    def draws(self, signal: Signal) -> dict[str, Signal]:
        """The noise that this layer wants, by path below it ("" for the layer itself)."""
        return {}


class FrameLayerSpec(LayerSpec):
    """A layer in which every frame sees itself alone."""

    def reach(self, signal: Signal, frames: int) -> Reach:
        return same_frame(frames)


def _resolve(value: Any) -> Any:
    """A layer from its JSON form: `kind` names the class."""
    if isinstance(value, LayerSpec) or not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind not in LayerSpec.kinds:
        raise SpecError(f"kind {nearest(str(kind), LayerSpec.kinds)}; import the module that defines it")
    return LayerSpec.kinds[kind].model_validate(dict(value))


AnyLayer = Annotated[SerializeAsAny[LayerSpec], BeforeValidator(_resolve)]
"""The type of a field that holds a layer of any kind."""


def layer_from_json(text: str) -> LayerSpec:
    """The layer spec of whatever kind that `to_json` wrote."""
    return _Holder.from_json(f'{{"layer": {text}}}').layer


class _Holder(Spec):
    layer: AnyLayer
