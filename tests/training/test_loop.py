"""The loop: a run that was killed ends like one that was not, and nothing that is not finite reaches a weight."""

import pytest
import torch

import vvae
from vvae.errors import CheckpointError, SpecError, VvaeError
from vvae.training import loop, recipe
from vvae.training.recipe import LossFields, Recipe

TINY = Recipe(
    model={"encoder_width": 8, "encoder_blocks": 1, "decoder_width": 8, "decoder_blocks": 1},
    material={"clips": 3, "frames": 5, "size": 24},
    held_out={"clips": 1, "frames": 5, "size": 24, "held_out": True},
    steps=6,
    batch=1,
    frames=5,
    crop=16,
    warmup=2,
    save_every=2,
    judge_every=100,
)


def quiet(line: str) -> None:
    assert "\n" not in line


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    out = tmp_path_factory.mktemp("straight")
    return loop.train(TINY, out, report=quiet)


def test_killed_run_ends_like_a_straight_one(straight, tmp_path, monkeypatch):
    update = loop.update

    def die(run, *rest):
        if run.step == 3:
            raise KeyboardInterrupt
        return update(run, *rest)

    monkeypatch.setattr(loop, "update", die)
    with pytest.raises(KeyboardInterrupt):
        loop.train(TINY, tmp_path, report=quiet)
    monkeypatch.undo()
    file = loop.train(TINY, tmp_path, report=quiet)
    assert file.read_bytes() == straight.read_bytes()


def test_run_stops_in_time_and_goes_on(straight, tmp_path):
    assert loop.train(TINY, tmp_path, minutes=0, report=quiet) is None
    assert loop.train(TINY, tmp_path, report=quiet).read_bytes() == straight.read_bytes()


def test_finished_model_loads_with_latents_near_the_unit_normal(straight):
    model = vvae.load(straight)
    assert model.spec.name == "vvae-small"
    clips = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert model.decode(model.encode(clips)).shape == clips.shape
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert max(model.spec.latent.scale) < 100


def test_training_moves_every_kind_of_weight(straight):
    model = vvae.load(straight)
    assert model.get_submodule("decoder.sum.leave.groups").weight.abs().sum() > 0
    assert model.get_submodule("encoder.sum.leave").weight.abs().sum() > 0
    assert (model.encode(torch.zeros(1, 3, 1, 16, 16)).logvar + 8).abs().max() == 0


def test_snapshot_of_another_recipe_is_refused(tmp_path):
    loop.train(TINY, tmp_path, minutes=0, report=quiet)
    with pytest.raises(CheckpointError, match="another recipe"):
        loop.train(TINY.replace(rate=1.0), tmp_path, report=quiet)


def test_loss_that_is_not_finite_changes_no_weight(monkeypatch):
    run = loop.new_run(TINY)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    monkeypatch.setattr(loop.pool, "batch", lambda *given: torch.full((1, 3, 5, 16, 16), float("nan")))
    for _ in range(loop.PATIENCE - 1):
        loop.update(run, TINY, None)
    assert run.step == loop.PATIENCE - 1
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())
    with pytest.raises(VvaeError, match="not finite"):
        loop.update(run, TINY, None)


def test_loss_weighs_errors_and_positions():
    video = torch.zeros(1, 3, 5, 8, 8)
    result = video.clone()
    result[:, :, 1] = 0.5
    assert loop.loss(result, video, LossFields(l1=1, l2=0)) == pytest.approx(0.5 / 5)
    assert loop.loss(result, video, LossFields(l1=0, l2=1)) == pytest.approx(0.25 / 5)
    assert loop.loss(result, video, LossFields(l1=1, l2=0, positions=(3, 1, 1, 1))) == pytest.approx(1.5 / 7)


def test_rate_climbs_and_falls_to_zero():
    factors = [TINY.factor(step) for step in range(TINY.steps + 1)]
    assert factors[0] == pytest.approx(0.5)
    assert max(factors) == factors[1]
    assert factors[-1] == 0


def test_shipped_recipe_is_whole():
    shipped = recipe.read("vvae_small")
    spec = shipped.model.spec()
    assert spec.latents.channels == 16
    assert shipped.held_out.held_out
    assert not shipped.material.held_out


def test_recipe_with_an_unknown_field_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("steps = 3\nspeed = 4\n")
    with pytest.raises(SpecError, match="speed"):
        recipe.read(file)


def test_recipe_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(SpecError, match="vvae_small"):
        recipe.read(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(SpecError, match="no TOML"):
        recipe.read(broken)
