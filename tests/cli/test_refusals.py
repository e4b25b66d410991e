"""Every mistake is one line on stderr with exit code 2, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run

CLIP = ("clip.mp4", "--model", "model.safetensors")
WRONG: list[tuple[tuple[str, ...], str]] = [
    ((), "--help"),
    (("nonsense",), "nonsense"),
    (("demo-clip", "no/such/demo.mp4"), "does not exist"),
    (("show",), "NAME_OR_FILE"),
    (("show", "unknown"), "vvae-small"),
    (("show", "iv_vae:z5_dim64"), "z4_dim64"),
    (("show", "spec.json", "--size", "17"), "17x256x256"),
    (("show", "spec.json", "--size", "0x8x8"), "17x256x256"),
    (("show", "spec.json", "--picture", "p.jpg"), ".png"),
    (("show", "spec.json", "--picture", "no/p.png"), "does not exist"),
    (("show", "clip.mp4"), "clip.mp4"),
    (("convert", "absent.pth"), "no such file"),
    (("convert", "clip.mp4"), "clip.mp4"),
    (("convert", "model.safetensors"), "already"),
    (("convert", "z.safetensors"), "nearest is iv_vae"),
    (("convert", "model.safetensors", "--to", "published"), "no published names"),
    (("convert", "model.safetensors", "--to", "published", "--choose", "variant=z4_dim64"), "--choose"),
    (("convert", "model.safetensors", "--to", "published", "--arch", "iv_vae"), "--arch"),
    (("convert", "model.safetensors", "--to", "published", "--naming", "compviz"), "near it: compvis"),
    (("convert", "z.safetensors", "--naming", "compvis"), "--naming"),
    (("convert", "z.safetensors", "--arch", "image_va"), "near it: image_vae"),
    (("convert", "z.safetensors", "--choose", "sdxl"), "--choose sdxl: is not NAME=ANSWER"),
    (("convert", "z.safetensors", "--choose", "a=1", "--choose", "a=2"), "each name once"),
    (("convert", "z.safetensors", "--out", "x.pth"), ".safetensors"),
    (("convert", "z.safetensors", "--out", "model.safetensors"), "exists already"),
    (("convert", "z.safetensors", "--to", "elsewhere"), "--to"),
    (("convert", "z.safetensors", "--linear", "vgg.pth"), "vvae convert lpips"),
    (("convert", "lpips"), "vgg16-397923af.pth"),
    (("convert", "lpips", "--backbone", "absent.pth", "--linear", "absent.pth"), "no such file"),
    (("convert", "lpips", "--backbone", "model.safetensors", "--linear", "model.safetensors"), "is a model"),
    (("convert", "lpips", "--backbone", "z.safetensors", "--linear", "z.safetensors"), "features.0.weight"),
    (("convert", "lpips", "--backbone", "z.safetensors", "--linear", "z.safetensors", "--out", "x.pth"), "--out x.pth"),
    (("decode", "absent.safetensors"), "no such file"),
    (("decode", "clip.mp4"), "no safetensors file"),
    (("decode", "model.safetensors"), "holds a model"),
    (("decode", "z.safetensors"), "do not ship with vvae"),
    (("decode", "z.safetensors", "--model", "other.safetensors"), "has weights"),
    (("decode", "z.safetensors", "--model", "iv_vae:z16_dim64"), "without weights"),
    (("decode", "z.safetensors", "--model", "model.safetensors", "--out", "clip.mp4"), "exists already"),
    (("decode", "z.safetensors", "--model", "model.safetensors", "--out", "x.xyz"), ".xyz"),
    (("decode", "z.safetensors", "--model", "model.safetensors", "--memory", "1MB"), "--memory 1MB"),
    (("decode", "z.safetensors", "--model", "model.safetensors", "--audio-from", "clip.mp4"), "clip.mp4"),
    (("encode", *CLIP, "--out", "x.mp4"), ".safetensors"),
    (("encode", *CLIP, "--out", "z.safetensors"), "exists already"),
    (("encode", *CLIP, "--out", "no/z.safetensors"), "does not exist"),
    (("reconstruct", *CLIP, "--out", "no/such/place"), "does not exist"),
    (("reconstruct", *CLIP, "--out", "."), "--out"),
    (("reconstruct", *CLIP, "--size", "5"), "too small"),
    (("reconstruct", *CLIP, "--audio"), "clip.mp4"),
]
BOTH: list[tuple[tuple[str, ...], str]] = [
    ((), "CLIP"),
    (("missing.mp4",), "missing.mp4: no such file"),
    (("spec.json",), "spec.json"),
    (("clip.mp4", "--model", "unknown"), "vvae-small"),
    (("clip.mp4", "--model", "spec.json"), "without weights"),
    (("clip.mp4", "--model", "iv_vae:z16_dim64"), "without weights"),
    (("clip.mp4", "--model", "release.pth"), "vvae convert"),
    (("clip.mp4", "--model", "z.safetensors"), "z.safetensors"),
    ((*CLIP, "--frames", "0"), "--frames"),
    ((*CLIP, "--start", "-1"), "--start"),
    ((*CLIP, "--start", "19"), "none is left"),
    ((*CLIP, "--size", "small"), "--size"),
    ((*CLIP, "--stream", "7"), "stream 7"),
    ((*CLIP, "--memory", "much"), "2GiB"),
    ((*CLIP, "--memory", "10MB"), "--memory 10MB: vvae-small needs"),
    ((*CLIP, "--dtype", "int8"), "--dtype"),
    ((*CLIP, "--dtype", "float16"), "bfloat16"),
    ((*CLIP, "--device", "tpu"), "cpu, cuda, cuda:N, mps"),
    ((*CLIP, "--device", "cuda:x"), "cpu, cuda, cuda:N, mps"),
    ((*CLIP, "--device", "cuda:99"), "take --device cpu"),
    ((*CLIP, "--unknown"), "--unknown"),
]
WRONG += [((command, *rest), told) for command in ("reconstruct", "encode") for rest, told in BOTH]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_a_refusal_is_one_line_and_leaves_nothing(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = {path: path.read_bytes() for path in workplace.rglob("*")}
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("vvae: ")
    assert message in lines[0]
    assert {path: path.read_bytes() for path in workplace.rglob("*")} == before


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert run("encode", *CLIP, "--device", device) == 2
    assert f"--device {device}: is not there" in capsys.readouterr().err


def test_a_second_run_is_refused_and_tells_of_out(
    workplace: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "clip_vvae").mkdir()
    (workplace / "clip_vvae" / "mine.txt").write_text("keep")
    assert run("reconstruct", *CLIP) == 2
    assert "clip_vvae: exists already and is not an empty folder, choose another folder with --out" in (
        capsys.readouterr().err
    )
    assert (workplace / "clip_vvae" / "mine.txt").read_text() == "keep"


def test_demo_clip_writes_the_clip(workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vvae.video.demo.FRAMES", 3)  # all of them: tests/video/test_demo.py
    assert run("demo-clip", "demo.mp4") == 0
    assert (workplace / "demo.mp4").stat().st_size > 10_000


HOME = Path(__file__).parents[2]


@pytest.mark.parametrize("missing", ["av", "typer", "matplotlib"])
def test_without_the_extra_a_hint_names_it(missing: str) -> None:
    program = (
        "import importlib.util as u; find = u.find_spec; "
        f"u.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more); import vvae.cli"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"vvae: the command line needs {missing}: pip install 'vvae[cli]'"]


def test_help_needs_nothing_that_is_slow_to_import() -> None:
    program = (
        "import sys; from vvae.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0
    assert "reconstruct" in done.stdout
    assert not {"torch", "numpy", "av", "matplotlib", "pydantic"} & set(done.stderr.split())
