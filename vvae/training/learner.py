"""One stage of a run: the model, what is minimised, what moves the weights, and one step of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vvae.autoencoder import VideoAutoencoder
from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian
from vvae.losses import Objective, Report
from vvae.training import order, parallel
from vvae.training.batches import Batch
from vvae.training.guard import first_non_finite
from vvae.training.muon import Muon
from vvae.training.parallel import World
from vvae.training.recipe import OptimizerSpec, Recipe, ScheduleSpec, StageSpec
from vvae.training.start import is_linear

DTYPES = {"bfloat16": torch.float32, "float32": torch.float32, "float64": torch.float64}


class Pair(nn.Module):
    """Encode and decode as one forward pass, which is what is spread over processes."""

    def __init__(self, model: VideoAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, video: Tensor, drawn: Mapping[str, Tensor], noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The posterior's mean and logvar, what is decoded of it (drawn with `noise`, else its mode), the result."""
        posterior = self.model.encode(video, noise=drawn or None)
        latents = posterior.mode() if noise is None else posterior.sample(noise=noise.to(posterior.mean))
        return posterior.mean, posterior.logvar, latents, self.model.decode(replace(posterior, mean=latents))


@dataclass
class Told:
    """What a step says of itself: `loss` is the model's side alone; `applied`: whether it changed a weight."""

    loss: float
    values: dict[str, float]
    gradient: float
    applied: bool
    skipped: Sequence[str] = ()


