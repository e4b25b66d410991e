"""What a training run minimises, as data, and the module that computes it: both sides of an adversarial game."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn

from vvae.errors import SpecError, VideoError
from vvae.gaussian import DiagonalGaussian
from vvae.losses import adversarial
from vvae.losses.adversarial import DISCRIMINATOR, GENERATOR, Game, LeCamState
from vvae.losses.lpips import FETCH, LPIPS, SMALLEST_SIDE, refuse_absent
from vvae.losses.patch import AnyPatch
from vvae.losses.shared import Reduce, alone
from vvae.losses.term_specs import AnyTerm, NLLSpec, Pass, StepWeight
from vvae.spec import Spec, nearest

GENERATOR_TERM, DISCRIMINATOR_TERM = "generator", "discriminator"
Last: TypeAlias = nn.Module | Tensor


class AdaptiveSpec(Spec):
    """The adversarial weight that makes both gradients at one parameter equally long; see `adaptive_weight`.

    `parameter` is its path in the model, `against` the term that the adversarial one is measured by.
    """

    parameter: str = "decoder.conv_out.weight"
    against: str = "nll"
    epsilon: PositiveFloat = 1e-4
    largest: PositiveFloat = 1e4


class LeCamSpec(Spec):
    """LeCam regularisation of the discriminator; `decay` of the running averages of its logits."""

    weight: PositiveFloat
    decay: float = Field(0.999, ge=0, lt=1)


class AdversarialSpec(StepWeight):
    """The game against a discriminator, from step `start` on.

    `weight` times `share` (of a ramp) times the adaptive weight, if any, counts for the generator; `factor` multiplies
    both sides. `game` is the discriminator's, `generator` the generator's side of it (that of the game if None).
    `gradient_penalty` and `r1` are weights of penalties on real clips.
    """

    discriminator: AnyPatch
    game: Game = "hinge"
    generator: Game | None = None
    factor: NonNegativeFloat = 1.0
    adaptive: AdaptiveSpec | None = AdaptiveSpec()
    lecam: LeCamSpec | None = None
    gradient_penalty: NonNegativeFloat = 0.0
    r1: NonNegativeFloat = 0.0

    def active(self, step: int) -> bool:
        """Whether the game is on: the discriminator is trained, and the generator plays against it."""
        return step >= self.start and self.factor > 0


class ObjectiveSpec(Spec):
    """What is minimised: terms by name, the game against a discriminator (or none), what of the model stays as it is.

    `frozen` are paths in the model ("encoder"). `lpips` is the file that `vvae convert lpips` wrote, which no published
    objective names: objectives with LPIPS are refused until one does.
    """

    terms: dict[str, AnyTerm] = Field(min_length=1)
    adversarial: AdversarialSpec | None = None
    frozen: tuple[str, ...] = ()
    lpips: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if odd := [name for name in self.terms if not name.isidentifier()]:
            raise SpecError(f"a term is named {odd[0]!r}; give letters, digits and underscores, as 'temporal'")
        if taken := {GENERATOR_TERM, DISCRIMINATOR_TERM} & self.terms.keys():
            raise SpecError(f"a term is named {min(taken)!r}, as a side of the game is; choose another name")
        if self.adversarial is None or self.adversarial.adaptive is None:
            return self
        against = self.adversarial.adaptive.against
        if against not in self.terms:
            raise SpecError(f"the adaptive weight measures by a term that is not there: {nearest(against, self.terms)}")
        if self.terms[against].start > self.adversarial.start:
            raise SpecError(
                f"term {against!r} starts at step {self.terms[against].start}, after the game that is measured by it "
                f"({self.adversarial.start}); let it start first"
            )
        return self

    @property
    def needs_lpips(self) -> tuple[str, ...]:
        """The names of the terms with LPIPS."""
        return tuple(name for name, term in self.terms.items() if term.needs_lpips())

    def check(self) -> None:
        """What `build` asks first: the file of LPIPS, where one is needed, is named and there.

        Raises:
            SpecError: no file is named; it says what to fetch.
            CheckpointError: the file is not there; so does this.
        """
        if not self.needs_lpips:
            return
        if self.lpips is None:
            raise SpecError(
                f"term {self.needs_lpips[0]!r} has LPIPS, and `lpips` names no file of its weights; {FETCH}, "
                "then give lpips=FILE; or choose an objective without LPIPS"
            )
        refuse_absent(self.lpips)

    def check_clip(self, frames: int, height: int, width: int) -> None:
        """VideoError where a clip of that size is too small for LPIPS or the discriminator."""
        if self.needs_lpips and min(height, width) < SMALLEST_SIDE:
            raise VideoError(
                f"LPIPS compares frames of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels; found {height} x {width}"
            )
        if self.adversarial is not None:
            self.adversarial.discriminator.check(frames, height, width)

    def check_model(self, model: nn.Module) -> None:
        """SpecError where the objective names a layer or a parameter that the model lacks."""
        self.frozen_in(model)
        rule = self.adversarial.adaptive if self.adversarial else None
        parameters = dict(model.named_parameters())
        if rule is not None and rule.parameter not in parameters:
            raise SpecError(
                f"the adaptive weight reads a parameter that the model lacks: {nearest(rule.parameter, parameters)}"
            )

    def frozen_in(self, model: nn.Module) -> tuple[str, ...]:
        """The parameters under the paths of `frozen`; SpecError for a path under which the model has none."""
        names = [name for name, _ in model.named_parameters()]
        for path in self.frozen:
            if not any(f"{name}.".startswith(f"{path}.") for name in names):
                raise SpecError(f"nothing to freeze there: {nearest(path, dict(model.named_modules()))}")
        return tuple(name for name in names for path in self.frozen if f"{name}.".startswith(f"{path}."))

    def build(self, channels: int = 3, *, reduce: Reduce = alone) -> Objective:
        """The module for clips of that many channels; `reduce` sums over all processes of a training run.

        Raises:
            SpecError: LPIPS without a file; it says what to fetch.
            CheckpointError: no such file, or one that is none of LPIPS.
        """
        self.check()
        return Objective(self, channels, reduce=reduce)


@dataclass(frozen=True)
class Report:
    """One side's loss, to be differentiated, and what it is made of, detached.

    `loss` is the sum over `terms` of value times weight. `terms` are those that count at this step, and `notes` what
    else is worth a curve: errors, LPIPS, logits, the adaptive weight.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    notes: Mapping[str, Tensor]


