"""What a layer is, as data: frozen, validated, loadable from JSON, open to kinds from anywhere."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeAlias, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError
from torch import nn

from vvae.errors import SpecError
from vvae.reach import Reach, same_frame
from vvae.signal import Signal

L = TypeVar("L", bound="LayerSpec")
T = TypeVar("T")


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """`name` beside the known names that look like it, for an error message."""
    if not known:
        return f"{name!r} is unknown; there is none"
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:6]
    return f"{name!r} is unknown; near it: {', '.join(close)}"


def one_of(what: str, name: str, known: Mapping[str, T]) -> T:
    """What stands under `name` among the known.

    Raises:
        SpecError: nothing does; it says which names look like it.
    """
    if name not in known:
        raise SpecError(f"{what} {nearest(str(name), known)}")
    return known[name]


def with_variant(
    variant: str | None, variants: Mapping[str, Mapping[str, Any]], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a variant (of none: nothing), overridden by `fields`.

    Raises:
        SpecError: an unknown variant.
    """
    return {**({} if variant is None else one_of("variant", variant, variants)), **fields}


@contextmanager
def at(name: str) -> Iterator[None]:
    """Errors from inside are led by `name`."""
    try:
        yield
    except SpecError as error:
        raise error.under(name) from None


class Spec(BaseModel):
    """A frozen piece of data; unknown keys are errors, and so is everything that `trace` finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _as_spec_error(error, type(self)) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: not JSON, unknown keys or kinds, values of a wrong type, or a wiring that cannot work.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _as_spec_error(error, cls) from None

    def to_json(self) -> str:
        """The spec as text, from which `from_json` makes an equal one.

        Raises:
            SpecError: a layer inside cannot be written; led by its path.
        """
        try:
            return self.model_dump_json()
        except PydanticSerializationError as error:
            for name, child in self.children().items():
                with at(name):
                    child.to_json()
            raise SpecError(f"cannot be saved: {_short(str(error))}; a spec holds plain data only") from None

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
            raise SpecError(f"no layer there: {nearest(name, self.children())}; give the path of a layer", (name,))
        if not isinstance(layer, LayerSpec | None):
            raise SpecError(f"{layer!r} is no layer; give a LayerSpec, or fields by name", (name,))
        with at(name):
            new = child.replace_at(rest, layer, **fields) if rest else (layer or child).replace(**fields)
        return self._with_child(name, new)

    def replace_each(self, kind: type[L], make: Callable[[L], LayerSpec]) -> Self:
        """A copy in which every layer of the class `kind`, however deep, is what `make` gives for it.

        >>> spec.replace_each(layers.SiLUSpec, lambda act: layers.ReLUSpec())  # doctest: +SKIP
        """

        def changed(name: str, part: Any) -> Any:
            with at(name):
                return make(part) if isinstance(part, kind) else part.replace_each(kind, make)

        children, fields = self.children(), self._fields()
        for owner, value in fields.items():
            if owner in children:
                fields[owner] = changed(owner, value)
            elif isinstance(value, Mapping):
                own = {name: changed(name, part) for name, part in value.items() if isinstance(part, LayerSpec)}
                fields[owner] = {**value, **own}
        return type(self)(**fields) if children else self

    def children(self) -> dict[str, Spec]:
        """The layers that this spec owns, and the parts that own some, by the name under which they stand in a path."""
        found: dict[str, Spec] = {}
        for name, value in self._fields().items():
            if isinstance(value, LayerSpec) or (isinstance(value, Spec) and value.children()):
                found[name] = value
            elif isinstance(value, Mapping):
                found.update({key: layer for key, layer in value.items() if isinstance(layer, LayerSpec)})
        return found

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def _with_child(self, name: str, layer: Spec) -> Self:
        for owner, layers in self._fields().items():
            if isinstance(layers, Mapping) and name in layers:
                return self.replace(**{owner: {**layers, name: layer}})
        return self.replace(**{name: layer})

    def __str__(self) -> str:
        return "\n".join(_tree(self, "", 0))

    def __repr__(self) -> str:
        return str(self)


def _as_spec_error(error: ValidationError, owner: type[Spec]) -> SpecError:
    """One line for what pydantic found first; an error of ours is led by the path to the layer that it is about."""
    # an unknown field comes first: where it is a slip of the pen, another one is missing
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    loc = [str(part) for part in first["loc"]]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        return SpecError(cause.message, (*_path(loc, owner), *cause.path))
    if first["type"] == "extra_forbidden":
        return SpecError(f"field {nearest(loc[-1], owner.model_fields)}")
    where = "".join(f"{part}: " for part in [".".join(loc)] if part)
    found = "" if first["type"] in ("missing", "json_invalid") else f" (found {_short(repr(first['input']))})"
    return SpecError(f"{where}{_short(first['msg'])}{found}")


def _path(loc: list[str], owner: type[Spec]) -> list[str]:
    """A place in the data as a path of layers: the field that holds layers by name is no step of it."""
    by_name = len(loc) > 1 and get_origin(owner.model_fields[loc[0]].annotation) is dict
    return loc[1:2] if by_name else loc[:1]


def _short(text: str) -> str:
    """One line of at most 120 letters."""
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _holds_layers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(part, LayerSpec) for part in value.values())


def _tree(spec: Spec, name: str, depth: int) -> Iterator[str]:
    children = spec.children()
    owned = {k for k, v in spec._fields().items() if k in children or _holds_layers(v)}
    shown = [
        f"{key}={' '.join(repr(value).split())}"
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
            raise SpecError(
                f"{frames} frames are not {signal.lead} + whole groups of {signal.group}; give whole groups"
            )
        return groups

    def halo(self, signal: Signal) -> Fraction | None:
        """Cells of the input around a cell of it that matter in space; None: the whole frame."""
        return None

    def cell(self, signal: Signal) -> int:
        """Pixels of which height and width must be multiples, so that no layer inside meets a broken cell."""
        return math.lcm(signal.stride.numerator, self.trace(signal).stride.numerator)

    def stream_limit(self, signal: Signal) -> str | None:
        """Why this layer cannot run in a stream; None: it can."""
        return None

    def numbers_frames(self) -> bool:
        """Whether what becomes of a frame depends on its number in the clip or on the clip's length."""
        return any(isinstance(child, LayerSpec) and child.numbers_frames() for child in self.children().values())

    def draws(self, signal: Signal) -> dict[str, Signal]:
        """The noise that this layer wants, by path below it ("" for the layer itself)."""
        return {}

    def reads(self) -> frozenset[str]:
        """The names of the content features that layers inside read."""
        layers = (child for child in self.children().values() if isinstance(child, LayerSpec))
        return frozenset().union(*(layer.reads() for layer in layers))