@dataclass
class Learner:
    """A model in one stage of a recipe, in this process of a world."""

    recipe: Recipe
    stage: StageSpec
    model: VideoAutoencoder
    world: World
    average: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        goal = self.recipe.goal(self.stage)
        self.dtype = DTYPES[self.recipe.precision]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            self.objective: Objective = goal.build(self.model.spec.pixels.channels, reduce=self.world.sum)
        self.objective.to(self.world.device, self.dtype)
        self.model.to(self.world.device, self.dtype).requires_grad_(True).train()
        self.objective.freeze(self.model)
        adaptive = goal.adversarial.adaptive if goal.adversarial else None
        self.last = None if adaptive is None else self.model.get_parameter(adaptive.parameter)
        unsharded = [] if self.last is None else [self.last]
        self.pair = parallel.spread(Pair(self.model), self.recipe.parallel, self.world, unsharded)
        # FSDP does not look at what it leaves whole
        self.left_whole = unsharded if self.recipe.parallel == "fsdp" else []
        self.optimizers = optimizers(self.model, self.stage.optimizer)
        self.judges = [p for p in self.objective.parameters() if p.requires_grad]
        rate = self.stage.optimizer.discriminator or self.stage.optimizer.rate
        self.opponents: list[Optimizer] = [Adam(self.judges, rate, betas=(0.5, 0.9))] if self.judges else []
        for group in self._groups():
            group["full"] = group["lr"]
        if self.recipe.average:
            own = self.model.named_parameters()
            self.average = {name: sharded_as(p, self.average.get(name, p.detach().clone())) for name, p in own}

    @property
    def moving(self) -> list[Optimizer]:
        """All optimizers, the discriminator's too."""
        return [*self.optimizers, *self.opponents]

    @property
    def named(self) -> dict[str, nn.Parameter]:
        """All parameters by name, those of the objective too."""
        objective = {f"objective.{name}": p for name, p in self.objective.named_parameters()}
        return {**dict(self.model.named_parameters()), **objective}

    def step(self, batch: Batch, within: int) -> Told:
        """One step, the stage's number `within`. One that is not finite changes nothing."""
        for group in self._groups():
            group["lr"] = group["full"] * factor(self.stage.schedule, within, self.stage.steps)
        values: dict[str, float] = {}
        loss = 0.0
        for number, part in enumerate(parts(batch, self.stage.batch.accumulate)):
            last = number + 1 == self.stage.batch.accumulate
            with parallel.together(self.pair, last):
                loss += self._pass(part, within, values)
        self.world.agree(p.grad for p in [*self.left_whole, *self.judges] if p.grad is not None)
        length = self._clipped()
        loss = self.world.mean(torch.tensor(loss, dtype=torch.float64, device=self.world.device)).item()
        applied = math.isfinite(loss) and math.isfinite(length)
        if applied:
            for optimizer in self.moving:
                optimizer.step()
            self._take_average(within)
        for optimizer in self.moving:
            optimizer.zero_grad()
        return Told(loss, values, length, applied, batch.skipped)

    def _pass(self, batch: Batch, within: int, values: dict[str, float]) -> float:
        """Gradients of one part of a batch, added to those there are; the model's own share of the loss."""
        share = 1 / self.stage.batch.accumulate
        sides = self.sides(batch.video.to(self.world.device, self.dtype), batch.numbers, within)
        told = {name: value for side in sides for name, value in {**side.notes, **side.terms}.items()}
        # one exchange and one wait for the device, however many there are
        means = self.world.mean(torch.stack([value.double().reshape(()) for value in told.values()])).tolist()
        for name, mean in zip(told, means, strict=True):
            values[name] = values.get(name, 0.0) + share * mean
        return share * sides[0].loss.item()

    def sides(self, video: Tensor, numbers: Sequence[int], within: int) -> tuple[Report, Report]:
        """Forward and backward of the model's side and of the discriminator's, for a part of a batch."""
        share = 1 / self.stage.batch.accumulate
        told, result = self._model_side(video, numbers, within)
        (share * told.loss).backward()
        opposed = self.objective.discriminator_side(video, result.detach(), step=within)
        if opposed.loss.requires_grad:
            (share * opposed.loss).backward()
        return told, opposed

    def _model_side(self, video: Tensor, numbers: Sequence[int], within: int) -> tuple[Report, Tensor]:
        """What the model is told of a pass, to be differentiated, and the clip that came back."""
        with self._arithmetic(), self.objective.watching(self.model) as seen:
            posterior, latents, result = self._forward(video, numbers)
        seen, result = {name: value.to(self.dtype) for name, value in seen.items()}, result.to(self.dtype)
        given = (self.last, video, result, posterior)
        return self.objective.generator(*given, step=within, latents=latents, seen=seen), result

    def _forward(self, video: Tensor, numbers: Sequence[int]) -> tuple[DiagonalGaussian, Tensor, Tensor]:
        drawn, noise = self._noise(video, numbers)
        mean, logvar, latents, result = self.pair(video, drawn, noise if self.stage.sample else None)
        rule = self.model.spec.posterior
        limits = rule.limits if rule.limits_of == "sample" else None
        return DiagonalGaussian(mean, logvar, Fit(*video.shape[2:]), limits), latents, result

    def _noise(self, video: Tensor, numbers: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """What layers draw, by path, and what is drawn from the posterior: of each clip by its own number."""
        shape = (1, *self.model.spec.latent_shape(*video.shape[2:]))
        inside: list[dict[str, Tensor]] = []
        outside: list[Tensor] = []
        for clip, number in zip(video.split(1), numbers, strict=True):
            generator = torch.Generator().manual_seed(order.drawn(self.recipe.seed, number))
            inside.append(self.model.draw(clip, generator))
            outside.append(torch.randn(shape, generator=generator, dtype=torch.float64))
        drawn = {path: torch.cat([each[path] for each in inside]) for path in inside[0]}
        return drawn, torch.cat(outside).to(video)

    def _arithmetic(self) -> Any:
        if self.recipe.precision != "bfloat16" or self.world.device.type == "meta":  # which has no autocast
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self.moving:
            yield from optimizer.param_groups

    def _clipped(self) -> float:
        """The length of the model's gradient, before it is cut to what the stage allows."""
        learning = [p for p in self.model.parameters() if p.grad is not None]
        kinds = [own for own in ([p for p in learning if is_sharded(p) is kind] for kind in (False, True)) if own]
        lengths = [whole(torch.nn.utils.get_total_norm([p.grad for p in own if p.grad is not None])) for own in kinds]
        length = torch.stack(lengths).norm() if lengths else torch.zeros(())
        others = [p.grad.norm() for p in self.judges if p.grad is not None]
        if self.stage.clip_gradient is not None and torch.isfinite(length):
            for own in kinds:
                torch.nn.utils.clip_grads_with_norm_(own, self.stage.clip_gradient, length)
        return length.item() if all(bool(n.isfinite()) for n in others) else math.nan

    @torch.no_grad()
    def _take_average(self, within: int) -> None:
        if self.average:
            # of the whole run: what was averaged in the stages before counts on
            step = self.recipe.first_step(self.stage) + within
            kept = min(self.recipe.average, step / (step + 10))
            weights = dict(self.model.named_parameters())
            averages, now = zip(
                *((shard(mean), shard(weights[name])) for name, mean in self.average.items()), strict=True
            )
            # all at once: one by one takes longer where steps are small
            get_ema_multi_avg_fn(kept)(averages, now, None)

    def why(self, batch: Batch, within: int) -> str:
        """The first layer of which something is not finite, in words."""
        video = batch.video.to(self.world.device, self.dtype)
        if not video.isfinite().all():
            return f"a frame of {', '.join(batch.names)}"
        return first_non_finite(self.model, lambda: self._model_side(video, batch.numbers, within)[0].loss)


# --------------------------------------------------------------------------- pieces of a step


def parts(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in equal parts."""
    size = len(batch.video) // count
    for start in range(0, size * count, size):
        own = slice(start, start + size)
        yield Batch(batch.video[own], batch.names[own], batch.numbers[own])


def factor(schedule: ScheduleSpec, within: int, steps: int) -> float:
    """What rates are multiplied by at a step of a stage, counted from 0."""
    climbs = min(1.0, (within + 1) / schedule.warmup) if schedule.warmup else 1.0
    left = 1 - within / steps
    falls = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[schedule.then]
    return climbs * falls


def optimizers(model: nn.Module, rule: OptimizerSpec) -> list[Optimizer]:
    """What moves the weights of a model that learn; see `OptimizerSpec`."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    kinds: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        kind = "linear" if is_linear(name) else "deep" if parameter.ndim > 1 else "vectors"
        kinds.setdefault((kind, is_sharded(parameter)), []).append(parameter)
    rates = {"deep": rule.rate, "vectors": rule.vectors or rule.rate, "linear": rule.linear or rule.rate}
    found: list[Optimizer] = []
    if rule.kind == "muon":
        found += [Muon(kinds.pop(kind), rule.rate) for kind in list(kinds) if kind[0] == "deep"]
    groups = [{"params": own, "lr": rates[kind]} for (kind, _), own in kinds.items()]
    if groups:
        made = Adam if rule.kind == "adam" else AdamW
        found.append(made(groups, betas=rule.betas, weight_decay=rule.weight_decay))
    return found


def is_sharded(x: Tensor) -> bool:
    return isinstance(x, DTensor)


def sharded_as(parameter: Tensor, x: Tensor) -> Tensor:
    """A whole tensor, in shards where the parameter is."""
    if isinstance(parameter, DTensor) and not isinstance(x, DTensor):
        return distribute_tensor(x, parameter.device_mesh, parameter.placements)
    return x


def shard(x: Tensor) -> Tensor:
    """This process's shard of a tensor that may be sharded; what is written into it stands in the tensor."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """A tensor that may be sharded, in one piece."""
    return x.full_tensor() if isinstance(x, DTensor) else x
