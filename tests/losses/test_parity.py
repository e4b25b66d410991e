"""Losses, discriminators and LPIPS against what published code returned, gradients included."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import parity
from tests.parity import Case
from vvae.arch import open_sora, tae
from vvae.arch.open_sora import published_fields, renames
from vvae.arch.reducio import patch_3d_halved
from vvae.arch.tae import published_fields as tae_fields
from vvae.arch.tae import renames as tae_renames
from vvae.autoencoder import VideoAutoencoder
from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian, PosteriorSpec
from vvae.layers.layer import unfold_frames
from vvae.losses import (
    LPIPS,
    AdaptiveSpec,
    KLSpec,
    LeCamState,
    NLLSpec,
    Objective,
    ObjectiveSpec,
    OutlierSpec,
    Patch2dSpec,
    Patch3dSpec,
    PatchSpec,
    Report,
    adaptive_weight,
    discriminator_hinge,
    discriminator_vanilla,
    generator_hinge,
    generator_non_saturating,
    gradient_penalty,
    kl_map,
    latent_outliers,
    lecam,
    mean_over_frames,
    nll_map,
)
from vvae.losses.latent_diffusion import latent_diffusion
from vvae.losses.lpips import SCALE, SHIFT, TAMING
from vvae.losses.patch import published_names
from vvae.losses.term_specs import Pass
from vvae.published.legacy.discriminators import ActNorm, BlurDiscriminator, blur, start_from
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
ARCHITECTURES = ("image_vae", "iv_vae", "od_vae", "open_sora", "reducio", "tae")


@DTYPES
@pytest.mark.parametrize("case", [case for arch in ARCHITECTURES for case in parity.cases(arch, about="losses")])
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get((case.arch, case.data["published_class"]))
    assert run is not None, f"not understood: {case.data['published_class']}"
    case.check(run(case, dtype), dtype)


def numbers(value: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


# --------------------------------------------------------------------------- networks with published weights


SLICES = tuple(
    Rename(f"net.slice{i}.{2 * j + (i > 1)}.weight", f"conv{i}_{j + 1}.weight")
    for i, depth in enumerate((2, 2, 3, 3, 3), 1)
    for j in range(depth)
)
"""The names of VGG16 in MindSpore: places are counted anew in each slice, and there are no biases."""
LINEAR = TAMING[-5:]


@lru_cache(maxsize=4)
def lpips_weights(names: tuple[tuple[str, tuple[int, ...]], ...], prefix: str) -> dict[str, Tensor]:
    """By own names, of any case whose weights have these names: making them takes a second."""
    values = parity._values()
    made = {name: torch.from_numpy(values.weight(name, shape)) for name, shape in names}
    table = TAMING if any(name.endswith(".bias") for name in made) else (*SLICES, *LINEAR)
    shapes = {own_name(table, name.removeprefix(prefix)): shape for name, shape in names}
    return to_own(table, {name.removeprefix(prefix): value for name, value in made.items()}, shapes)[0]


def own_name(table: tuple[Rename, ...], published: str) -> str:
    rows = (row for row in table if published.startswith(str(row.published).rstrip(".")))
    row = next(row for row in rows if published == row.published or str(row.published).endswith("."))
    return f"{row.own}{published.removeprefix(str(row.published))}"


@lru_cache(maxsize=4)
def lpips_with(names: tuple[tuple[str, tuple[int, ...]], ...], prefix: str, dtype: torch.dtype) -> LPIPS:
    return RememberingLPIPS(lpips_weights(names, prefix)).to(dtype)


class RememberingLPIPS(LPIPS):
    """LPIPS that knows what it said of these very tensors a moment ago: many cases compare the same clips.

    A distance depends on its own frame alone, so that one gradient of their sum holds those of all.
    """

    asked: tuple[Tensor, Tensor] | None = None

    def forward(self, source: Tensor, result: Tensor) -> Tensor:
        if not result.requires_grad:
            return super().forward(source, result)
        if self.asked is None or self.asked[0] is not source or self.asked[1] is not result:
            self.asked = source, result
            self.answer = super().forward(source, result)
            (self.slope,) = torch.autograd.grad(self.answer.sum(), result, retain_graph=True)
        moved = ((result - result.detach()) * self.slope).sum((1, 3, 4), keepdim=True)
        return self.answer.detach() + moved


def lpips_of(case: Case, dtype: torch.dtype, prefix: str = "") -> LPIPS:
    parts = (f"{prefix}net.", f"{prefix}lin")
    names = tuple((name, tuple(shape)) for name, shape in case.names.items() if name.startswith(parts))
    made = lpips_with(names, prefix, dtype)
    for own, name, exact in ((made.shift, "shift", SHIFT), (made.scale, "scale", SCALE)):
        if case.arch == "tae":  # its files were made in double precision, constants included
            own.copy_(numbers(exact, dtype).view(own.shape))
        else:
            kept = case.data["kept"][f"{prefix}scaling_layer.{name}"]
            assert torch.equal(own.double().flatten(), numbers(kept, torch.float64).flatten())
    return made


def discriminator_of(case: Case, spec: PatchSpec, dtype: torch.dtype, prefix: str = "", channels: int = 3) -> nn.Module:
    weights = case.weights(lambda name: name.startswith(f"{prefix}main."))
    made = spec.build(channels)
    parity.load(made, published_names(spec, f"{prefix}main."), weights, dtype)
    return made.eval()


def frames_as_clips(x: Tensor) -> Tensor:
    return x.unsqueeze(2) if x.ndim == 4 else x


def posterior_of(moments: Tensor) -> DiagonalGaussian:
    return PosteriorSpec(limits=(-30.0, 20.0)).posterior(frames_as_clips(moments), Fit(1, 1, 1))


# --------------------------------------------------------------------------- the objective of latent diffusion


Given = tuple[Tensor, Tensor, Tensor, Tensor]


def convolved(case: Case, dtype: torch.dtype, last_kernel: int) -> Given:
    """Video, result, moments, the weight of the layer that made the result: the same tensors for equal inputs."""
    sizes = {name: tuple(case.data["inputs"][name]) for name in ("video", "features", "moments")}
    assert "input_scale" not in case.data
    return _convolved(tuple(sizes.items()), dtype, last_kernel)


@lru_cache(maxsize=4)
def _convolved(sizes: tuple[tuple[str, tuple[int, ...]], ...], dtype: torch.dtype, kernel: int) -> Given:
    values = parity._values()
    video, features, moments = (torch.from_numpy(values.uniform(f"in.{name}", size)).to(dtype) for name, size in sizes)
    shape = (video.shape[1], features.shape[1], kernel, kernel, kernel)
    last = torch.from_numpy(values.weight("last_layer.weight", shape)).to(dtype).requires_grad_()
    return video, F.conv3d(features, last, padding=kernel // 2), moments, last


@dataclass(frozen=True)
class Played:
    """An objective with weights, and what a model gave whose last layer has the weight `last`."""

    objective: Objective
    video: Tensor
    result: Tensor
    posterior: DiagonalGaussian
    last: Tensor

    @classmethod
    def of(cls, case: Case, spec: ObjectiveSpec, dtype: torch.dtype, video: Tensor, *rest: Any) -> Played:
        objective = Objective(spec, video.shape[1]).to(dtype)
        if spec.needs_lpips:
            objective.lpips = lpips_of(case, dtype, "perceptual_loss.")
        if spec.adversarial is not None:
            rule = spec.adversarial.discriminator
            objective.discriminator = discriminator_of(case, rule, dtype, "discriminator.", video.shape[1])
        assert numbers(case.data["kept"]["logvar"], torch.float64) == objective.logvars["nll"].double()
        return cls(objective.eval(), video, *rest)

    def always_on(self) -> Played:
        """The same with the game on from the first step, for what is told before it starts."""
        game = self.objective.spec.adversarial
        assert game is not None
        rule = game.replace(start=0, ramp=0, factor=1.0)
        other = Objective(self.objective.spec.replace(adversarial=rule)).to(self.video.dtype)
        other.lpips, other.discriminator = self.objective.lpips, self.objective.discriminator
        other.logvars = self.objective.logvars
        return Played(other.train(self.objective.training), self.video, self.result, self.posterior, self.last)

    def generator(self, step: int) -> Report:
        return self.objective.generator(self.last, self.video, self.result, self.posterior, step=step)

    def discriminator(self, step: int) -> Report:
        return self.objective.discriminator_side(self.video, self.result, step=step)

    def term(self, name: str) -> Tensor:
        """A term without its weight, with its graph."""
        objective = self.objective
        given = Pass(self.video, self.result, self.posterior, lpips=objective.lpips, logvars=dict(objective.logvars))
        return objective.spec.terms[name].value(name, given)

    def slope(self, loss: Tensor) -> Tensor:
        """The gradient at the last layer."""
        return torch.autograd.grad(loss, self.last, retain_graph=True)[0]

    def slope_of_discriminator(self, loss: Tensor) -> Tensor:
        """The gradient at its first convolution; 0 of a loss without a graph."""
        weight = self.objective.get_parameter("discriminator.conv0.weight")
        return torch.autograd.grad(loss, weight)[0] if loss.requires_grad else torch.zeros_like(weight)

    def told(self, step: int, *, before: bool = True, off: float | None = None) -> dict[str, Tensor]:
        """What the published code logs on the generator's side, `before` the game is on, too.

        `off`: the weight that it tells where the game is off for good (None: the one that it would have).
        """
        report = self.generator(step)
        game = self.objective.spec.adversarial
        assert game is not None
        played = report if game.active(step) or not before else self.always_on().generator(step)
        weight = played.notes.get("adaptive_weight", torch.zeros(()))
        weight = weight * game.weight * game.share(max(step, game.start))
        if off is not None and not game.factor:
            weight = torch.full_like(weight, off)
        return {
            "loss": report.loss,
            "total_loss": report.loss,
            "logvar": report.notes["nll.logvar"],
            "kl_loss": report.terms["kl"],
            "nll_loss": report.terms["nll"],
            "rec_loss": report.notes["nll.error"],
            "d_weight": weight,
            "disc_factor": report.loss.new_tensor(game.factor if step >= game.start else 0.0),
            "g_loss": played.terms.get("generator", torch.zeros(())),
            "grad_last_layer": self.slope(report.loss),
        }

    def told_of_discriminator(self, step: int) -> dict[str, Tensor]:
        report = self.discriminator(step)
        game = self.objective.spec.adversarial
        assert game is not None
        played = report if game.active(step) else self.always_on().discriminator(step)
        logits = {name: played.notes[name] for name in ("logits_real", "logits_fake")}
        return {"loss": report.loss, "disc_loss": report.loss, **logits}


def ldm_spec(c: Mapping[str, Any], discriminator: PatchSpec | None, **more: Any) -> ObjectiveSpec:
    """Our objective for the constructor's arguments of the published loss."""
    nll = NLLSpec(
        perceptual=c.get("perceptual_weight", 1.0), logvar=c.get("logvar_init", 0.0), error=c.get("loss_type", "l1")
    )
    return latent_diffusion(
        discriminator,
        nll=nll,
        kl=KLSpec(weight=c.get("kl_weight", 1.0)),
        start=c.get("disc_start", 0),
        weight=c.get("disc_weight", 1.0),
        factor=c.get("disc_factor", 1.0),
        game=c.get("disc_loss", "hinge"),
        **more,
    )


