"""Objectives: what counts when, what is reported, what learns, and that two processes are one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.losses.thin import thin_file
from tests.losses.together import together
from vvae.errors import SpecError, VideoError
from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian
from vvae.losses import (
    AdaptiveSpec,
    AdversarialSpec,
    KLSpec,
    L1Spec,
    L2Spec,
    LeCamSpec,
    LPIPSSpec,
    NLLSpec,
    Objective,
    ObjectiveSpec,
    OutlierSpec,
    Patch2dSpec,
    Patch3dSpec,
    Report,
    TemporalDifferenceSpec,
    WaveletSpec,
)
from vvae.losses.shared import Reduce, alone

ADAPTIVE = AdaptiveSpec(parameter="out.weight")
GAME = AdversarialSpec(
    discriminator=Patch2dSpec(width=2, layers=1),
    weight=0.5,
    start=10,
    ramp=3,
    adaptive=ADAPTIVE,
    lecam=LeCamSpec(weight=0.1, decay=0.9),
    gradient_penalty=0.3,
    r1=0.2,
)
EVERYTHING = ObjectiveSpec(
    terms={
        "nll": NLLSpec(logvar=0.2, learned=True),
        "kl": KLSpec(weight=1e-3),
        "kl_frames": KLSpec(weight=1e-3, per="frame"),
        "l1": L1Spec(weight=0.5, start=4, ramp=1),
        "l2": L2Spec(weight=0.0),
        "latents": OutlierSpec(of="latent", radius=0.5),
        "vectors": OutlierSpec(of="vector", radius=0.5),
        "bright": OutlierSpec(of="pixel", radius=0.5),
        "details": WaveletSpec(levels=2),
        "flicker": TemporalDifferenceSpec(weight=2.0),
    },
    adversarial=GAME,
)


class Toy(nn.Module):
    """A model with a last layer, whose weights depend on nothing."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.middle, self.out = nn.Conv3d(3, 4, 1), nn.Conv3d(4, 3, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draw) / 2

    def forward(self, video: Tensor) -> tuple[Tensor, DiagonalGaussian]:
        x = self.middle(video).tanh()
        return self.out(x), DiagonalGaussian(x, 0.1 * x, Fit(*video.shape[2:]))


def clip(batch: int = 4) -> Tensor:
    return torch.rand(batch, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def built(spec: ObjectiveSpec = EVERYTHING, reduce: Reduce = alone) -> Objective:
    torch.manual_seed(0)
    return spec.build(reduce=reduce).double()


def both_sides(objective: Objective, model: Toy, video: Tensor, step: int) -> tuple[Report, Report]:
    result, posterior = model(video)
    report = objective.generator(model, video, result, posterior, step=step, latents=posterior.mean)
    return report, objective.discriminator_side(video, result, step=step)


@pytest.mark.parametrize("step", [0, 4, 5, 10, 12, 13, 99])
def test_loss_is_the_sum_of_reported_terms_times_weights(step: int) -> None:
    for report in both_sides(built(), Toy().double(), clip(), step):
        assert report.terms.keys() == report.weights.keys()
        total = sum((report.weights[name] * value for name, value in report.terms.items()), start=torch.zeros(()))
        torch.testing.assert_close(report.loss.detach(), total.double(), rtol=1e-12, atol=1e-12)
        assert not any(value.requires_grad for value in (*report.terms.values(), *report.notes.values()))


def test_terms_start_and_ramp() -> None:
    objective, model = built(), Toy().double()
    reports = {step: both_sides(objective, model, clip(), step) for step in (3, 4, 5, 9, 10, 11, 13, 50)}
    assert "l1" not in reports[3][0].terms
    assert [reports[step][0].weights["l1"].item() for step in (4, 5, 9)] == [0.25, 0.5, 0.5]
    assert "generator" not in reports[9][0].terms
    assert reports[9][1].terms == {}
    shares = [
        (report.weights["generator"] / report.notes["adaptive_weight"]).item()
        for report, _ in (reports[step] for step in (10, 11, 13, 50))
    ]
    assert shares == pytest.approx([0.125, 0.25, 0.5, 0.5])
    assert reports[10][1].weights["discriminator"] == 1


def test_term_of_weight_zero_is_told_and_does_not_count() -> None:
    report, _ = both_sides(built(), Toy().double(), clip(), 0)
    assert report.terms["l2"] > 0
    assert report.weights["l2"] == 0


def test_each_side_trains_its_own_alone() -> None:
    objective, model = built(), Toy().double()
    assert objective.discriminator is not None
    report, judged = both_sides(objective, model, clip(), 20)
    report.loss.backward()
    assert all(p.grad is None for p in objective.discriminator.parameters())
    assert all(p.requires_grad for p in objective.discriminator.parameters())
    assert objective.logvars["nll"].grad is not None
    before = [p.grad.clone() for p in model.parameters()]
    judged.loss.backward()
    assert all(p.grad is not None for p in objective.discriminator.parameters())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"game": "hinge"}, lambda fake: -fake.mean()),
        ({"game": "hinge", "generator": "non_saturating"}, lambda fake: -fake.sigmoid().log().mean()),
        ({"game": "non_saturating"}, lambda fake: -fake.sigmoid().log().mean()),
    ],
)
def test_generator_plays_the_game_that_it_is_given(fields: dict[str, str], want: Callable[[Tensor], Tensor]) -> None:
    rule = GAME.replace(adaptive=None, start=0, ramp=0, **fields)
    objective, model, video = built(EVERYTHING.replace(adversarial=rule)).eval(), Toy().double(), clip()
    report, _ = both_sides(objective, model, video, 0)
    assert objective.discriminator is not None
    torch.testing.assert_close(report.terms["generator"], want(objective.discriminator(model(video)[0])).detach())
    assert report.weights["generator"] == 0.5


