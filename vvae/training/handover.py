"""What a stage takes over from the one before: weights, averages, the game, and what optimizers remember."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.losses import Objective
from vvae.training import snapshots
from vvae.training.learner import Learner, sharded_as, whole
from vvae.training.muon import Muon


@torch.no_grad()
def unspread(learner: Learner) -> tuple[VideoAutoencoder, dict[str, Tensor]]:
    """The model of a stage in one piece, to be spread again, and the averages of its weights."""
    if learner.world.size == 1 or learner.recipe.parallel == "ddp":
        return learner.model, learner.average
    model = learner.model.spec.build().to(learner.world.device, learner.dtype)
    model.load_state_dict({name: whole(tensor) for name, tensor in learner.model.state_dict().items()})
    return model, {name: whole(tensor) for name, tensor in learner.average.items()}


def hand_over(before: Learner, after: Learner) -> None:
    """`after` goes on where `before` ended with all that means the same in both; the rest starts anew.

    A discriminator that stays is as it was, and what LeCam knows of it; so are log variances that learn in both. What
    optimizers remember goes on for parameters that learn in both, but not between Muon and Adam.
    """
    objective = _staying(before.objective, after.objective)
    after.objective.load_state_dict(objective, strict=False)
    was, now = _by_muon(before), _by_muon(after)
    stays = {*dict(after.model.named_parameters()), *(f"objective.{name}" for name in objective)}
    fits = {name for name in now.keys() & stays if was.get(name) == now[name]}
    named, moved = after.named, snapshots.moved(before.named, before.moving)
    kept = {key: value for key, value in moved.items() if key.rsplit(",", 1)[0] in fits}
    # numbers, as how often a parameter moved, have no shards
    spread = {k: sharded_as(named[k.rsplit(",", 1)[0]], whole(v)) if v.ndim else v for k, v in kept.items()}
    snapshots.move(named, after.moving, spread)


def _staying(before: Objective, after: Objective) -> Mapping[str, Tensor]:
    """State of an objective that means the same in the next one."""
    was, now = before.spec.adversarial, after.spec.adversarial
    plays_on = was is not None and now is not None and was.discriminator == now.discriminator
    learn = [{name for name, p in each.named_parameters() if p.requires_grad} for each in (before, after)]
    return {
        name: tensor
        for name, tensor in before.state_dict().items()
        if name in after.state_dict() and (name in learn[0] & learn[1] if name.startswith("logvars.") else plays_on)
    }


def _by_muon(learner: Learner) -> dict[str, bool]:
    """Of parameters that learn, by name, whether Muon moves them: it remembers other things than Adam does."""
    names = {parameter: name for name, parameter in learner.named.items()}
    return {
        names[parameter]: isinstance(optimizer, Muon)
        for optimizer in learner.moving
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