def image_loss(case: Case, dtype: torch.dtype) -> Outputs:
    h, x, moments = (frames_as_clips(case.input(f"loss_ldm.{name}", dtype)) for name in ("h", "x", "moments"))
    last = torch.as_tensor(case.weights(lambda name: name == "last_layer")["last_layer"]).to(dtype).requires_grad_()
    result = F.conv3d(h, last.unsqueeze(2), padding=(0, 1, 1))
    c = case.config
    spec = ldm_spec(c, Patch2dSpec(width=width_of(case, "discriminator."), layers=c.get("disc_num_layers", 3)))
    played = Played.of(case, spec, dtype, x, result, posterior_of(moments), last)
    found: dict[str, Tensor] = {}
    for step in sorted({int(name[1:].partition(".")[0]) for name in case.data["outputs"]}):
        found |= {f"g{step}.{name}": value for name, value in played.told(step, off=0.0).items()}
        found |= {f"d{step}.{name}": value for name, value in played.told_of_discriminator(step).items()}
    return {name: found[name] for name in case.data["outputs"]}


def width_of(case: Case, prefix: str = "") -> int:
    return case.names[f"{prefix}main.0.weight"][0]


def od_discriminator(case: Case, prefix: str = "") -> PatchSpec:
    """Of which kind it is, its first kernel and its release tell."""
    kernel = case.names[f"{prefix}main.0.weight"][2:]
    layers = case.config.get("n_layers", case.config.get("disc_num_layers", 3))
    if len(kernel) == 2:
        norm = "act" if case.config.get("use_actnorm") else "batch"
        return Patch2dSpec(width=width_of(case, prefix), layers=layers, norm=norm)
    halvings = 1 if kernel[0] == 4 else 2
    return Patch3dSpec(width=width_of(case, prefix), layers=layers, kernel=kernel[0], time_halvings=halvings)


