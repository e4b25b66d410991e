from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import vvae
from vvae.cli import main
from vvae.errors import CheckpointError
from vvae.video import ClipWriter


class Identity:
    spec = SimpleNamespace(name="identity", framing=SimpleNamespace(lead=1, group=4))

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(())

    def encode_stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        return iter(chunks)

    def decode_stream(self, posteriors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        return iter(posteriors)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, and a model that changes nothing in place of every other."""

    def load(name: str) -> Identity:
        if name == "unknown":
            raise CheckpointError("no model\nof that name")
        return Identity()

    monkeypatch.setattr(vvae, "load", load, raising=False)
    monkeypatch.chdir(tmp_path)
    with ClipWriter("clip.mp4", 25, (32, 48)) as clip:
        clip.write(torch.zeros(1, 3, 7, 32, 48))
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_reconstruct_fills_a_folder_named_after_the_clip(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reconstruct", "clip.mp4") == 0
    assert len(list((workplace / "clip_vvae").iterdir())) == 5
    printed = capsys.readouterr().out
    assert "7 frames of 32x48" in printed
    assert "100.00 dB" in printed
    assert "clip_vvae" in printed


def test_reconstruct_takes_frames_size_and_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reconstruct", "clip.mp4", "--out", "here", "--frames", "3", "--size", "16") == 0
    assert "3 frames of 16x24" in capsys.readouterr().out
    assert (workplace / "here" / "figures.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reconstruct", "missing.mp4"), "missing.mp4: no such file"),
        (("reconstruct", "clip.mp4", "--frames", "0"), "--frames"),
        (("reconstruct", "clip.mp4", "--size", "small"), "--size"),
        (("reconstruct", "clip.mp4", "--size", "5"), "too small"),
        (("reconstruct", "clip.mp4", "--model", "unknown"), "no model of that name"),
        (("reconstruct", "clip.mp4", "--out", "no/such/place"), "does not exist"),
        (("reconstruct", "clip.mp4", "--out", "."), "--out"),
        (("reconstruct",), "CLIP"),
        (("demo-clip", "no/such/demo.mp4"), "does not exist"),
        (("nonsense",), "nonsense"),
        ((), "--help"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vvae: ")
    assert message in lines[0]
    assert [path.name for path in workplace.iterdir()] == ["clip.mp4"]


def test_a_second_run_is_refused_and_tells_of_out(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reconstruct", "clip.mp4") == 0
    assert run("reconstruct", "clip.mp4") == 2
    assert "clip_vvae: exists already and is not an empty folder, choose another folder with --out" in (
        capsys.readouterr().err
    )


def test_an_interruption_leaves_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Identity, posteriors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        yield next(iter(posteriors))[:, :, :2]
        raise KeyboardInterrupt

    monkeypatch.setattr(Identity, "decode_stream", interrupted)
    assert run("reconstruct", "clip.mp4") == 130
    assert [path.name for path in workplace.iterdir()] == ["clip.mp4"]


def test_demo_clip_writes_the_clip(workplace: Path) -> None:
    assert run("demo-clip", "demo.mp4") == 0
    assert (workplace / "demo.mp4").stat().st_size > 10_000


def test_train_hands_the_recipe_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    training = SimpleNamespace(train=lambda *places, **limits: seen.append((places, limits)))
    monkeypatch.setitem(sys.modules, "vvae.training", training)
    assert run("train", "small.toml", "--minutes", "1.5", "--threads", "2") == 0
    assert seen == [((Path("small.toml"), Path("runs/small")), {"minutes": 1.5, "threads": 2})]


@pytest.mark.parametrize("missing", ["av", "typer", "matplotlib"])
def test_without_the_extra_a_hint_names_it(missing: str) -> None:
    program = (
        "import importlib.util as u; find = u.find_spec; "
        f"u.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more); import vvae.cli"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"vvae: the command line needs {missing}: pip install 'vvae[cli]'"]
