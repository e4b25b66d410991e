"""Command lines as they stand on a page: `vvae` commands are run here, others are looked up."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import typer

from vvae.cli import main
from vvae.cli.commands import app

ROOT = Path(__file__).parents[2]
_FIRST_WORDS = ("vvae", "make", "pip", "python", "source", "git", "cd")
_SETS = re.compile(r"[A-Z][A-Z0-9_]*=\S*")


class CommandError(ValueError):
    """A command that could not be as it stands there."""


def is_command(line: str) -> bool:
    words = [word for word in line.removeprefix("$ ").split() if not _SETS.fullmatch(word)]
    return bool(words) and words[0] in _FIRST_WORDS


def is_synopsis(line: str) -> bool:
    """Whether parts of it stand in brackets: it says how a command is called, and is no call."""
    return line.startswith("vvae ") and re.search(r"\[(--|[A-Z])", line) is not None


def lines(text: str) -> Iterator[str]:
    """The commands of a block, one a line, without comments; a backslash joins two lines."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).removeprefix("$ ").strip()
        if bare:
            yield bare


def run(line: str, *, parse_only: bool = False) -> tuple[int, str]:
    """The exit code of a command and what it says: on stdout, or on stderr where it fails.

    Raises:
        CommandError: an unknown command, option, target, extra or file.
    """
    if is_synopsis(line):
        return _check_synopsis(line)
    words = shlex.split(line)
    start = next(place for place, word in enumerate(words) if not _SETS.fullmatch(word))
    settings = dict(word.split("=", 1) for word in words[:start])
    name, *rest = words[start:]
    match name:
        case "vvae" if parse_only:
            return _parse(rest)
        case "vvae":
            return _vvae(rest, settings)
        case "make":
            _check_targets([word for word in rest if "=" not in word])
        case "pip":
            _check_extras(rest)
        case "python":
            _check_script(rest)
        case "source" | "git" | "cd":
            pass
        case _:
            raise CommandError(f"no test knows {name}; it is one of {', '.join(_FIRST_WORDS)}")
    return 0, ""


def _vvae(words: list[str], settings: dict[str, str]) -> tuple[int, str]:
    out, told = io.StringIO(), io.StringIO()
    code: object = 0
    before, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    os.environ.update(settings)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            main(words)
    except SystemExit as end:
        code = end.code
    finally:
        signal.signal(signal.SIGTERM, before)
        os.environ.clear()
        os.environ.update(environment)
    number = int(code) if isinstance(code, int) else 1
    return number, told.getvalue() if number else out.getvalue()


def _parse(words: list[str]) -> tuple[int, str]:
    """Typer reads the words, and nothing runs."""
    name, *rest = words
    command = typer.main.get_command(app).commands.get(name)
    if command is None:
        raise CommandError(f"no such command: {name}")
    try:
        command.make_context(name, rest)
    except typer.TyperException as error:
        raise CommandError(error.format_message()) from None
    return 0, ""


def _check_synopsis(line: str) -> tuple[int, str]:
    """A line with parts in brackets: the command and all its options must be there."""
    name, command, *_ = line.split()
    known = typer.main.get_command(app).commands
    if name != "vvae" or command not in known:
        raise CommandError(f"no such command: {name} {command}")
    options = {option for parameter in known[command].params for option in parameter.opts}
    if unknown := set(re.findall(r"--[a-z][a-z-]*", line)) - options - {"--help"}:
        raise CommandError(f"no such option: {', '.join(sorted(unknown))}")
    return 0, ""


def _check_targets(names: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    if unknown := [name for name in names if name not in targets]:
        raise CommandError(f"the Makefile has no {unknown[0]}")


def _check_extras(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [extra for word in words for found in re.findall(r"\[([\w,-]+)\]", word) for extra in found.split(",")]
    if unknown := [name for name in named if name not in extras]:
        raise CommandError(f"there is no extra {unknown[0]}")
    if missing := [words[i + 1] for i, word in enumerate(words) if word == "-c" and not (ROOT / words[i + 1]).exists()]:
        raise CommandError(f"there is no {missing[0]}")


def _check_script(words: list[str]) -> None:
    scripts = [word for word in words if word.endswith(".py")]
    if missing := [script for script in scripts if not (ROOT / script).exists()]:
        raise CommandError(f"there is no {missing[0]}")
