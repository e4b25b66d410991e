from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.evaluation.conftest import PLAIN
from tests.models.tiny import tiny_model
from vvae import checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import CheckpointError, VideoError, VvaeError
from vvae.evaluation import calibrate as module
from vvae.evaluation.calibrate import Calibration, calibrate, scaling_of, write_model
from vvae.models import load
from vvae.scaling import Affine, ClipNorm
from vvae.tiling import steps
from vvae.video import read_clip

ROOT = Path(__file__).parents[2]
ALL = PLAIN.replace(frames=None)


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    return tiny_model()


def posteriors(model: VideoAutoencoder, clips: list[Path]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Mean and deviation of the latents of whole clips, `16 n` in float64."""
    for clip in clips:
        with torch.inference_mode():
            found = model.encode(torch.cat(list(read_clip(clip)), 2))
        yield tuple(x[0].flatten(1).double() for x in (found.mean, found.std))


def bits(held: Calibration) -> tuple[int, list[float], list[float]]:
    return held.moments.count, held.moments.mean.tolist(), held.moments.scatter.flatten().tolist()


def test_shift_and_scale_are_those_of_all_latents_at_once(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path
) -> None:
    latents = torch.cat([mean for mean, _ in posteriors(model, clips)], 1)
    found = scaling_of(calibrate(model, clips, tmp_path / "part", ALL).moments)
    assert found.shift == pytest.approx(latents.mean(1).tolist(), rel=1e-4, abs=1e-5)
    assert found.scale == pytest.approx((1 / latents.std(1, correction=0)).tolist(), rel=1e-4)
    together = scaling_of(calibrate(model, clips, tmp_path / "part", ALL).moments, one_for_all=True)
    assert together.shift == pytest.approx(latents.mean().item(), rel=1e-4)
    assert together.scale == pytest.approx(1 / latents.std(correction=0).item(), rel=1e-4)


def test_moments_of_a_sample_are_those_of_many_draws(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path
) -> None:
    found = calibrate(model, clips, tmp_path / "part", ALL, of="sample")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [
            mean + std * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            for mean, std in posteriors(model, clips)
            for _ in range(200)
        ],
        1,
    )
    assert found.moments.mean.tolist() == pytest.approx(drawn.mean(1).tolist(), abs=0.02)
    assert torch.allclose(found.moments.covariance(), drawn.cov(), rtol=0.03, atol=0.02)
    of_mode = calibrate(model, clips, tmp_path / "other", ALL)
    assert (found.moments.covariance().diag() > 1.5 * of_mode.moments.covariance().diag()).all()


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_what_goes_on_after_a_kill_gives_the_same_numbers_to_the_last_bit(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    whole = calibrate(model, clips, tmp_path / "whole", ALL)
    real, calls = module._of_clip, []

    def dies(*arguments: object) -> object:
        calls.append(1)
        if len(calls) > killed:
            raise SystemError("killed")
        return real(*arguments)

    monkeypatch.setattr(module, "_of_clip", dies)
    with pytest.raises(SystemError):
        calibrate(model, clips, tmp_path / "part", ALL)
    monkeypatch.setattr(module, "_of_clip", real)
    assert (tmp_path / "part").exists() == (killed > 0)
    told = []
    again = calibrate(model, clips, tmp_path / "part", ALL, progress=lambda done, total: told.append(done))
    assert bits(again) == bits(whole)
    assert told[-1] == 31
    assert told[0] == sum((9, 9, 13)[:killed]) + 9, "clips that are done are not done again"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.evaluation.conftest import PLAIN
from vvae.evaluation.calibrate import calibrate
from vvae.models import load

def progress(done, total):
    if done >= 12:
        os.kill(os.getpid(), signal.SIGKILL)

calibrate(load(sys.argv[1]), sys.argv[3:], sys.argv[2], PLAIN.replace(frames=None), progress=progress)
"""


def test_what_goes_on_after_kill_9_gives_the_same_numbers_to_the_last_bit(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path
) -> None:
    model.save(tmp_path / "m.safetensors")
    call = [sys.executable, "-c", KILLED, *map(str, (tmp_path / "m.safetensors", tmp_path / "part", *clips))]
    assert subprocess.run(call, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "part").read_text())["frames"] == [9], "it was killed within the second clip"
    whole, again = (calibrate(model, clips, tmp_path / name, ALL) for name in ("whole", "part"))
    assert bits(again) == bits(whole)