def od_loss(case: Case, dtype: torch.dtype) -> Outputs:
    video, result, moments, last = convolved(case, dtype, 1)
    rest = result, posterior_of(moments), last
    simple = case.data["published_class"].endswith("SimpleLPIPS")
    discriminator = None if simple else od_discriminator(case, "discriminator.")
    played = Played.of(case, ldm_spec(case.config, discriminator), dtype, video, *rest)
    played.objective.train(case.data.get("train", False))
    if simple:
        report = played.generator(0)
        found = {
            "loss": report.loss,
            "total_loss": report.loss,
            "logvar": report.notes["nll.logvar"],
            "kl_loss": report.terms["kl"],
            "nll_loss": report.terms["nll"],
            "rec_loss": report.notes["nll.error"],
            "p_loss": report.notes["nll.lpips"],
            "grad_last_layer": played.slope(report.loss),
        }
    else:
        call = case.data["call_arguments"]
        if call["optimizer_idx"] == 0:
            started = call["global_step"] >= case.config["disc_start"]
            return played.told(call["global_step"], before=started or case.data["release"] != "v1.2.0", off=1.0)
        found = played.told_of_discriminator(call["global_step"])
        found["grad_discriminator.main.0.weight"] = published_kernel(case, played.slope_of_discriminator(found["loss"]))
    return found


