"""The objective of latent diffusion's autoencoders, which those of video autoencoders vary."""

from __future__ import annotations

from vvae.losses.adversarial import Game
from vvae.losses.objective import AdaptiveSpec, AdversarialSpec, ObjectiveSpec
from vvae.losses.patch import AnyPatch
from vvae.losses.term_specs import AnyTerm, KLSpec, NLLSpec

NLL = NLLSpec(perceptual=1.0)
KL = KLSpec(weight=1e-6)


def latent_diffusion(
    discriminator: AnyPatch | None = None,
    *,
    start: int = 50001,
    weight: float = 0.5,
    factor: float = 1.0,
    ramp: int = 0,
    game: Game = "hinge",
    adaptive: AdaptiveSpec | None = AdaptiveSpec(),  # noqa: B008, frozen
    nll: NLLSpec = NLL,
    kl: KLSpec = KL,
    **more: AnyTerm,
) -> ObjectiveSpec:
    """NLL with LPIPS, KL, and from step `start` on a game whose weight follows the gradients (no game: None).

    The other fields of the game are those of `AdversarialSpec`; `more` are further terms.
    Source: `LPIPSWithDiscriminator` of CompVis' latent-diffusion (arXiv 2112.10752).
    """
    rules = {"start": start, "weight": weight, "factor": factor, "ramp": ramp, "game": game, "adaptive": adaptive}
    played = None if discriminator is None else AdversarialSpec(discriminator=discriminator, **rules)
    return ObjectiveSpec(terms={"nll": nll, "kl": kl, **more}, adversarial=played)
