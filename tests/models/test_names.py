"""What a name can mean: a model that ships, a file, a spec, an architecture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import tiny_model
from vvae import CheckpointError, SpecError, VvaeError
from vvae.arch import iv_vae
from vvae.models.files import made_by
from vvae.models.names import is_architecture, spec_of
from vvae.state import weights_digest


def test_each_kind_of_name_gives_its_spec(tmp_path: Path) -> None:
    model = tiny_model()
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "spec.json").write_text(model.spec.to_json())
    for name in ("model.safetensors", "spec.json", "."):
        assert spec_of(tmp_path / name) == model.spec
    assert spec_of("iv_vae:z16_dim96") == iv_vae("z16_dim96")
    assert spec_of("iv_vae") == iv_vae()
    assert spec_of("vvae-small").name == "vvae-small"


def test_a_file_comes_before_an_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_architecture("iv_vae:z4_dim64")
    assert not is_architecture("vvae-small")
    tiny_model().save("iv_vae")
    assert not is_architecture("iv_vae")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vvae-smal", "vvae-small"),
        ("iv_vae:z5_dim64", "z4_dim64"),
        ("absent.json", "cannot be read"),
        ("list.json", "no spec"),
        ("bytes.json", "no text"),
        ("absent.safetensors", "no such file"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1]")
    Path("bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises((CheckpointError, SpecError), match=message) as caught:
        spec_of(name)
    assert "\n" not in str(caught.value)


def test_a_model_that_ships_is_found_by_its_weights(tmp_path: Path) -> None:
    from vvae import load

    assert made_by(weights_digest(load("vvae-small")), "any", tmp_path) == "vvae-small"
    with pytest.raises(VvaeError, match="--model"):
        made_by("0" * 64, "any", tmp_path)
