"""Every code block of README.md and of the pages under docs/ is run; links, tables and pictures are what they say."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt

import vvae
from docs import figures, offline, options
from tests.docs.blocks import ROOT, blocks, run_page
from vvae import layers, verify
from vvae.spec import LayerSpec
from vvae.video import ClipWriter

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
MOST_NOT_RUN, MOST_PARSED, MOST_BYTES = 3, 6, 60_000


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny clip in place of those that pages speak of: 13 frames of 48x64, a picture that moves sideways."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 10, generator=torch.Generator().manual_seed(0)), (48, 90), mode="bicubic"
    )
    frames = [wide[..., 2 * t : 2 * t + 64] for t in range(13)]
    with ClipWriter(path, 24, (48, 64)) as writer:
        writer.write(torch.stack(frames, dim=2).clamp(0, 1) * 2 - 1)
    return path


@pytest.fixture
def folder(clip: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with that clip; kinds of layers that a page defines are forgotten after it."""
    shutil.copy(clip, tmp_path)
    kinds = dict(LayerSpec.kinds)
    yield tmp_path
    LayerSpec.kinds.clear()
    LayerSpec.kinds.update(kinds)


# the compiler of torch imports a part of torch that is deprecated
@pytest.mark.parametrize(
    "page",
    # the first steps are those of the README too, on all frames of the demo clip
    [pytest.param(page, marks=[pytest.mark.thorough] * (page.name == "start.md"), id=name_of(page)) for page in PAGES],
)
def test_every_block_of_a_page_does_what_the_page_says(page: Path, folder: Path) -> None:
    run_page(page, folder)


def test_few_blocks_are_set_apart() -> None:
    notes = [block.note for page in PAGES for block in blocks(page)]
    assert notes.count("not run") <= MOST_NOT_RUN
    assert notes.count("parsed") <= MOST_PARSED


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    tokens = [t for token in MarkdownIt("commonmark").parse(page.read_text()) for t in token.children or ()]
    links = [str(t.attrs.get("href") or t.attrs.get("src")) for t in tokens if t.type in ("link_open", "image")]
    inside = [link for link in links if not re.match(r"https?:|#", link)]
    assert [link for link in inside if not (page.parent / link.partition("#")[0]).exists()] == []
    assert all(t.content for t in tokens if t.type == "image"), "a picture without words for those who do not see it"


def test_the_tests_that_claims_name_are_there() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", (DOCS / "truth.md").read_text())
    assert len(named) > 20
    assert [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_the_laws_that_claims_name_are_there() -> None:
    named = re.findall(r"verify\.(check_\w+)", (DOCS / "truth.md").read_text())
    assert set(named) <= set(verify.__all__)


def test_every_law_of_the_suite_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", (DOCS / "verify.md").read_text(), re.M)
    assert sorted(rows) == sorted(verify.all_laws())


def test_the_reference_holds_every_public_name() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    modules = re.findall(r"^::: (\S+)$", pages, re.M)
    assert len(modules) == len(set(modules))
    public = [getattr(house, name) for house in (vvae, layers, verify) for name in house.__all__]
    named = {value.__module__ for value in public if inspect.isclass(value) or inspect.isfunction(value)}
    assert named - set(modules) == set()
    assert all(find_spec(module) for module in modules)


def test_options_on_the_page_are_those_of_the_commands() -> None:
    page = (DOCS / "commands.md").read_text()
    assert page == options.filled(page), "run python docs/options.py"
    assert re.findall(r"^## (.+)$", page, re.M) == list(options.commands())


@pytest.mark.thorough
def test_every_picture_is_drawn_by_the_script_and_small(tmp_path: Path) -> None:
    figures.draw(tmp_path)
    drawn = {file.name for file in tmp_path.iterdir()}
    assert {file.name for file in figures.PICTURES.iterdir()} == drawn
    assert all(file.stat().st_size <= MOST_BYTES for file in figures.PICTURES.iterdir())
    pages = "".join(page.read_text() for page in PAGES)
    assert [name for name in drawn if f"pictures/{name}" not in pages] == []


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<a href="https://example.org">x</a><img src="a.png"><link href="b.css">', 0),
        ('<script src="https://example.org/a.js"></script>', 1),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', 1),
        ('<img src="http://example.org/a.png"><p style="background: url(https://example.org/b.png)">', 2),
        ("<style>@import 'https://example.org/a.css';</style>", 1),
    ],
)
def test_what_a_page_fetches_is_found(html: str, count: int) -> None:
    assert len(offline.outside(html)) == count