def published_kernel(case: Case, weight: Tensor) -> Tensor:
    return weight.reshape(case.data["outputs"]["grad_discriminator.main.0.weight"])


# --------------------------------------------------------------------------- Reducio


def reducio_spec(case: Case) -> ObjectiveSpec:
    c = case.config
    val = case.data["arguments"].get("split", "train") != "train"
    discriminator = patch_3d_halved(c["disc_ch"], c.get("disc_num_layers", 3), "tanh" if c["act_tanh"] else "leaky")
    adaptive = AdaptiveSpec() if c["use_adaptive_gan"] and not val else None
    return latent_diffusion(
        discriminator,
        nll=NLLSpec(
            weight=c["rec_weight"],
            error=c["loss_norm"],
            perceptual=c["perceptual_weight"],
            over="all",
            logvar=c.get("logvar_init", 0.0),
        ),
        kl=KLSpec(weight=c["kl_weight"]),
        outliers=OutlierSpec(of="pixel", weight=c.get("penalty_weight", 1.0), radius=c.get("penalty_radius", 3.0)),
        start=c["disc_start"],
        weight=1.0 if val else c["disc_weight"],
        ramp=0 if val or adaptive else c.get("warm_d_weight_steps", 0),
        factor=c.get("disc_factor", 1.0),
        game=c.get("disc_loss", "hinge"),
        adaptive=adaptive,
    )


def reducio_loss(case: Case, dtype: torch.dtype) -> Outputs:
    video, result, moments, last = convolved(case, dtype, 3)
    spec, step = reducio_spec(case), case.data["arguments"]["global_step"]
    played = Played.of(case, spec, dtype, video, result, posterior_of(moments), last)
    played.objective.train(case.data["arguments"].get("train", True))
    told, judged = played.told(step), played.told_of_discriminator(step)
    since, warm = step - case.config["disc_start"], case.config.get("warm_d_weight_steps", 0)
    if since < 0 < warm and not case.config["use_adaptive_gan"]:  # the ramp is told before it starts, too
        told["d_weight"] = told["d_weight"] * (since + 1)
    report = played.generator(step)
    assert played.objective.discriminator is not None
    fake = played.objective.discriminator(result)
    nll_slope = played.slope(played.term("nll"))
    weighed = told["d_weight"] * told["g_loss"] * told["disc_factor"]
    found = {
        **told,
        **judged,
        "loss": told["loss"],
        "total_loss_ae": told["loss"],
        "loss_discriminator": judged["loss"],
        "grad_discriminator_first": played.slope_of_discriminator(judged["loss"]),
        "p_loss": report.notes.get("nll.lpips", torch.zeros(())),
        "nll_grads": nll_slope.norm(),
        "g_grads": played.slope(generator_hinge(fake)).norm(),
        "weighted_nll_loss": report.terms["nll"] * report.weights["nll"],
        "penalty_loss": report.terms["outliers"] * report.weights["outliers"],
        "weighted_kl_loss": report.terms["kl"] * report.weights["kl"],
        "weighted_g_loss": weighed,
    }
    return {name: found[name] for name in case.data["outputs"]}


# --------------------------------------------------------------------------- Open-Sora


def sora_spec(c: Mapping[str, Any]) -> ObjectiveSpec:
    nll = NLLSpec(perceptual=c.get("perceptual_loss_weight", 0.1), logvar=c.get("logvar_init", 0.0))
    return ObjectiveSpec(terms={"nll": nll, "kl": KLSpec(weight=c.get("kl_loss_weight", 1e-6))})


