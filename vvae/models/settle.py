"""What no tensor of a released checkpoint tells: said by a release, by a config.json, or by a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import CheckpointError, SpecError
from vvae.models.family import Choice, Config, Family, Fields
from vvae.models.sources import CONFIG
from vvae.spec import nearest

VARIANT = "variant"


@dataclass(frozen=True)
class Settled:
    """A spec of which nothing is open: the release that it is one of (None: no release has its shapes), and why so."""

    spec: VideoAutoencoderSpec
    variant: str | None
    why: str


def settle(family: Family, fields: Fields, where: str, config: Config, answers: Mapping[str, object]) -> Settled:
    """The spec of these fields, with what no tensor tells from `answers`, else from `config`, else from the release.

    Raises:
        CheckpointError: something is open, or two of them contradict each other; lists what can be said.
    """
    case = _Case(family, fields, _stated(family, fields, config, where), answers)
    about = f"{where}: is {family.architecture} of {family.told(fields)}"
    if case.said and case.donors and case.said not in case.donors:
        which = case.which_release()
        raise CheckpointError(f"{about}, not {case.said}; no tensor tells {which.about}: {which.ask()}")
    if open_ := list(case.open_choices()):
        asked = "; ".join(f"{choice.about}: {choice.ask()}" for choice in open_)
        raise CheckpointError(f"{about}, and no tensor tells {asked}")
    try:
        return case.settled()
    except SpecError as error:
        said = _list({**case.stated, **answers})
        raise CheckpointError(f"{about}; with {said} it cannot be built: {error}") from None


def _stated(family: Family, fields: Fields, config: Config, where: str) -> dict[str, Any]:
    """What the config.json says and the tensors do not; refused where the two disagree."""
    try:
        stated = dict(family.config(config))
    except (SpecError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = error if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{where}: the {CONFIG} beside it cannot be used: {reason}; repair it") from None
    for name in sorted(stated.keys() & fields.keys()):
        if stated[name] != fields[name]:
            raise CheckpointError(
                f"{where}: the {CONFIG} beside it says {name} {stated[name]}, the tensors {fields[name]}; "
                "move it away if it belongs to another model"
            )
    return {name: value for name, value in stated.items() if name not in fields}


@dataclass(frozen=True)
class _Case:
    """One checkpoint: the fields that its tensors tell, what a config.json states besides, what a person answers."""

    family: Family
    fields: Fields
    stated: Fields
    answers: Mapping[str, object]

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """What may be answered, the release aside."""
        choices = {choice.name: choice for choice in self.family.choices(self.fields)}
        for name, answer in self.answers.items():
            if name not in (known := {**choices, VARIANT: None}):
                raise CheckpointError(
                    f"{name}={answer}: of {self.family.architecture} the choice {nearest(name, known)}"
                )
        return choices

    @cached_property
    def said(self) -> str | None:
        """The release that was named."""
        said = self.answers.get(VARIANT)
        if said is not None and said not in self.family.variants:
            raise CheckpointError(f"variant {nearest(str(said), self.family.variants)}")
        return None if said is None else str(said)

    @cached_property
    def known(self) -> dict[str, Any]:
        """What is said besides the tensors, what comes first in the end."""
        own = self.untold(self.said) if self.said else {}
        answered = (self.choices[name].fields(answer) for name, answer in self.answers.items() if name != VARIANT)
        chosen = {name: value for fields in answered for name, value in fields.items()}
        return {**self.stated, **own, **chosen}

    def untold(self, variant: str) -> dict[str, Any]:
        """What a release has and no tensor tells."""
        return {name: value for name, value in self.family.variants[variant].items() if name not in self.fields}

    @cached_property
    def constants(self) -> list[str]:
        """What releases have and no tensor tells."""
        return list(dict.fromkeys(name for variant in self.family.variants for name in self.untold(variant)))

    def agrees(self, variant: str) -> bool:
        """Whether nothing that is known contradicts this release."""
        own, found = self.family.variants[variant], {**self.fields, **self.known}
        return all(own[name] == found[name] for name in own.keys() & found.keys())

    @cached_property
    def donors(self) -> dict[str, VideoAutoencoderSpec]:
        """The releases with this network, with what is known; those that nothing contradicts, if there are any."""
        fitting = dict(self._fitting())
        return {name: spec for name, spec in fitting.items() if self.agrees(name)} or fitting

    def _fitting(self) -> Iterator[tuple[str, VideoAutoencoderSpec]]:
        for name in self.family.variants:
            try:
                spec = self.family.make(name, **self.known)
                fits = self.family.has_network(spec, {**self.fields, **self.untold(name), **self.known})
            except SpecError:  # what is known does not go with this release
                continue
            if fits:
                yield name, spec

    @cached_property
    def variant(self) -> str | None:
        """The release of which the rest is taken; None where several differ in it, or there is none."""
        if self.said or not self.donors:
            return self.said
        first, *others = self.donors.values()
        return next(iter(self.donors)) if all(spec.replace(name=first.name) == first for spec in others) else None

    def open_choices(self) -> Iterator[Choice]:
        """What a person must still say."""
        open_ = [c for c in self.choices.values() if c.name not in self.answers and not c.settled_by(self.known)]
        yield from open_
        coming = {name for choice in open_ for fields in choice.options.values() for name in fields}
        if self.variant is None and not set(self.constants) <= self.known.keys() | coming:
            yield self.which_release()

    def which_release(self) -> Choice:
        """The choice of a release: of those with the network, or of all."""
        names = list(self.donors)
        have = f"{' and '.join(names)} {'have' if len(names) > 1 else 'has'}" if names else "no release has"
        about = f"whose {' and '.join(self.constants)} it has ({have} these shapes)"
        return Choice(VARIANT, about, {name: {} for name in names or self.family.variants})

    def settled(self) -> Settled:
        """The spec; SpecError where what is said does not fit together."""
        untold = self.untold(self.variant) if self.variant else {}
        taken = {name: value for name, value in untold.items() if self.known.get(name, value) == value}
        own = {**self.fields, **taken, **self.known}
        is_release = self.variant in self.donors and self.agrees(str(self.variant))
        if is_release:
            spec = self.family.make(self.variant, **self.known)
        else:
            spec = self.family.make(**{**self.family.forms(own)[0], **own})
        return Settled(spec, self.variant if is_release else None, "; ".join(self._reasons(taken, is_release)))

    def _reasons(self, taken: Fields, is_release: bool) -> Iterator[str]:
        """What no tensor tells, by who says it."""
        if stated := {name: value for name, value in self.stated.items() if self.known[name] is value}:
            yield f"{_list(stated)}, from {CONFIG}"
        if chosen := {name: answer for name, answer in self.answers.items() if name != VARIANT}:
            yield f"{_list(chosen)}, as chosen"
        if rest := {name: value for name, value in taken.items() if name not in self.stated or self.said}:
            yield f"{_list(rest)}, {'as published for' if is_release else 'taken from'} {self.variant}"


def _list(fields: Fields) -> str:
    return ", ".join(f"{name} {' '.join(str(value).split())}" for name, value in fields.items())