class Objective(nn.Module):
    """The losses of a training run. It holds the discriminator, learned log variances, LPIPS and LeCam's averages.

    LPIPS is not in its state dict, and nothing of it is trained.
    """

    discriminator: nn.Module | None
    lecam_real: Tensor
    lecam_fake: Tensor

    def __init__(self, spec: ObjectiveSpec, channels: int = 3, *, reduce: Reduce = alone) -> None:
        super().__init__()
        self.spec, self.reduce = spec, reduce
        game = spec.adversarial
        self.discriminator = None if game is None else game.discriminator.build(channels, reduce=reduce)
        self.lpips = LPIPS.load(spec.lpips) if spec.needs_lpips and spec.lpips is not None else None
        self.logvars = nn.ParameterDict(
            {
                name: nn.Parameter(torch.tensor(term.logvar), requires_grad=term.learned)
                for name, term in spec.terms.items()
                if isinstance(term, NLLSpec)
            }
        )
        if game is not None and game.lecam is not None:
            self.register_buffer("lecam_real", torch.zeros(()))
            self.register_buffer("lecam_fake", torch.zeros(()))

    def generator(
        self,
        last: Last | None,
        video: Tensor,
        result: Tensor,
        posterior: DiagonalGaussian | None,
        *,
        step: int,
        latents: Tensor | None = None,
        seen: Mapping[str, Tensor] | None = None,
    ) -> Report:
        """The model's side: every term that has started, and the game once it is on.

        `last` is the model, or the parameter that the adaptive weight names (None without such a weight). `latents` is
        what was decoded, `seen` what `watching` saw: for objectives that read them. The discriminator gets no
        gradients. Under `torch.no_grad()` the adaptive weight is 1.
        """
        given = Pass(video, result, posterior, latents, seen or {}, self.lpips, dict(self.logvars))
        values: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for name, term in self.spec.terms.items():
            if share := term.share(step):
                values[name] = term.value(name, given)
                weights[name] = values[name].new_tensor(term.weight * share)
        game = self.spec.adversarial
        if game is not None and game.active(step):
            assert self.discriminator is not None
            with _fixed(self.discriminator):
                fake = self.discriminator(result)
            values[GENERATOR_TERM] = GENERATOR[game.generator or game.game](fake)
            adaptive = self._adaptive(game, last, values)
            given.notes["adaptive_weight"] = adaptive
            weights[GENERATOR_TERM] = adaptive * (game.weight * game.share(step) * game.factor)
        given.notes.update({f"{name}.logvar": value.detach() for name, value in self.logvars.items()})
        return _report(values, weights, given.notes, video)

    def _adaptive(self, game: AdversarialSpec, last: Last | None, values: Mapping[str, Tensor]) -> Tensor:
        rule = game.adaptive
        if rule is None or not torch.is_grad_enabled():
            return values[GENERATOR_TERM].new_ones(())
        if last is None:
            raise VideoError("this objective has an adaptive weight; give the model, or the parameter that it names")
        parameter = last.get_parameter(rule.parameter) if isinstance(last, nn.Module) else last
        if not parameter.requires_grad:
            raise SpecError(f"the adaptive weight reads the gradient at {rule.parameter}, which does not learn; let it")
        pair = values[rule.against], values[GENERATOR_TERM]
        return adversarial.adaptive_weight(
            *pair, parameter, epsilon=rule.epsilon, largest=rule.largest, reduce=self.reduce
        )

    def discriminator_side(self, video: Tensor, result: Tensor, *, step: int) -> Report:
        """The discriminator's side; the model gets no gradients. Before the game is on: 0, without a graph."""
        game = self.spec.adversarial
        if game is None or not game.active(step):
            return _report({}, {}, {}, video)
        assert self.discriminator is not None
        slopes = {"gradient_penalty": adversarial.gradient_penalty, "r1": adversarial.r1}
        penalties = {name: weight for name in slopes if (weight := getattr(game, name)) and torch.is_grad_enabled()}
        video = video.detach().requires_grad_(bool(penalties))
        real, fake = self.discriminator(video), self.discriminator(result.detach())
        values = {DISCRIMINATOR_TERM: DISCRIMINATOR[game.game](real, fake)}
        weights = {DISCRIMINATOR_TERM: game.factor, **penalties}
        values |= {name: slopes[name](real, video) for name in penalties}
        if game.lecam is not None:
            values["lecam"], weights["lecam"] = self._lecam(game.lecam, real, fake), game.lecam.weight
        notes = {"logits_real": real.detach().mean(), "logits_fake": fake.detach().mean()}
        return _report(values, {name: real.new_tensor(weight) for name, weight in weights.items()}, notes, video)

    def _lecam(self, rule: LeCamSpec, real: Tensor, fake: Tensor) -> Tensor:
        """The term by the averages so far, which then take in these logits; in eval mode they stay as they are."""
        state = LeCamState(self.lecam_real, self.lecam_fake)
        if self.training:
            after = state.after(real, fake, rule.decay, reduce=self.reduce)
            self.lecam_real, self.lecam_fake = after.real, after.fake
        return adversarial.lecam(real, fake, state, reduce=self.reduce)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[dict[str, Tensor]]:
        """What the layers that the terms compare give in the forward passes inside, by path, joined in time.

        Raises:
            SpecError: the model has no layer at such a path.
        """
        paths = frozenset().union(*(term.reads() for term in self.spec.terms.values()))
        layers = dict(model.named_modules())
        seen: dict[str, Tensor] = {}
        hooks = []
        for path in sorted(paths):
            if path not in layers:
                raise SpecError(f"the objective compares a layer that the model lacks: {nearest(path, layers)}")

            def see(_: nn.Module, __: object, out: Tensor, path: str = path) -> None:
                seen[path] = torch.cat([seen[path], out], 2) if path in seen else out

            hooks.append(layers[path].register_forward_hook(see))
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def freeze(self, model: nn.Module) -> tuple[str, ...]:
        """Parameters under the paths of `frozen` stop learning; their names.

        Raises:
            SpecError: a path under which the model has none.
        """
        found = self.spec.frozen_in(model)
        for name in found:
            model.get_parameter(name).requires_grad_(False)
        return tuple(found)


def _report(
    values: Mapping[str, Tensor], weights: Mapping[str, Tensor], notes: Mapping[str, Tensor], video: Tensor
) -> Report:
    loss = sum((weights[name] * value for name, value in values.items()), start=video.new_zeros(()))
    return Report(loss, {name: value.detach() for name, value in values.items()}, dict(weights), dict(notes))


@contextmanager
def _fixed(module: nn.Module) -> Iterator[None]:
    """What passes meanwhile leaves no gradients in the module's parameters."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