def sora_loss(case: Case, dtype: torch.dtype) -> Outputs:
    given = {name.partition(".")[2]: case.input(name, dtype) for name in case.data["inputs"]}
    result, moments = given["recon"].requires_grad_(), given["moments"].requires_grad_()
    objective = Objective(sora_spec(case.config), result.shape[1]).to(dtype)
    objective.lpips = lpips_of(case, dtype, "perceptual_loss_fn.")
    assert objective.logvars["nll"].double() == numbers(case.data["kept"]["logvar"], torch.float64)
    report = objective.generator(None, given["video"], result, posterior_of(moments), step=0)
    found = {
        "nll": report.terms["nll"],
        "weighted_nll": report.terms["nll"],
        "weighted_kl": report.terms["kl"] * report.weights["kl"],
    }
    if "grad_recon" in case.data["outputs"]:
        found["grad_recon"], found["grad_moments"] = torch.autograd.grad(report.loss, (result, moments))
    if "nll_weights" in given:
        logvar, gap = objective.logvars["nll"], (given["video"] - result).abs()
        distance = sora_spec(case.config).terms["nll"].perceptual * objective.lpips(given["video"], result)
        weights = unfold_frames(given["nll_weights"], gap.shape[0])
        values = nll_map(gap + distance, logvar)
        found["nll_no_perceptual"] = mean_over_frames(nll_map(gap, logvar))
        found["weighted_nll_with_weights"] = mean_over_frames(weights * values)
        found["nll_with_weights"] = mean_over_frames(values)
    return found


def sora_lpips(case: Case, dtype: torch.dtype) -> Outputs:
    x, y = (case.input(f"loss_lpips.{name}", dtype) for name in ("input", "target"))
    module = lpips_of(case, dtype)
    x.requires_grad_()
    value = module(frames_as_clips(x), frames_as_clips(y)).flatten(1, 2).unsqueeze(3).reshape(-1, 1, 1, 1)
    features = module.features(x)
    return {
        "value": value,
        "grad_input": torch.autograd.grad(value.sum(), x)[0],
        **{f"relu{i}": feature for i, feature in enumerate(features, 1)},
    }


def plain_lpips(case: Case, dtype: torch.dtype) -> Outputs:
    one, other = (frames_as_clips(case.input(name, dtype)) for name in case.data["inputs"])
    return {"output": lpips_of(case, dtype)(one, other).reshape(-1, 1, 1, 1)}


def sora_discriminator(case: Case, dtype: torch.dtype) -> Outputs:
    """In eval mode, then in train mode."""
    (name,) = case.data["inputs"]
    x = case.input(name, dtype)
    module = discriminator_of(case, sora_patch(case), dtype, channels=x.shape[1])
    with torch.no_grad():
        found = {"logits_eval": module(frames_as_clips(x)), "logits_train": module.train()(frames_as_clips(x))}
    return {name: value.reshape(case.data["outputs"][name]) for name, value in found.items()}


def sora_patch(case: Case, prefix: str = "") -> PatchSpec:
    width, layers = width_of(case, prefix), case.config.get("n_layers", 3)
    over_time = len(case.names[f"{prefix}main.0.weight"]) == 5
    if over_time:
        return Patch3dSpec(width=width, layers=layers, kernel=4, time_halvings=1)
    return Patch2dSpec(width=width, layers=layers)


BLUR_NAMES = (
    Rename("conv1.", "conv_in."),
    Rename("conv2.", "conv_out."),
    Rename("norm1.", "norm_out."),
    Rename("linear1.", "linear_a."),
    Rename("linear2.", "linear_b."),
    Rename("res_block_list.{i}.conv1.", "blocks.{i}.conv_a."),
    Rename("res_block_list.{i}.norm1.", "blocks.{i}.norm_a."),
    Rename("res_block_list.{i}.conv2.", "blocks.{i}.shortcut."),
    Rename("res_block_list.{i}.conv3.", "blocks.{i}.conv_b."),
    Rename("res_block_list.{i}.norm2.", "blocks.{i}.norm_b."),
)


def sora_blur(case: Case, dtype: torch.dtype) -> Outputs:
    c, x = case.config, case.input("disc_blur.x", dtype)
    widths = [c["filters"], *(c["filters"] * m for m in c["channel_multipliers"])]
    module = BlurDiscriminator(
        (c["num_frames"], *c["image_size"]), c["in_channels"], widths=widths, groups=c["num_groups"]
    )
    weights = case.weights(lambda name: not name.endswith("filt"), by_rule=True)
    parity.load(module, BLUR_NAMES, weights, dtype)
    with torch.no_grad():
        return {"logits": module(x), "blur": blur(x)}