def test_log_variance_is_trained_only_where_it_is_said() -> None:
    spec = ObjectiveSpec(terms={"fixed": NLLSpec(logvar=0.5), "learned": NLLSpec(learned=True)})
    learning = {name for name, p in spec.build().named_parameters() if p.requires_grad}
    assert learning == {"logvars.learned"}


def test_adaptive_weight_measures_the_named_term_at_the_named_parameter() -> None:
    objective, model, video = built(), Toy().double(), clip()
    result, posterior = model(video)
    report = objective.generator(model, video, result, posterior, step=99, latents=posterior.mean)
    by_hand = objective.generator(model.out.weight, video, result, posterior, step=99, latents=posterior.mean)
    torch.testing.assert_close(report.loss, by_hand.loss)
    nll = (video - result).abs() / objective.logvars["nll"].exp() + objective.logvars["nll"]
    fake = objective.discriminator(result)
    slopes = [
        torch.autograd.grad(term, model.out.weight, retain_graph=True)[0].norm()
        for term in (nll.sum() / 12, fake.mean())
    ]
    torch.testing.assert_close(report.notes["adaptive_weight"], slopes[0] / (slopes[1] + 1e-4))


def test_figures_without_gradients_need_no_parameter() -> None:
    objective, video = built(), clip()
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    with torch.no_grad():
        report, judged = both_sides(objective.eval(), Toy().double(), video, 99)
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())
    assert report.notes["adaptive_weight"] == 1
    assert "r1" not in judged.terms


def test_result_of_less_precision_is_judged_in_that_of_the_objective(tmp_path: Path) -> None:
    """A model in bfloat16: terms, discriminator and LPIPS keep float32."""
    terms = {**EVERYTHING.terms, "distance": LPIPSSpec()}
    objective = EVERYTHING.replace(terms=terms, lpips=thin_file(tmp_path)).build()
    model = Toy().bfloat16()
    result, posterior = model(clip().bfloat16())
    report = objective.generator(model, clip().float(), result, posterior, step=20, latents=posterior.mean)
    judged = objective.discriminator_side(clip().float(), result, step=20)
    assert report.loss.dtype == judged.loss.dtype == torch.float32
    report.loss.backward()
    assert model.out.weight.grad is not None


def test_averages_of_logits_are_state() -> None:
    objective, model = built(), Toy().double()
    assert objective.lecam_real == 0
    _, judged = both_sides(objective, model, clip(), 10)
    torch.testing.assert_close(objective.lecam_real, 0.1 * judged.notes["logits_real"])
    torch.testing.assert_close(objective.lecam_fake, 0.1 * judged.notes["logits_fake"])
    assert {"lecam_real", "lecam_fake", "logvars.nll"} <= objective.state_dict().keys()
    again = built()
    again.load_state_dict(objective.state_dict())
    reports = [both_sides(one, model, clip(), 11) for one in (objective, again)]
    assert all(torch.equal(one.loss, other.loss) for one, other in zip(*reports, strict=True))


def gradients(objective: Objective, model: Toy, video: Tensor) -> dict[str, Tensor]:
    """Of both sides over two steps of the game, and what is left in the state."""
    for step in (20, 21):
        model.zero_grad()
        objective.zero_grad()
        report, judged = both_sides(objective, model, video, step)
        (report.loss + judged.loss).backward()
    grads = {name: p.grad for part in (model, objective) for name, p in part.named_parameters()}
    return {**grads, **{f"state.{name}": value for name, value in objective.named_buffers()}}


