"""The tables of arguments and options in commands.md, from the commands themselves: python docs/options.py."""

from __future__ import annotations

import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from vvae.cli.commands import app

PAGE = Path(__file__).parent / "commands.md"
_PLACE = re.compile(r"(<!-- options of (.+?) -->\n).*?(<!-- end -->)", re.S)


def commands() -> dict[str, Any]:
    """The commands of the command line by name; those of a group behind its name."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {below}": one for below, one in inner.items()}
    return found


def table(name: str) -> str:
    """The arguments and options of a command, in the order of its help."""
    command = commands()[name]
    hints = get_type_hints(command.callback)
    rows = [_row(parameter, hints[parameter.name]) for parameter in command.params]
    return "\n".join(
        ["", "| | what it does |", "|---|---|", *(f"| `{call}` | {told} |" for call, told in rows), "", ""]
    )


def _row(parameter: Any, hint: Any) -> tuple[str, str]:
    """How a parameter is called, and what it is for."""
    choices = next((get_args(one) for one in (hint, *get_args(hint)) if get_origin(one) is Literal), ())
    told, _, default = parameter.help.partition("[default: ")
    told, default = told.strip().rstrip("."), default.rstrip("]")
    if choices:
        told += f": {', '.join(choices)}"
    if parameter.param_type_name == "argument":
        return parameter.metavar, told
    if parameter.is_flag:
        return parameter.opts[0], told
    if parameter.default is not None:
        default = str(parameter.default)
    if get_origin(hint) is list or (get_origin(hint) is UnionType and get_origin(get_args(hint)[0]) is list):
        told += "; may be given several times"
    value = parameter.metavar or ("VALUE" if choices else "N" if int in (hint, *get_args(hint)) else "VALUE")
    return f"{parameter.opts[0]} {value}", told + (f"; default {default}" if default else "")


def filled(page: str) -> str:
    """The page with all tables as they are now."""
    return _PLACE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