def sora_games(case: Case, dtype: torch.dtype) -> Outputs:
    real, fake = (case.input(f"loss_discriminator.{name}", dtype) for name in ("real", "fake"))
    c = case.config
    games = {"hinge": discriminator_hinge, "vanilla": discriminator_vanilla, "non_saturating": discriminator_vanilla}
    told = [float(number) for number in re.findall(r"ema_\w+ (-?[\d.]+\d)", case.data["call"])]
    found = {"lecam": c["lecam_loss_weight"] * lecam(real, fake, LeCamState(*numbers(told, dtype)))}
    for name in case.data["outputs"]:
        game, step = name.rpartition("_step")[::2]
        if game:
            factor = c["discriminator_factor"] * (int(step) >= c["discriminator_start"])
            found[name] = factor * games[game](real, fake)
    return found


def sora_averages(case: Case, dtype: torch.dtype) -> Outputs:
    pairs = [[float(x) for x in pair] for pair in re.findall(r"\((-?[\d.]+), (-?[\d.]+)\)", case.data["call"])]
    state, rows = LeCamState(*numbers([0.0, 0.0], dtype)), []
    for real, fake in pairs:
        state = state.after(numbers([real], dtype), numbers([fake], dtype), case.config["decay"])
        rows.append(torch.stack([state.real, state.fake]))
    return {"ema": torch.stack(rows)}


def sora_penalty(case: Case, dtype: torch.dtype) -> Outputs:
    (name,) = case.data["inputs"]
    x = case.input(name, dtype)
    module = discriminator_of(case, sora_patch(case), dtype, channels=x.shape[1])
    video = frames_as_clips(x).requires_grad_()
    return {"penalty": gradient_penalty(module(video), video)}


def sora_adversarial(case: Case, dtype: torch.dtype) -> Outputs:
    c, given = case.config, {name.partition(".")[2]: case.input(name, dtype) for name in case.data["inputs"]}
    last = case.weights(lambda name: name == "last_layer")["last_layer"].to(dtype).requires_grad_()
    result = frames_as_clips(F.conv2d(given["h"], last, padding=1))
    module = discriminator_of(case, sora_patch(case, "discriminator."), dtype, "discriminator.")
    nll, fake = mean_over_frames((result - frames_as_clips(given["target"])).abs()), module(result)
    games = {"hinge": generator_hinge, "non_saturating": generator_non_saturating}
    found = {}
    for output in case.data["outputs"]:
        name, _, asked = re.split("_(adaptive_weight|step)", output)
        weight = adaptive_weight(nll, games[name](fake), last) * c["generator_factor"]
        factor = c["discriminator_factor"] * (int(asked or 0) >= c["discriminator_start"])
        found[output] = weight * factor * games[name](fake) if asked else weight
    return found


def sora_stages(case: Case, dtype: torch.dtype) -> Outputs:
    model = open_sora(**published_fields(case.config)).build()
    kept = {name: numbers(value, torch.float64) for name, value in case.data["kept"].items()}
    published = {**case.weights(lambda name: not name.startswith("vvae"), by_rule=True), **kept}
    own = {name: value for name, value in published.items() if not name.startswith("vae_loss.")}
    parity.load(model, renames(model.spec), own, dtype)
    prefix = next(name.partition(".")[0] for name in case.data["inputs"] if name.endswith(".x"))
    x = case.input(f"{prefix}.x", dtype)
    noise = {"encoder.spatial.draw": unfold_frames(case.input("pipeline.noise_spatial", dtype), x.shape[0])}
    objectives = {name: Objective(spec).to(dtype) for name, spec in open_sora.objectives.items()}
    objectives["stage3"].lpips = lpips_of(case, dtype, "vae_loss.perceptual_loss_fn.")
    with objectives["stage1"].watching(model) as seen:
        posterior = model.encode(x, noise=noise, framing="published")
        z = posterior.sample(noise=case.input("pipeline.noise_temporal.0", dtype))
        result = model.decode(z, frames=x.shape[2])
    ends = {"conv_out": "decoder.temporal.conv_out.weight", "spatial_conv_in": "encoder.spatial.image.conv_in.weight"}
    found: dict[str, Tensor] = {}
    for name, objective in objectives.items():
        report = objective.generator(model, x, result, posterior, step=0, latents=z, seen=seen)
        found[name] = report.loss
        for end, path in ends.items():
            (slope,) = torch.autograd.grad(report.loss, model.get_parameter(path), retain_graph=True)
            found[f"grad_{name}_{end}"] = slope.reshape(case.data["outputs"][f"grad_{name}_{end}"])
        named = {"nll": "nll", "weighted_nll": "nll", "weighted_kl": "kl", "z_nll": "latents", "identity": "identity"}
        found |= {told: report.terms[own] * report.weights[own] for told, own in named.items() if own in report.terms}
    return {name: value for name, value in found.items() if name in case.data["outputs"]}