def test_two_processes_with_half_the_batch_are_one_with_all_of_it() -> None:
    """Averaged gradients, batch statistics, LeCam's averages, through the adaptive weight."""
    want = gradients(built(), Toy().double(), clip())
    seeding = threading.Lock()

    def half(seat: int, reduce: Reduce) -> dict[str, Tensor]:
        with seeding:  # one generator of torch serves all threads, and models draw from it
            objective, model = built(reduce=reduce), Toy().double()
        return gradients(objective, model, clip().chunk(2)[seat])

    found = together(2, half)
    for name, value in want.items():
        if name.startswith("state."):
            torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-12, atol=1e-12, msg=name)
        mean = torch.stack([part[name] for part in found]).mean(0)
        torch.testing.assert_close(mean, value, rtol=1e-10, atol=1e-10, msg=name)


# --------------------------------------------------------------------------- what an objective refuses


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"terms": {"l1": L1Spec()}}, r"measures by a term that is not there: 'nll' is unknown; near it: l1"),
        ({"terms": {"nll": NLLSpec(start=11)}}, "'nll' starts at step 11, after the game that is measured by it"),
        ({"terms": {"nll": NLLSpec(), "generator": L1Spec()}}, "a term is named 'generator', as a side"),
        ({"terms": {"nll": NLLSpec(), "a.b": L1Spec()}}, "a term is named 'a.b'"),
        ({"terms": {}}, "at least 1 item"),
    ],
)
def test_what_cannot_work_is_refused_in_words(fields: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        ObjectiveSpec(**{"adversarial": GAME, **fields})


def test_clips_that_are_too_small_are_refused_before_the_first_step(tmp_path: Path) -> None:
    spec = EVERYTHING.replace(adversarial=GAME.replace(discriminator=Patch3dSpec(width=2, kernel=4, time_halvings=1)))
    spec.check_clip(10, 24, 24)
    with pytest.raises(VideoError, match="at least 10 frames of 24 x 24 pixels; found 9 frames"):
        spec.check_clip(9, 24, 24)
    with pytest.raises(VideoError, match="16 x 16 pixels; found 8 x 32"):
        ObjectiveSpec(terms={"distance": LPIPSSpec()}, lpips=thin_file(tmp_path)).check_clip(1, 8, 32)


def test_what_was_not_handed_over_is_asked_for() -> None:
    objective, model, video = built(), Toy().double(), clip()
    result, posterior = model(video)
    with pytest.raises(VideoError, match=r"reads 'latents', which was not handed over; give latents="):
        objective.generator(model, video, result, posterior, step=0)
    with pytest.raises(VideoError, match="posterior is None"):
        objective.generator(model, video, result, None, step=0, latents=posterior.mean)
    with pytest.raises(VideoError, match="give the model, or the parameter"):
        objective.generator(None, video, result, posterior, step=99, latents=posterior.mean)
    model.out.requires_grad_(False)
    with pytest.raises(SpecError, match=r"gradient at out\.weight, which does not learn"):
        objective.generator(model, video, result, posterior, step=99, latents=posterior.mean)


def test_frozen_parts_stop_learning_and_are_named() -> None:
    model = Toy()
    spec = ObjectiveSpec(terms={"l1": L1Spec()}, frozen=("middle",))
    assert spec.build().freeze(model) == ("middle.weight", "middle.bias")
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["out.weight", "out.bias"]
    with pytest.raises(SpecError, match="nothing to freeze there: 'midle' is unknown; near it: middle"):
        spec.replace(frozen=("midle",)).build().freeze(model)


def test_layers_that_are_compared_are_watched() -> None:
    model, video = Toy().double(), clip()
    spec = ObjectiveSpec(terms={"between": NLLSpec(source="middle", result="latents")})
    objective = spec.build().double()
    with objective.watching(model) as seen:
        result, posterior = model(video)
    assert torch.equal(seen["middle"], model.middle(video))
    model(video)  # nothing is watched any more
    report = objective.generator(model, video, result, posterior, step=0, latents=posterior.mean, seen=seen)
    torch.testing.assert_close(report.loss, (seen["middle"] - posterior.mean).abs().sum() / 12)
    other = spec.replace(terms={"between": NLLSpec(source="midle")}).build()
    with pytest.raises(SpecError, match="'midle' is unknown; near it: middle"), other.watching(model):
        pass


def test_an_objective_is_what_its_json_says() -> None:
    again = ObjectiveSpec.from_json(EVERYTHING.to_json())
    assert again == EVERYTHING
    assert again.to_json() == EVERYTHING.to_json()
    short = '{"terms": {"nll": {"kind": "nll"}}, "adversarial": {"discriminator": {"kind": "patch_3d", "width": 8}}}'
    assert ObjectiveSpec.from_json(short).adversarial == AdversarialSpec(discriminator=Patch3dSpec(width=8))
    with pytest.raises(SpecError, match="wight"):
        ObjectiveSpec.from_json('{"terms": {"a": {"kind": "l1", "wight": 1}}}')
    assert "nll" in str(EVERYTHING)
