"""A counterexample as Python that can be pasted, and fails as the report says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def target_call(what: str, said: Mapping[str, Any], *, full_width: bool = False) -> str:
    """The call that gives the subject: `what` is an expression, `said` what is claimed of it (see `verify.target`).

    >>> target_call("'net:Net'", {"input": (1, 3, 5, 8, 8), "causal": True, "group": None})
    "verify.target('net:Net', input=(1, 3, 5, 8, 8), causal=True)"
    """
    told = {name: tuple(value) if name == "input" and value else value for name, value in said.items()}
    options = [f"{name}={value!r}" for name, value in told.items() if value is not None]
    return f"verify.target({', '.join([what, *options, *(['full_width=True'] if full_width else [])])})"


def snippet(call: str, law: str, part: str, case: Mapping[str, Any]) -> str:
    """One case of a law again, on the subject of that call: it raises the LawError that was reported."""
    arguments = [repr(law), repr(part), *(f"{name}={value!r}" for name, value in case.items())]
    return f"from vvae import verify\n\nsubject = {call}\nverify.check(subject, {', '.join(arguments)})\n"