# --------------------------------------------------------------------------- TAE


def tae_outliers(case: Case, dtype: torch.dtype) -> Outputs:
    """Of the latents as the call makes them."""
    factor, power = (int(number) for number in re.findall(r"(\d+) \* latent\*\*(\d+)", case.data["call"])[0])
    return {"output": latent_outliers(factor * case.input("latent", dtype) ** power, case.config["std_scale"])[None]}


def tae_kl(case: Case, dtype: torch.dtype) -> Outputs:
    posterior = DiagonalGaussian(case.input("mean", dtype), case.input("logvar", dtype), Fit(1, 1, 1))
    return {"output": kl_map(posterior).sum((1, 2, 3))}


def tae_pixels(case: Case, dtype: torch.dtype) -> Outputs:
    c, video, result = case.config, case.input("video", dtype), case.input("recons", dtype)
    posterior = DiagonalGaussian(case.input("mean", dtype), case.input("logvar", dtype), Fit(1, 1, 1))
    told = re.search(r"nll_weights = (\S+) \+ (\S+) uniform\('(in\.nll_weights)', \[(.*?)\]\)", case.data["call"])
    gap, frames = (video - result).abs(), video.shape[0] * video.shape[2]
    if "pixelwise_mean=True" in case.data["call"]:
        gap = (video - result).square().mean()[None]
    values = nll_map(gap, numbers(c["logvar_init"], dtype))
    weighted = values
    if told is not None:
        shape = tuple(int(size) for size in told[4].split(","))
        drawn = torch.from_numpy(case.values.uniform(told[3], shape)).to(dtype)
        weighted = values * unfold_frames(float(told[1]) + float(told[2]) * drawn, video.shape[0])
    kl = KLSpec(weight=c["kl_weight"], per="frame")
    report = Objective(ObjectiveSpec(terms={"kl": kl})).generator(None, video, result, posterior, step=0)
    found = {"nll_mean": values.mean(), "weighted_nll": mean_over_frames(weighted, frames), "weighted_kl": report.loss}
    return {name: value[None] for name, value in found.items()}


def tae_generator(case: Case, dtype: torch.dtype) -> Outputs:
    """The whole loss of a small model, which another case tells."""
    small = next(c.values[0] for c in parity.cases("tae") if c.values[0].data["case"] == case.data["names_of"][0])
    model = tae(**tae_fields(small.config)).build()
    assert isinstance(model, VideoAutoencoder)
    parity.load(model, tae_renames(model.spec), small.weights(), dtype)
    c, x = case.config, case.input("video", dtype)
    objective = Objective(tae_spec(c)).to(dtype)
    objective.lpips = lpips_of(case, dtype)
    factor, power = (int(number) for number in re.findall(r"(\d+) \* noise\*\*(\d+)", case.data["call"])[0])
    with torch.no_grad():
        posterior = model.encode(x, framing="published")
        z = posterior.sample(noise=factor * case.input("noise", dtype) ** power)
        result = model.decode(z, frames=x.shape[2])
        report = objective.generator(model, x, result, posterior, step=0, latents=z)
    found = {
        "total": report.loss,
        "weighted_nll": report.terms["nll"],
        "weighted_kl": report.terms["kl"] * report.weights["kl"],
        "opl": report.terms["outliers"],
    }
    return {"z": z, **{name: value[None] for name, value in found.items()}}


def tae_spec(c: Mapping[str, Any]) -> ObjectiveSpec:
    terms: dict[str, Any] = {
        "nll": NLLSpec(perceptual=c["perceptual_weight"], logvar=c["logvar_init"]),
        "kl": KLSpec(weight=c["kl_weight"], per="frame"),
    }
    if c["use_outlier_penalty_loss"]:
        terms["outliers"] = OutlierSpec(of="latent", weight=c["opl_weight"])
    return ObjectiveSpec(terms=terms)


def tae_discriminator(case: Case, dtype: torch.dtype) -> Outputs:
    factor = case.config["disc_factor"]
    told = re.search(r"of (\d+) \* logits", case.data["call"])
    assert told is not None
    real, fake = (int(told[1]) * case.input(f"logits_{name}", dtype) for name in ("real", "fake"))
    found = {"hinge": discriminator_hinge(real, fake), "vanilla": discriminator_vanilla(real, fake)}
    return {name: (factor * value)[None] for name, value in found.items()}


