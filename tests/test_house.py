"""How the house is kept: public names, names of architectures, sizes, docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vvae
from tests.conftest import missing_cases, parity_cases
from vvae import layers
from vvae.spec import LayerSpec

PACKAGE = Path(vvae.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_FILE = 60, 450
PUBLIC = [
    "WHOLE_CLIP",
    "Affine",
    "CheckpointError",
    "ClipNorm",
    "Context",
    "DiagonalGaussian",
    "Fit",
    "FrameLayerSpec",
    "Framing",
    "LayerSpec",
    "PosteriorSpec",
    "Signal",
    "SpecError",
    "StreamError",
    "StreamState",
    "StreamStep",
    "TileError",
    "VideoAutoencoder",
    "VideoAutoencoderSpec",
    "VideoError",
    "VvaeError",
    "WholeClip",
    "arch",
    "layers",
    "load",
    "load_published",
    "load_state",
    "save_state",
]
ARCHITECTURES = re.compile(
    r"od_?vae|open_?sora|reducio|iv_?vae|(^|_)(tae|wan)(_|$)|^TAE|(?-i:^Wan[A-Z])|image_?vae", re.IGNORECASE
)


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def docstrings(module: ast.Module) -> set[ast.Constant]:
    """Strings that stand as statements: docstrings of modules, classes, functions and names."""
    return {n.value for n in ast.walk(module) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def words(file: Path) -> Iterator[str]:
    """Identifiers and strings of a file, docstrings aside."""
    module = tree(file)
    prose = docstrings(module)
    for node in ast.walk(module):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.FunctionDef(name=word) | ast.ClassDef(name=word):
                yield word
            case ast.keyword(arg=str(word)):
                yield word
            case ast.Constant(value=str(word)) if node not in prose:
                yield word


def test_public_names_are_exactly_these() -> None:
    assert sorted(vvae.__all__) == sorted(PUBLIC)
    assert all(hasattr(vvae, name) for name in PUBLIC)
    assert all(hasattr(layers, name) for name in layers.__all__)


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f).startswith("layers")], ids=name_of)
def test_layers_know_no_architecture(file: Path) -> None:
    assert [word for word in words(file) if ARCHITECTURES.search(word)] == []
    assert not ARCHITECTURES.search(file.stem)


def test_layer_kinds_name_no_architecture() -> None:
    own = [kind for kind, spec in LayerSpec.kinds.items() if spec.__module__.startswith("vvae.")]
    assert len(own) > 20
    assert [kind for kind in own if ARCHITECTURES.search(kind)] == []


@pytest.mark.parametrize(
    "name", ["od_vae_norm", "OdVaeNorm", "opensora", "tae", "TAEDown", "my_tae_block", "IvVae", "WanNorm", "wan"]
)
def test_an_architecture_is_recognised_by_name(name: str) -> None:
    assert ARCHITECTURES.search(name)


@pytest.mark.parametrize(
    "name", ["metadata", "period", "stated", "detaesh", "causal", "explode_vaerious", "wanted", "Wants"]
)
def test_other_words_are_no_architecture(name: str) -> None:
    assert not ARCHITECTURES.search(name)


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f).startswith("arch")], ids=name_of)
def test_architectures_are_data(file: Path) -> None:
    module = tree(file)
    imported = {a.name for n in ast.walk(module) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in ast.walk(module) if isinstance(n, ast.ImportFrom)}
    assert not {name for name in imported if name.split(".")[0] in ("torch", "numpy", "einops")}
    bases = {ast.unparse(b) for n in ast.walk(module) if isinstance(n, ast.ClassDef) for b in n.bases}
    assert not {base for base in bases if base.endswith(("Module", "LayerSpec", "CompositeSpec", "Layer"))}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES_OF_A_FILE
    functions = [n for n in ast.walk(tree(file)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > MOST_LINES_OF_A_FUNCTION]
    assert long == []


@pytest.mark.parametrize("house", [vvae, layers], ids=["vvae", "vvae.layers"])
def test_public_classes_and_functions_have_docstrings(house: object) -> None:
    named = {name: getattr(house, name) for name in house.__all__}  # type: ignore[attr-defined]
    documented = {n: v for n, v in named.items() if inspect.isclass(v) or inspect.isfunction(v)}
    assert [name for name, value in documented.items() if not value.__doc__] == []


def test_parity_cases_are_counted_once_for_all_dtypes() -> None:
    nodes = [f"tests/arch/test_x.py::test_parity[iv_vae-model_t9-{dtype}]" for dtype in ("float64", "float32")]
    nodes += ["tests/arch/test_x.py::test_parity_of_parts[od_vae-norm]", "tests/test_x.py::test_other[iv_vae-model_t1]"]
    assert parity_cases(nodes) == {("iv_vae", "model_t9"), ("od_vae", "norm")}


def test_missing_parity_cases_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conftest.EXCEPTED", ("later",))
    for arch in ("iv_vae", "later"):
        (tmp_path / arch).mkdir()
        (tmp_path / arch / "cases.json").write_text('[{"case": "a", "kind": "unit"}, {"case": "b", "kind": "model"}]')
    monkeypatch.setattr("tests.conftest.FOLDER", tmp_path)
    assert missing_cases({("iv_vae", "a"), ("iv_vae", "b")}) == []
    assert missing_cases({("iv_vae", "a")}) == ["iv_vae: 1 of 2 parity cases ran"]
    assert missing_cases({("iv_vae", "a"), ("iv_vae", "c")}) == ["iv_vae: 1 of 2 parity cases ran"]
    assert missing_cases(set()) == ["iv_vae: 0 of 2 parity cases ran"]
