"""The examples: their JSON is their Python, they are verified, they learn, and what they say is what is so."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vvae import SpecError, VideoAutoencoderSpec, verify
from vvae.models.names import spec_of

FOLDER = Path(__file__).parents[1] / "examples"
MODELS = sorted(file.stem for file in FOLDER.glob("*.json"))
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples find the module that they share, as they do when they are run as scripts."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    sys.modules.pop("trial", None)


def run(name: str, run_name: str = "example") -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / f"{name}.py"), run_name=run_name)


def test_there_are_three_models() -> None:
    assert MODELS == ["causal_reducio", "od_vae_group_causal", "two_paths_ahead"]


@every_model
def test_example_is_verified_and_learns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(name, "__main__")
    told = capsys.readouterr().out
    assert told.startswith(f"{name}: ")
    for word in ("in time", "reach", "stream", "training"):
        assert f"\n{word} " in told
    before, after = (float(loss) for loss in re.findall(r"loss (\S+) -> (\S+)", told)[0])
    assert after < 0.9 * before


@every_model
def test_json_and_python_are_the_same_spec(name: str, tmp_path: Path) -> None:
    example, file = run(name), FOLDER / f"{name}.json"
    own = example["spec"]()
    assert VideoAutoencoderSpec.from_json(file.read_bytes()) == own
    other = tmp_path / file.name
    other.write_text(own.replace(name="another").to_json())
    with pytest.raises(verify.LawError, match="another model"):
        example["trial"].run(own, other)


@every_model
def test_example_streams_both_ways_and_nobody_has_published_it(name: str) -> None:
    own = run(name)["spec"]()
    assert (own.stream_limit("encode"), own.stream_limit("decode")) == (None, None)
    assert own.name == name
    assert spec_of(str(FOLDER / f"{name}.json")) == own, "vvae show takes the file"


def test_two_paths_with_the_norm_over_the_clip_name_it() -> None:
    told = run("two_paths_ahead")["refused"]()
    assert "encoder.level0.block0.motion.norm_a: its norm is over the whole clip" in told


def test_two_paths_look_ahead_in_one_branch_alone() -> None:
    own = run("two_paths_ahead")["spec"]()
    encode, decode = own.dependency(13, "encode"), own.dependency(13, "decode")
    assert encode[1].nonzero()[0].max() > 4, "the latent of frames 1 to 4 sees the next group"
    last_seen = [row.nonzero()[0].max() for row in decode]
    assert last_seen[4] > last_seen[1] == 1, "a keyframe sees its own latent, the frames between them the next one"


def test_images_of_the_causal_model_must_be_whole_groups() -> None:
    own = run("causal_reducio")["spec"]()
    with pytest.raises(SpecError, match="content"):
        own.replace(content=own.content.replace(every=6))
