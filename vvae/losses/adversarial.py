"""Adversarial terms: both sides of three games, what keeps a discriminator calm, and the adaptive weight.

`real` and `fake` are what a discriminator gives (logits, of any shape), and every mean is over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.losses.shared import Reduce, alone, shared_mean

Game: TypeAlias = Literal["hinge", "vanilla", "non_saturating"]


def generator_hinge(fake: Tensor) -> Tensor:
    """-mean fake. The generator's side of "hinge", and in all publications also of "vanilla"."""
    return -fake.mean()


def generator_non_saturating(fake: Tensor) -> Tensor:
    """mean -log sigmoid(fake). Source: `AdversarialLoss` of Open-Sora."""
    return F.softplus(-fake).mean()


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 (mean max(0, 1 - real) + mean max(0, 1 + fake))."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def discriminator_vanilla(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 (mean -log sigmoid(real) + mean -log(1 - sigmoid(fake))): cross entropy, also of "non_saturating"."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


GENERATOR: Mapping[Game, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"hinge": generator_hinge, "vanilla": generator_hinge, "non_saturating": generator_non_saturating}
)
DISCRIMINATOR: Mapping[Game, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"hinge": discriminator_hinge, "vanilla": discriminator_vanilla, "non_saturating": discriminator_vanilla}
)


# --------------------------------------------------------------------------- a calm discriminator


@dataclass(frozen=True)
class LeCamState:
    """Running averages of the mean logits of real and of generated clips, one number each."""

    real: Tensor
    fake: Tensor

    def after(self, real: Tensor, fake: Tensor, decay: float = 0.999, *, reduce: Reduce = alone) -> LeCamState:
        """The averages one step later: decay old + (1 - decay) mean, over all processes."""
        means = (shared_mean(logits.detach().mean(), reduce) for logits in (real, fake))
        olds = (self.real, self.fake)
        return LeCamState(*(old * decay + mean.to(old) * (1 - decay) for old, mean in zip(olds, means, strict=True)))


def lecam(real: Tensor, fake: Tensor, state: LeCamState, *, reduce: Reduce = alone) -> Tensor:
    """max(0, mean real - average fake)^2 + max(0, average real - mean fake)^2.

    Source: LeCam regularisation (arXiv 2104.03310) as `DiscriminatorLoss` of Open-Sora has it.
    """
    mean_real, mean_fake = shared_mean(real.mean(), reduce), shared_mean(fake.mean(), reduce)
    value: Tensor = F.relu(mean_real - state.fake).square() + F.relu(state.real - mean_fake).square()
    return value


def gradient_penalty(logits: Tensor, video: Tensor) -> Tensor:
    """Mean over the batch of (||d sum(logits) / d video|| - 1)^2; the video must require gradients.

    Source: `gradient_penalty_fn` of Open-Sora.
    """
    lengths = torch.linalg.vector_norm(_slope(logits, video), dim=1)
    value: Tensor = (lengths - 1.0).square().mean()
    return value


def r1(logits: Tensor, video: Tensor) -> Tensor:
    """Mean over the batch of ||d sum(logits) / d video||^2, of real clips; papers weigh it by gamma / 2.

    Source: arXiv 1801.04406, section 4.1.
    """
    return _slope(logits, video).square().sum(1).mean()


def _slope(logits: Tensor, video: Tensor) -> Tensor:
    """The gradient of each clip, `b values`, itself differentiable."""
    return torch.autograd.grad(logits.sum(), video, create_graph=True)[0].flatten(1)


# --------------------------------------------------------------------------- the adaptive weight


def adaptive_weight(
    reference: Tensor,
    adversarial: Tensor,
    parameter: nn.Parameter | Tensor,
    *,
    epsilon: float = 1e-4,
    largest: float = 1e4,
    reduce: Reduce = alone,
) -> Tensor:
    """min(||d reference / d parameter|| / (||d adversarial / d parameter|| + epsilon), largest), a constant.

    The weight that makes the adversarial term pull at the parameter, the last of the decoder, as hard as the reference
    term does; the gradients are means over all processes before their norm is taken. The graph of both stays. Where
    the parameter had no part, as one for groups of frames in a single frame, the weight is 0.
    Source: `calculate_adaptive_weight` of VQGAN (arXiv 2012.09841, section 3.1), in all publications alike.
    """
    norms = [
        shared_mean(torch.autograd.grad(term, parameter, retain_graph=True, materialize_grads=True)[0], reduce).norm()
        for term in (reference, adversarial)
    ]
    ratio: Tensor = norms[0] / (norms[1] + epsilon)
    return ratio.clamp(0.0, largest).detach()
