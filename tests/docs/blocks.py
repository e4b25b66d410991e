"""Code blocks of a Markdown page: found, told apart, run from the first to the last, compared with what the page says.

python        run in one namespace per page; with `>>>` a doctest, where `SomeError: ...` needs no traceback above it
sh            `vvae` commands run; targets of `make`, files of `python` and extras of `pip install` must exist
toml, json    must parse
yaml          the same; where its first line is a name, as `# mine.yaml`, it is written to that file
no language   a command, a doctest, a tree of files that exist, or what the block before it prints

In what is printed `...` stands for anything, and numbers with a point may be 0.5 % off. A comment before a block
sets it apart: `<!-- parsed: REASON -->` (its commands are looked up, not run), `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import math
import os
import re
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from tests.docs import shell

ROOT = Path(__file__).parents[2]
_NOTE = re.compile(r"<!-- (parsed|not run): (\S.*?) -->")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
_NEAR = 0.005


class BlockError(AssertionError):
    """A block does not do what its page says; led by page and line."""


@dataclass(frozen=True)
class Block:
    """`line` counts from 1 and is that of the first line of `text`; `note` is "", "parsed" or "not run"."""

    page: Path
    line: int
    language: str
    text: str
    note: str = ""

    def error(self, message: str) -> BlockError:
        return BlockError(f"{self.page.name}:{self.line}: {message}")

    @property
    def kind(self) -> str:
        """python, doctest, sh, tree, output, toml, json or yaml."""
        first = self.text.partition("\n")[0]
        match self.language:
            case "python" | "" if ">>> " in self.text:
                return "doctest"
            case "" if shell.is_command(first):
                return "sh"
            case "" if first.endswith("/"):
                return "tree"
            case "":
                return "output"
            case "python" | "sh" | "toml" | "json" | "yaml":
                return self.language
        raise self.error(f"no test knows blocks of {self.language!r}")


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order; one that is only indented is an error, since nothing tells what it is."""
    note = ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            found = _NOTE.search(token.content)
            note = found[1] if found else ""
        elif token.type in ("fence", "code_block"):
            block = Block(page, (token.map or [0])[0] + 2, token.info.strip(), token.content, note)
            if token.type == "code_block":
                raise block.error("an indented block; fence it and say what it is")
            yield block
            note = ""
        elif token.type.endswith("_open"):
            note = ""


@dataclass
class Run:
    """The state between two blocks: names, what was printed last, and whether a failure still waits for its words."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    printed: str | None = None
    failed: Block | None = None

    def block(self, block: Block) -> None:
        if block.note == "not run":
            self.printed = None
            return
        if self.failed and block.kind != "output":
            raise self.failed.error(f"a command fails, and the page does not say so: {self.printed}")
        getattr(self, f"_{block.kind}")(block)

    def end(self) -> None:
        if self.failed:
            raise self.failed.error(f"a command fails, and the page does not say so: {self.printed}")

    def _python(self, block: Block) -> None:
        # empty lines in front: a traceback then shows the line of the page
        code = "\n" * (block.line - 1) + block.text
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                exec(compile(code, str(block.page), "exec", dont_inherit=True), self.names)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[1:2]
                line = where[0].lineno if where else block.line
                raise block.error(f"line {line} raises {type(error).__name__}: {error}") from error
        self.printed = out.getvalue()

    def _doctest(self, block: Block) -> None:
        text = re.sub(r"^(?=[\w.]+Error: )", "Traceback (most recent call last):\n", block.text, flags=re.M)
        test = doctest.DocTestParser().get_doctest(text, self.names, block.page.name, str(block.page), block.line - 1)
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        if runner.run(test, out=told.append, clear_globs=False).failed:
            raise block.error("".join(told))
        self.names.update(test.globs)
        self.printed = None

    def _sh(self, block: Block) -> None:
        said: list[str] = []
        lines = list(shell.lines(block.text))
        parse_only = block.note == "parsed" or any(map(shell.is_synopsis, lines))
        for line in lines:
            try:
                code, text = shell.run(line, parse_only=parse_only)
            except shell.CommandError as error:
                raise block.error(f"{line}: {error}") from None
            said.append(text)
            if code:
                self.failed = block
        self.printed = "".join(said)

    def _output(self, block: Block) -> None:
        if self.printed is None:
            raise block.error("nothing before it prints; give the block a language, or a block that prints it")
        if not same(block.text, self.printed):
            raise block.error(f"the page says\n{block.text}\nbut this is printed\n{self.printed}")
        self.printed = self.failed = None

    def _tree(self, block: Block) -> None:
        above: list[tuple[int, Path]] = [(-1, ROOT)]
        for line in block.text.splitlines():
            depth, entry = len(line) - len(line.lstrip()), re.split(r"\s{2,}", line.strip())[0]
            while above[-1][0] >= depth:
                above.pop()
            paths = [above[-1][1] / name for name in entry.split()]
            if missing := [path for path in paths if not path.exists()]:
                raise block.error(f"there is no {missing[0].relative_to(ROOT)}")
            above.append((depth, paths[-1]))

    def _toml(self, block: Block) -> None:
        try:
            tomllib.loads(block.text)
        except tomllib.TOMLDecodeError as error:
            raise block.error(f"no TOML: {error}") from None

    def _json(self, block: Block) -> None:
        try:
            json.loads(block.text)
        except json.JSONDecodeError as error:
            raise block.error(f"no JSON: {error}") from None

    def _yaml(self, block: Block) -> None:
        try:
            yaml.safe_load(block.text)
        except yaml.YAMLError as error:
            raise block.error(f"no YAML: {error}") from None
        if named := re.match(r"# (\w+\.yaml)\n", block.text):
            (self.folder / named[1]).write_text(block.text)


def same(told: str, found: str) -> bool:
    """Whether a page's words are what was printed; `...` stands for anything, numbers with a point may be 0.5 % off."""
    told, found = ("\n".join(line.rstrip() for line in text.strip("\n").splitlines()) for text in (told, found))
    pieces = told.split("...")
    match = re.fullmatch(r"[\s\S]*?".join(_pattern(piece) for piece in pieces), found)
    if match is None:
        return False
    numbers = [float(number) for piece in pieces for number in _NUMBER.findall(piece)]
    return all(math.isclose(a, float(b), rel_tol=_NEAR) for a, b in zip(numbers, match.groups(), strict=True))


def _pattern(piece: str) -> str:
    """Words as they are, any number with a point in the place of one."""
    return f"({_NUMBER.pattern})".join(re.escape(text) for text in _NUMBER.split(piece))


def run_page(page: Path, folder: Path) -> list[Block]:
    """Run all blocks of a page, with `folder` as the current one.

    Raises:
        BlockError: the first block that does not do what its page says.
    """
    found = list(blocks(page))
    run = Run(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        for block in found:
            run.block(block)
        run.end()
    finally:
        os.chdir(before)
    return found