class FrameLayerSpec(LayerSpec):
    """A layer in which every frame sees itself alone."""

    def reach(self, signal: Signal, frames: int) -> Reach:
        return same_frame(frames)


def _resolve(value: Any) -> Any:
    """A layer from its JSON form: `kind` names the class."""
    if isinstance(value, LayerSpec) or not isinstance(value, Mapping):
        return value
    kind = str(value.get("kind"))
    if kind not in LayerSpec.kinds:
        for home in ("vvae.layers", "vvae.published.legacy"):  # they define the kinds that ship
            import_module(home)
    if kind not in LayerSpec.kinds:
        raise SpecError(f"kind {nearest(kind, LayerSpec.kinds)}; import the module that defines it")
    return LayerSpec.kinds[kind].model_validate(dict(value))


AnyLayer = Annotated[SerializeAsAny[LayerSpec], BeforeValidator(_resolve)]
"""The type of a field that holds a layer of any kind."""


class NamedLayers(dict[str, LayerSpec]):
    """Layers by name, read-only. Equal where names, layers and their order are; hashable."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __reduce__(self) -> tuple[type[NamedLayers], tuple[dict[str, LayerSpec]]]:
        return NamedLayers, (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the layers of a spec are frozen; make a new spec with replace_at or replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


Layers: TypeAlias = Annotated[dict[str, AnyLayer], AfterValidator(NamedLayers)]
"""The type of a field that holds layers by name, in order."""

_ANY_LAYER: TypeAdapter[LayerSpec] = TypeAdapter(AnyLayer)


def layer_from_json(text: str | bytes) -> LayerSpec:
    """The layer spec of whatever kind that `to_json` wrote.

    Raises:
        SpecError: as `Spec.from_json`.
    """
    try:
        return _ANY_LAYER.validate_json(text)
    except ValidationError as error:
        raise _as_spec_error(error, LayerSpec) from None
