"""The checker of code blocks finds what is wrong with a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import BlockError, blocks, run_page, same

RIGHT = {
    "python": "```python\nx = 1\n```\ntext\n```python\nprint(x + 1)\n```\n```\n2\n```",
    "doctest": "```python\n>>> 1 + 1\n2\n>>> y = 3\n```\n```python\nassert y == 3\n```",
    "error without a traceback": "```\n>>> import vvae\n>>> vvae.Affine(shft=1)\nvvae.errors.SpecError: field ...\n```",
    "command": "```sh\n$ vvae list  # all of them\n```\n```\nvvae-small\n...\n```",
    "command that fails": "```\nvvae show no_such_model\n```\n```\nvvae: model 'no_such_model' is unknown...\n```",
    "synopsis": "```\nvvae reconstruct CLIP [--out FOLDER] [--size PIXELS]\nvvae demo-clip none/out.mp4\n```",
    "parsed alone": "<!-- parsed: takes long -->\n\n```sh\nvvae train vvae_small --minutes 3\n```",
    "settings": "```sh\nTHP_MEM_ALLOC_ENABLE=1 vvae list\n```",
    "make": "```\nmake test    # all\nmake demo CLIP=film.mp4\n```",
    "pip": "```sh\npip install -c constraints.txt -e '.[cli,train]'\n```",
    "script": "```sh\npython examples/own_block.py\n```",
    "tree": "```\nvvae/\n  spec.py  reach.py\n  layers/\n    norm.py pad.py    ideas\ntests/    laws\n```",
    "toml": "```toml\na = 1\n```",
    "json": "```json\n{}\n```",
    "yaml": "```yaml\n# a.yaml\na: 1\n```\n```python\nimport os\nprint(os.path.getsize('a.yaml'))\n```\n```\n14\n```",
    "left out": "<!-- not run: needs a GPU -->\n```python\n1 / 0\n```",
    "numbers": "```python\nprint('PSNR', 29.43, 'at 8')\n```\n```\nPSNR 29.40 at 8\n```",
}
WRONG = {
    "an error": ("```python\n1 / 0\n```", "page.md:2: line 2 raises ZeroDivisionError"),
    "another output": ("```python\nprint(2)\n```\n```\n3\n```", "3"),
    "only the first line": ("```python\nprint(2)\nprint(3)\n```\n```\n2\n```", "printed"),
    "output of nothing": ("```\n3\n```", "nothing before it prints"),
    "a number too far off": ("```python\nprint(29.43)\n```\n```\n29.80\n```", "29.43"),
    "another whole number": ("```python\nprint(65)\n```\n```\n66\n```", "65"),
    "a doctest": ("```python\n>>> 1 + 1\n3\n```", "Expected"),
    "no error in a doctest": ("```\n>>> 1 + 1\nValueError: no\n```", "Expected"),
    "an option": ("```sh\nvvae list --nope\n```", "--nope"),
    "an option, parsed": ("<!-- parsed: long -->\n```sh\nvvae train a.toml --nope\n```", "--nope"),
    "an option in a synopsis": ("```\nvvae encode CLIP [--nope N]\n```", "--nope"),
    "a command": ("```sh\nvvae nonsense\n```", "nonsense"),
    "a command, parsed": ("<!-- parsed: long -->\n```sh\nvvae nonsense\n```", "nonsense"),
    "a failure that goes unsaid": ("```sh\nvvae show missing\n```\n```python\nx = 1\n```", "does not say so"),
    "another failure": ("```sh\nvvae show missing\n```\n```\nvvae: all is well\n```", "all is well"),
    "a target": ("```\nmake coffee\n```", "coffee"),
    "an extra": ("```sh\npip install -e '.[cofee]'\n```", "cofee"),
    "constraints": ("```sh\npip install -c none.txt -e .\n```", "none.txt"),
    "a script": ("```sh\npython examples/none.py\n```", "none.py"),
    "a file of a tree": ("```\nvvae/\n  spec.py none.py\n```", "none.py"),
    "a language": ("```lua\na = 1\n```", "lua"),
    "yaml": ("```yaml\na: [\n```", "no YAML"),
    "an indented block": ("text\n\n    x = 1\n", "fence"),
    "toml": ("```toml\na = \n```", "no TOML"),
    "json": ("```json\n{\n```", "no JSON"),
    "a comment without a reason": ("<!-- not run: -->\n```python\n1 / 0\n```", "ZeroDivisionError"),
}


def page(folder: Path, text: str) -> Path:
    file = folder / "page.md"
    file.write_text(f"{text}\n")
    return file


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_block_passes(name: str, tmp_path: Path) -> None:
    assert run_page(page(tmp_path, RIGHT[name]), tmp_path)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_block_is_found(name: str, tmp_path: Path) -> None:
    text, told = WRONG[name]
    with pytest.raises(BlockError) as caught:
        run_page(page(tmp_path, text), tmp_path)
    assert told in str(caught.value)


def test_every_fence_of_a_page_is_seen(tmp_path: Path) -> None:
    text = "1. in a list\n\n   ```python\n   x = 1\n   ```\n\n> ```python\n> y = 1\n> ```\n\n~~~python\nz = 1\n~~~"
    assert [block.text for block in blocks(page(tmp_path, text))] == ["x = 1\n", "y = 1\n", "z = 1\n"]


@pytest.mark.parametrize(
    ("told", "found", "equal"),
    [
        ("a ... c", "a b c", True),
        ("a\n...", "a\nb\nc", True),
        ("a ... c", "a b d", False),
        ("a", "a \n\n", True),
        ("0.10 x", "0.0999 x", True),
        ("0.10 x", "0.20 x", False),
        ("1 x", "1.0 x", False),
        ("...", "", True),
    ],
)
def test_words_are_those_printed(told: str, found: str, equal: bool) -> None:
    assert same(told, found) is equal