# --------------------------------------------------------------------------- single networks


def od_unit_discriminator(case: Case, dtype: torch.dtype) -> Outputs:
    found = {}
    for name in case.data["inputs"]:
        x = frames_as_clips(case.input(name, dtype))
        module = discriminator_of(case, od_discriminator(case), dtype, channels=x.shape[1])
        if case.data.get("train"):
            start_from(module, x)  # where it holds an ActNorm
            module.train()
        with torch.no_grad():
            output = f"output{name[1:]}"
            found[output] = module(x).reshape(case.data["outputs"][output])
    return found


def act_norm(case: Case, dtype: torch.dtype) -> Outputs:
    module = ActNorm(case.config["num_features"])
    table = (
        Rename("loc", "shift", "view", shape=(1, -1, 1, 1)),
        Rename("scale", "scale", "view", shape=(1, -1, 1, 1)),
        Rename("initialized", None),
    )
    parity.load(module, table, case.weights(), dtype)
    with torch.no_grad():
        return {f"output{name[1:]}": module(case.input(name, dtype)) for name in case.data["inputs"]}


def reducio_discriminator(case: Case, dtype: torch.dtype) -> Outputs:
    c, x = case.config, frames_as_clips(case.input("x", dtype))
    if case.data["published_class"] == "NLayerDiscriminator":
        spec: PatchSpec = Patch2dSpec(width=c["ndf"], layers=c.get("n_layers", 3))
    else:
        spec = patch_3d_halved(c["ndf"], c.get("n_layers", 3), "tanh" if c.get("act_tanh") else "leaky")
    module = discriminator_of(case, spec, dtype, channels=x.shape[1])
    module.train("train mode" in case.data["call"])
    with torch.no_grad():
        found = {"output": module(x).reshape(case.data["outputs"]["output"])}
    after = to_published(published_names(spec), module.state_dict())
    wanted = [name for name in case.data["outputs"] if name.startswith("after:")]
    return {**found, **{name: after[name.removeprefix("after:")] for name in wanted}}


HANDLERS: Mapping[tuple[str, str], Callable[[Case, torch.dtype], Outputs]] = {
    ("image_vae", "CompVis LPIPSWithDiscriminator"): image_loss,
    ("od_vae", "losses.perceptual_loss.LPIPSWithDiscriminator"): od_loss,
    ("od_vae", "losses.perceptual_loss.LPIPSWithDiscriminator3D"): od_loss,
    ("od_vae", "losses.perceptual_loss.SimpleLPIPS"): od_loss,
    ("od_vae", "losses.lpips.LPIPS"): plain_lpips,
    ("od_vae", "losses.discriminator.NLayerDiscriminator"): od_unit_discriminator,
    ("od_vae", "losses.discriminator.NLayerDiscriminator3D"): od_unit_discriminator,
    ("od_vae", "modules.normalize.ActNorm"): act_norm,
    ("open_sora", "VAELoss"): sora_loss,
    ("open_sora", "LPIPS"): sora_lpips,
    ("open_sora", "NLayerDiscriminator"): sora_discriminator,
    ("open_sora", "NLayerDiscriminator3D"): sora_discriminator,
    ("open_sora", "StyleGANDiscriminatorBlur"): sora_blur,
    ("open_sora", "DiscriminatorLoss"): sora_games,
    ("open_sora", "LeCamEMA"): sora_averages,
    ("open_sora", "gradient_penalty_fn + NLayerDiscriminator (eval)"): sora_penalty,
    ("open_sora", "AdversarialLoss + NLayerDiscriminator"): sora_adversarial,
    ("open_sora", "VideoAutoencoderPipeline + VAELoss as the training script combines them"): sora_stages,
    ("reducio", "LPIPSWithDiscriminator"): reducio_loss,
    ("reducio", "LPIPS"): plain_lpips,
    ("reducio", "NLayerDiscriminator"): reducio_discriminator,
    ("reducio", "NLayerDiscriminator3D"): reducio_discriminator,
    ("tae", "GeneratorWithLoss"): lambda case, dtype: (
        tae_generator(case, dtype) if "autoencoder" in case.config else tae_outliers(case, dtype)
    ),
    ("tae", "GeneratorWithLoss.kl"): tae_kl,
    ("tae", "GeneratorWithLoss.vae_loss_fn"): tae_pixels,
    ("tae", "LPIPS"): plain_lpips,
    ("tae", "DiscriminatorWithLoss"): tae_discriminator,
}