def test_steps_of_any_length_give_the_same(model: VideoAutoencoder, clips: list[Path], tmp_path: Path) -> None:
    one, two = (calibrate(model, clips, tmp_path / str(n), ALL, plan=steps(n, n)) for n in (1, 3))
    assert torch.allclose(one.moments.scatter, two.moments.scatter, rtol=1e-4, atol=1e-4)


def test_clips_may_be_added_at_the_end_and_nowhere_else(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path
) -> None:
    calibrate(model, clips[:2], tmp_path / "part", ALL)
    found = calibrate(model, clips, tmp_path / "part", ALL)
    assert bits(found) == bits(calibrate(model, clips, tmp_path / "fresh", ALL))
    with pytest.raises(VvaeError, match="not the first of those"):
        calibrate(model, clips[1:], tmp_path / "part", ALL)
    with pytest.raises(VvaeError, match=r"another call \(protocol differ"):
        calibrate(model, clips, tmp_path / "part", PLAIN)
    with pytest.raises(VvaeError, match=r"another call \(weights differ"):
        calibrate(tiny_model(seed=3), clips, tmp_path / "part", ALL)


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"of": 3}', '{"of": {}, "mean": []}'])
def test_a_file_of_something_else_is_left_alone(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path, text: str
) -> None:
    (tmp_path / "part").write_text(text)
    with pytest.raises(VvaeError, match="move it away"):
        calibrate(model, clips, tmp_path / "part", ALL)
    assert (tmp_path / "part").read_text() == text


def test_a_written_model_is_the_same_but_for_its_scaling(
    model: VideoAutoencoder, clips: list[Path], tmp_path: Path
) -> None:
    half = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    checkpoint.save_weights(tmp_path / "m.safetensors", half, model.spec.to_json())
    opened = load(tmp_path / "m.safetensors")
    scaling = scaling_of(calibrate(opened, clips, tmp_path / "part", ALL).moments)
    write_model(tmp_path / "m.safetensors", scaling, tmp_path / "new.safetensors")
    before, after = (checkpoint.load_weights(tmp_path / name)[1] for name in ("m.safetensors", "new.safetensors"))
    assert checkpoint.digest(before) == checkpoint.digest(after)
    new = load(tmp_path / "new.safetensors")
    latents = torch.cat([new.scaling.normalize(mean.view(1, 16, -1, 1, 1)) for mean, _ in posteriors(new, clips)], 2)
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-4
    assert (latents.std(dim=(0, 2, 3, 4), correction=0) - 1).abs().max() < 1e-4
    with pytest.raises(VideoError, match="exists already"):
        write_model(tmp_path / "m.safetensors", scaling, tmp_path / "new.safetensors")
    with pytest.raises(CheckpointError):
        write_model(tmp_path / "none.safetensors", scaling, tmp_path / "other.safetensors")


def test_the_scaling_of_before_plays_no_part(model: VideoAutoencoder, clips: list[Path], tmp_path: Path) -> None:
    scaled = model.spec.replace(latent=Affine(shift=3.0, scale=7.0)).build().eval()
    scaled.load_state_dict(model.state_dict())
    plain, other = (calibrate(m, clips, tmp_path / "part", ALL) for m in (model, scaled))
    assert bits(plain) == bits(other)


def test_latents_without_numbers_to_find_are_refused(
    clips: list[Path], tmp_path: Path, model: VideoAutoencoder
) -> None:
    normed = model.spec.replace(latent=ClipNorm()).build().eval()
    with pytest.raises(VvaeError, match="normed clip by clip"):
        calibrate(normed, clips, tmp_path / "part", ALL)
    still = tiny_model()
    with torch.no_grad():
        for parameter in still.encoder.parameters():
            parameter.zero_()
    with pytest.raises(VvaeError, match="the same everywhere"):
        scaling_of(calibrate(still, clips, tmp_path / "part", ALL).moments)
    with pytest.raises(VvaeError, match="at least one"):
        calibrate(model, [], tmp_path / "none", ALL)


def test_the_file_holds_what_is_known(model: VideoAutoencoder, clips: list[Path], tmp_path: Path) -> None:
    held = calibrate(model, clips, tmp_path / "part", ALL)
    told = json.loads((tmp_path / "part").read_text())
    assert (told["count"], told["frames"]) == (held.moments.count, [9, 9, 13])
    assert told["mean"] == held.moments.mean.tolist()
