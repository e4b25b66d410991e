"""Clips as latents: decoded they are the reconstruction, and an interrupted encode goes on to the same file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import vvae
from tests.models.tiny import tiny_model
from tests.video.conftest import moving_picture
from vvae import CheckpointError, VideoError, checkpoint
from vvae.autoencoder import VideoAutoencoder
from vvae.state import weights_digest
from vvae.tiling import Plan, steps
from vvae.video import ClipWriter, read_clip, read_timed
from vvae.video.decode import decode_clip
from vvae.video.encode import encode_clip
from vvae.video.latents import Latents
from vvae.video.reconstruct import paired
from vvae.video.selection import Selection
from vvae.video.steps import decoded

MakeClip = Callable[..., Path]


@pytest.fixture
def model() -> VideoAutoencoder:
    return tiny_model()


def reconstructed(model: VideoAutoencoder, clip: Selection, plan: Plan) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([result for _, result, _ in paired(model, clip.shown(), plan)], dim=2)


def frames_of(model: VideoAutoencoder, latents: Path, plan: Plan) -> torch.Tensor:
    with torch.inference_mode():
        held = Latents(latents)
        groups = plan.way("decode").groups
        return torch.cat(list(decoded(model, held.posteriors(groups), groups)), dim=2)


PARTS: list[dict[str, Any]] = [{}, {"start": 3, "frames": 14, "size": 35}, {"frames": 1}, {"frames": 9, "size": 24}]


@pytest.mark.parametrize("plan", [steps(2, 2), steps(1, 3), steps(16, 1)], ids=str)
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_decoding_the_latents_is_the_reconstruction(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path, part: dict[str, Any], plan: Plan
) -> None:
    clip = Selection(make_clip(19, 45, 70, "clip.mkv"), **part)
    encode_clip(model, clip, tmp_path / "z.safetensors", plan=plan)
    want = reconstructed(model, clip, plan)
    assert torch.equal(frames_of(model, tmp_path / "z.safetensors", plan), want)
    assert want.shape[2:] == (min(19 - clip.start, clip.frames or 19), *clip.pixels)
    assert not (tmp_path / "z.safetensors.part").exists()


@pytest.mark.parametrize("plan", [steps(1, 1), steps(3, 1), steps(1, 16)], ids=str)
def test_the_length_of_steps_changes_no_frame(model: VideoAutoencoder, make_clip: MakeClip, plan: Plan) -> None:
    clip, model = Selection(make_clip(19, 45, 70, "clip.mkv")), model.double()
    want = reconstructed(model, clip, steps(2, 2))
    assert (reconstructed(model, clip, plan) - want).abs().max() <= 1e-6 * want.abs().max()


def test_the_clip_of_the_latents_is_that_of_the_reconstruction(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = Selection(make_clip(11, 45, 70, "clip.mkv"))
    encode_clip(model, clip, tmp_path / "z.safetensors")
    decode_clip(model, Latents(tmp_path / "z.safetensors"), tmp_path / "z.mkv")
    found = torch.cat(list(read_clip(tmp_path / "z.mkv")), dim=2)
    want = reconstructed(model, clip, steps(2, 2)).add(1).mul(127.5).round()
    assert torch.equal(found.add(1).mul(127.5).round(), want)


def test_times_of_a_varying_rate_come_back(model: VideoAutoencoder, tmp_path: Path) -> None:
    times = [Fraction(n * n + 10 * n, 300) for n in range(12)]
    with ClipWriter(tmp_path / "clip.mp4", 25, (32, 48)) as clip:
        clip.write(moving_picture(12, 32, 48), times)
    encode_clip(model, Selection(tmp_path / "clip.mp4", start=2), tmp_path / "z.safetensors")
    decode_clip(model, Latents(tmp_path / "z.safetensors"), tmp_path / "back.mp4")
    shown = [time for _, chunk in read_timed(tmp_path / "back.mp4") for time in chunk]
    assert shown == [time - times[2] for time in times[2:]]


def test_the_file_says_what_it_holds(model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path) -> None:
    done = encode_clip(model, Selection(make_clip(10, 45, 70, "clip.mkv"), start=1), tmp_path / "z.safetensors")
    tensors, metadata = checkpoint.read_file(tmp_path / "z.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict.fromkeys(
        ("mean", "logvar"), (1, 16, 3, 6, 9)
    )
    assert metadata["spec"] == model.spec.to_json()
    assert metadata["weights"] == weights_digest(model)
    told = {name: metadata[name] for name in ("fps", "frames", "height", "width", "normalised", "source", "start")}
    assert told == {
        "fps": "25",
        "frames": "9",
        "height": "45",
        "width": "70",
        "normalised": "false",
        "source": "clip.mkv",
        "start": "1",
    }
    assert (done["frames"], done["shape"]) == (9, [1, 16, 3, 6, 9])


def test_normalised_latents_are_restored(make_clip: MakeClip, tmp_path: Path) -> None:
    spec = tiny_model().spec.replace(latent=vvae.Affine(shift=0.5, scale=2.0))
    model = spec.build().eval()
    encode_clip(model, Selection(make_clip(9, 32, 48)), tmp_path / "z.safetensors")
    tensors, metadata = checkpoint.read_file(tmp_path / "z.safetensors")
    tensors = {**tensors, "mean": model.scaling.normalize(tensors["mean"])}
    checked = {**metadata, "normalised": "true", "vvae.sha256": checkpoint.digest(tensors)}
    checkpoint.write_file(tmp_path / "n.safetensors", tensors, checked)
    plain, normal = (frames_of(model, tmp_path / f"{name}.safetensors", steps(2, 2)) for name in "zn")
    torch.testing.assert_close(normal, plain, rtol=0, atol=1e-5)


# --------------------------------------------------------------------------- interrupted and resumed


def encoded_once(model: VideoAutoencoder, clip: Selection, file: Path) -> bytes:
    encode_clip(model, clip, file, plan=steps(1, 1))
    return file.read_bytes()


@pytest.mark.parametrize("save_every", [0.0, 1e9])
@pytest.mark.parametrize("at", [5, 17, 22])
def test_an_interrupted_encode_goes_on_to_the_same_bytes(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path, at: int, save_every: float
) -> None:
    def stop(done: int, promised: int | None) -> None:
        assert promised == 22
        if done == at:
            raise KeyboardInterrupt

    clip, file = Selection(make_clip(23, 32, 48), start=1), tmp_path / "z.safetensors"
    want = encoded_once(model, clip, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt, match=rf"z\.safetensors\.part holds {at} frames"):
        encode_clip(model, clip, file, plan=steps(1, 1), progress=stop, save_every=save_every)
    assert not file.exists()
    seen: list[int] = []
    done = encode_clip(model, clip, file, plan=steps(1, 1), progress=lambda at, _: seen.append(at))
    assert done["resumed_at"] == at
    assert all(frame > at for frame in seen)
    assert file.read_bytes() == want
    assert not (tmp_path / "z.safetensors.part").exists()


@pytest.mark.parametrize("write", [1, 2, 3, 10, 11, 12])
def test_an_encode_that_dies_in_any_write_goes_on_to_the_same_bytes(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """Latents and state are written in turns, five times for 18 frames, and at last the file itself."""
    clip, file = Selection(make_clip(18, 32, 48)), tmp_path / "z.safetensors"
    want = encoded_once(model, clip, tmp_path / "whole.safetensors")
    left, real = [write], checkpoint.write_file

    def dying(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError
        real(*arguments)

    monkeypatch.setattr(checkpoint, "write_file", dying)
    if write <= 11:
        with pytest.raises(MemoryError):
            encode_clip(model, clip, file, plan=steps(1, 1), save_every=0)
        assert not file.exists()
    monkeypatch.undo()
    encode_clip(model, clip, file, plan=steps(1, 1), save_every=0)
    assert file.read_bytes() == want


def test_a_killed_encode_goes_on_to_the_same_bytes(make_clip: MakeClip, tmp_path: Path) -> None:
    clip, file = make_clip(18, 32, 48), tmp_path / "z.safetensors"
    want = encoded_once(tiny_model(), Selection(clip), tmp_path / "whole.safetensors")
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.models.tiny import tiny_model\n"
        "from vvae.tiling import steps; from vvae.video.encode import encode_clip\n"
        "from vvae.video.selection import Selection\n"
        "kill = lambda done, _: done >= 9 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "encode_clip(tiny_model(), Selection(Path(sys.argv[1])), sys.argv[2], plan=steps(1, 1), progress=kill, "
        "save_every=0)"
    )
    home = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program, str(clip), str(file)], cwd=home, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert encode_clip(tiny_model(), Selection(clip), file, plan=steps(1, 1))["resumed_at"] == 9
    assert file.read_bytes() == want


def test_times_go_on_where_they_were(model: VideoAutoencoder, tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "clip.mp4", 25, (32, 48)) as clip:
        clip.write(moving_picture(14, 32, 48), [Fraction(n * n + 10 * n, 300) for n in range(14)])
    source, file = Selection(tmp_path / "clip.mp4", start=1), tmp_path / "z.safetensors"
    want = encoded_once(model, source, tmp_path / "whole.safetensors")
    interrupt(model, source, file)
    assert encoded_once(model, source, file) == want


def interrupt(model: VideoAutoencoder, clip: Selection, file: Path) -> None:
    def stop(done: int, promised: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_clip(model, clip, file, plan=steps(1, 1), progress=stop)


OTHERS: dict[str, Callable[[Path, Path], tuple[VideoAutoencoder, Selection]]] = {
    "weights": lambda clip, other: (tiny_model(seed=1), Selection(clip)),
    "clip": lambda clip, other: (tiny_model(), Selection(other)),
    "start": lambda clip, other: (tiny_model(), Selection(clip, start=1)),
    "frames": lambda clip, other: (tiny_model(), Selection(clip, frames=12)),
    "size": lambda clip, other: (tiny_model(), Selection(clip, size=24)),
    "dtype": lambda clip, other: (tiny_model().bfloat16(), Selection(clip)),
}


@pytest.mark.parametrize("different", OTHERS)
def test_another_call_is_refused_by_what_differs_and_leaves_the_folder(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path, different: str
) -> None:
    clip, other, file = make_clip(13, 32, 48), make_clip(14, 32, 48, "other.mp4"), tmp_path / "z.safetensors"
    interrupt(model, Selection(clip), file)
    part = tmp_path / "z.safetensors.part"
    before = {path.name: path.read_bytes() for path in part.iterdir()}
    with pytest.raises(VideoError, match=rf"another call \([a-z, ]*\b{different}\b[a-z, ]* differ\)"):
        encode_clip(*OTHERS[different](clip, other), file, plan=steps(1, 1))
    assert {path.name: path.read_bytes() for path in part.iterdir()} == before


def test_what_lies_where_the_folder_would_is_refused_untouched(
    model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path
) -> None:
    part = tmp_path / "z.safetensors.part"
    part.mkdir()
    (part / "mine.txt").write_text("keep")
    with pytest.raises(VideoError, match=r"z\.safetensors\.part: stands where"):
        encode_clip(model, Selection(make_clip(5, 32, 48)), tmp_path / "z.safetensors")
    assert (part / "mine.txt").read_text() == "keep"


def test_a_finished_file_is_never_replaced(model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "z.safetensors").write_text("keep")
    with pytest.raises(VideoError, match="exists already"):
        encode_clip(model, Selection(make_clip(5, 32, 48)), tmp_path / "z.safetensors")
    assert (tmp_path / "z.safetensors").read_text() == "keep"


def test_a_broken_clip_leaves_nothing(model: VideoAutoencoder, broken: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        encode_clip(model, Selection(broken), tmp_path / "z.safetensors", save_every=0)
    assert sorted(tmp_path.iterdir()) == before


# --------------------------------------------------------------------------- wrong files


@pytest.fixture
def file(model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path) -> Path:
    encode_clip(model, Selection(make_clip(9, 32, 48)), tmp_path / "z.safetensors")
    return tmp_path / "z.safetensors"


def test_another_model_is_refused_by_both_digests(file: Path) -> None:
    other = tiny_model(seed=1)
    with pytest.raises(VideoError) as caught:
        Latents(file).check_model(other)
    assert weights_digest(other)[:12] in str(caught.value)
    assert weights_digest(tiny_model())[:12] in str(caught.value)


def test_half_precision_files_are_known_by_the_weights_that_they_load(file: Path, tmp_path: Path) -> None:
    half = tiny_model().bfloat16()
    half.save(tmp_path / "half.safetensors")
    assert weights_digest(half) == weights_digest(vvae.load(tmp_path / "half.safetensors"))


@pytest.mark.parametrize("place", ["data", "frames", "format", "spec", "missing", "model", "text", "folder", "absent"])
def test_a_wrong_file_is_refused_in_one_line(file: Path, tmp_path: Path, place: str) -> None:
    tensors, metadata = checkpoint.read_file(file)
    wrong = tmp_path / "wrong.safetensors"
    if place == "data":
        wrong.write_bytes(file.read_bytes()[:-1] + b"\x07")
    elif place == "model":
        tiny_model().save(wrong)
    elif place == "text":
        wrong.write_text("no tensors")
    elif place == "folder":
        wrong.mkdir()
    elif place != "absent":
        changed = {"frames": {"frames": "99"}, "format": {"vvae.latents": "7"}, "spec": {"spec": "{}"}}
        metadata = {**metadata, **changed.get(place, {})}
        checkpoint.write_file(wrong, tensors, {k: v for k, v in metadata.items() if place != "missing" or k != "fps"})
    with pytest.raises(CheckpointError) as caught:
        Latents(wrong)
    assert "\n" not in str(caught.value)
    assert "wrong.safetensors" in str(caught.value)


def test_the_part_says_what_it_is_of(model: VideoAutoencoder, make_clip: MakeClip, tmp_path: Path) -> None:
    interrupt(model, Selection(make_clip(9, 32, 48)), tmp_path / "z.safetensors")
    told = json.loads((tmp_path / "z.safetensors.part" / "encode.json").read_text())
    assert told["weights"] == weights_digest(model)
