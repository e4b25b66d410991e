"""What must be known of an architecture so that its released checkpoints are recognised."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from torch import Tensor

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import CheckpointError
from vvae.published.table import Rename
from vvae.spec import nearest

Shapes = Mapping[str, Sequence[int]]
Fields = Mapping[str, Any]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """What no tensor tells, so that a person must say it.

    about: what it is, to follow "no tensor tells". options: the answers by name, and the fields that each stands for.
    number: a field for which any whole number above 0 is an answer too.
    """

    name: str
    about: str
    options: Mapping[str, Fields]
    number: str | None = None

    def fields(self, answer: object) -> Fields:
        """The fields that an answer stands for, a name of the options or a number.

        Raises:
            CheckpointError: no such answer; lists the options.
        """
        told = str(answer).lower() if answer is None or isinstance(answer, bool) else str(answer)
        if told in self.options:
            return self.options[told]
        if self.number is not None and told.isascii() and told.isdecimal() and int(told):
            return {self.number: int(told)}
        raise CheckpointError(f"{self.name}={told}: {nearest(told, self.options)}; {self.ask()}")

    def ask(self) -> str:
        """What to say: "choose padding=zero or padding=replicate"."""
        said = [f"{self.name}={option}" for option in self.options]
        listed = " or ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
        return f"choose {listed}" + (" or another number" if self.number else "")

    def settled_by(self, known: Fields) -> bool:
        """Whether these fields leave nothing of it open."""
        return all(fields.keys() <= known.keys() for fields in self.options.values())


def _no_choices(fields: Fields) -> tuple[Choice, ...]:
    return ()


def _one_form(fields: Fields) -> tuple[Fields, ...]:
    return ({},)


def _no_constants(spec: VideoAutoencoderSpec, naming: str) -> Mapping[str, Tensor]:
    return {}


def _nothing(told: Mapping[str, Any]) -> Fields:
    return {}


def of_diffusers(config: Config, kind: str, keys: Mapping[str, str], read: Callable[[Config], Fields]) -> Fields:
    """The fields that diffusers' config.json says: where it names the class all, for absent keys are defaults.

    kind: the class. keys: names of the config with the field that each stands for. read: all fields of a config.
    """
    found = config.get("_class_name")
    if found not in (None, kind):
        return {}
    fields = read(config)
    return fields if found else {own: fields[own] for key, own in keys.items() if key in config}


def _network(spec: VideoAutoencoderSpec) -> tuple[object, ...]:
    return spec.encoder, spec.decoder, spec.content


@dataclass(frozen=True)
class Family:
    """One architecture. `namings`: the ways in which releases name its tensors.

    make: its spec function, `make(variant, **fields)`. variants: the releases by name, with their fields; those fields
    that `layout` does not give stand in no tensor. layout: the fields behind the shapes of a checkpoint of that naming;
    KeyError and the like where it is none. told: the fields in words.

    forms: fields to add, one set for each spec that computes what the published code does; the first is taken. choices:
    what a person must say of tensors with these fields. config: the fields that a config.json says, none of those that
    it leaves out, and keys that it does not know aside; SpecError where it says what cannot be had. values: the fields
    that tensors hold by value (a scale that is a buffer), from the published names. constants: these tensors again, for
    a spec under a naming.
    """

    architecture: str
    make: Callable[..., VideoAutoencoderSpec]
    variants: Mapping[str, Fields]
    namings: tuple[str, ...]
    renames: Callable[[VideoAutoencoderSpec, str], tuple[Rename, ...]]
    layout: Callable[[Shapes, str], Fields]
    told: Callable[[Fields], str]
    forms: Callable[[Fields], tuple[Fields, ...]] = field(default=_one_form)
    choices: Callable[[Fields], tuple[Choice, ...]] = field(default=_no_choices)
    config: Callable[[Config], Fields] = field(default=_nothing)
    values: Callable[[Mapping[str, Tensor]], Fields] = field(default=_nothing)
    constants: Callable[[VideoAutoencoderSpec, str], Mapping[str, Tensor]] = field(default=_no_constants)

    def specs(self, fields: Fields) -> tuple[VideoAutoencoderSpec, ...]:
        """The specs of those fields that compute what the published code does; constants are the defaults."""
        return tuple(self.make(**{**fields, **form}) for form in self.forms(fields))

    def has_network(self, spec: VideoAutoencoderSpec, fields: Fields) -> bool:
        """Whether the published code of those fields computes what the spec says."""
        return any(_network(spec) == _network(made) for made in self.specs(fields))

    def computes(self, spec: VideoAutoencoderSpec, fields: Fields) -> bool:
        """The same with any answers to what no tensor tells."""
        options = [choice.options.values() for choice in self.choices(fields)]
        answers = (ChainMap(*map(dict, chosen)) for chosen in product(*options))
        return any(self.has_network(spec, {**fields, **answer}) for answer in answers)
