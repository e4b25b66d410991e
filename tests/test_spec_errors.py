"""Every SpecError in the package is met by a drawn broken spec; a new one fails until it has a way to break it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings

import vvae
from vvae import Framing, SpecError, VideoAutoencoderSpec
from vvae.layers import ResidualSpec, SiLUSpec, chain, parallel
from vvae.verify.distribution import sample
from vvae.verify.strategies import BROKEN, Broken, BrokenLayer, broken_layers, broken_specs

PACKAGE = Path(vvae.__file__).parent
ELSEWHERE = ("published", "training", "models", "tiling", "losses")  # tested beside their own code
Site = tuple[str, str, int]
"""File, function, and the how-many-eth `raise SpecError` of that function."""
SILU = SiLUSpec()
EACH = 2
"""Examples of each way to break something, of which the first is the smallest."""


def raises(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Raise]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        name = f"{inside}.{node.name}".lstrip(".") if named else inside  # type: ignore[attr-defined]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "SpecError":
            yield name, node
        yield from raises(node, name)


def sites() -> dict[Site, tuple[str, range]]:
    """Every site, with its file and lines."""
    found: dict[Site, tuple[str, range]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE)
        if place.parts[0] in ELSEWHERE:
            continue
        for function, node in raises(ast.parse(file.read_text())):
            index = sum(1 for known in found if known[:2] == (str(place), function))
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[str(place), function, index] = (str(file), lines)
    return found


SITES = sites()
BY_LINE = {(file, line): site for site, (file, lines) in SITES.items() for line in lines}


@contextmanager
def recorded() -> Iterator[list[Site]]:
    """The sites at which a SpecError is made, in order; where others are caught on the way, the last one is told."""
    found: list[Site] = []
    make = SpecError.__init__

    def making(self: SpecError, *args: Any, **kwargs: Any) -> None:
        caller = sys._getframe(1)
        if site := BY_LINE.get((caller.f_code.co_filename, caller.f_lineno)):
            found.append(site)
        make(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpecError, "__init__", making)
        yield found


def met(broken: Broken | BrokenLayer) -> tuple[SpecError, Site]:
    """The error that something broken gives, and where it comes from."""
    with recorded() as found, pytest.raises(SpecError) as caught:
        broken.meet()
    assert found, f"no site that is known: {caught.value}"
    return caught.value, found[-1]


REPAIR = re.compile(
    r"\b(must|takes?|give|use|choose|need(s|ed)?|near it|wrap|make|import|install|write|change|holds)\b"
)


def check_told(broken: Broken | BrokenLayer) -> Site:
    """The error is the one that was asked for, in one line that says what to do; where it comes from."""
    error, site = met(broken)
    assert re.search(broken.says, str(error)), f"another error came first: {error}"
    assert "\n" not in str(error)
    assert REPAIR.search(error.message), f"says nothing of what is legal or what to do: {error.message}"
    return site


def check_led(broken: BrokenLayer) -> None:
    """The error of a layer deep inside is led by its dotted path, when it is traced and when a model is described."""
    with pytest.raises(SpecError, match=broken.says) as caught:
        chain(fine=SILU, outer=ResidualSpec(layers={"inner": parallel(bad=broken.spec)})).trace(broken.signal)
    assert str(caught.value).startswith("outer.inner.bad")
    assert caught.value.path[:3] == ("outer", "inner", "bad")
    read = broken.signal
    assert read.stride == 1
    framing = Framing(channels=read.channels, lead=read.lead, group=read.group)
    with pytest.raises(SpecError, match=r"^encoder\.first\b"):
        VideoAutoencoderSpec(name="bad", encoder=chain(first=broken.spec), decoder=SILU, framing=framing)


def test_each_raise_of_a_spec_error_is_met_by_a_broken_spec() -> None:
    ways: dict[Site, list[str]] = {site: [] for site in SITES}
    for name, strategy in BROKEN.items():
        drawn = sample(strategy, EACH)
        found = {check_told(broken) for broken in drawn}
        assert len(found) == 1, f"{name} breaks several things: {sorted(found)}"
        ways[found.pop()].append(name)
        for broken in drawn:
            if isinstance(broken, BrokenLayer):
                check_led(broken)
    missing = [site for site, names in ways.items() if not names]
    assert not missing, f"{len(missing)} places that no broken spec meets: {missing}"


@settings(max_examples=max(60, settings().max_examples))
@given(broken_specs())
def test_what_is_broken_is_told_as_it_says(broken: Broken | BrokenLayer) -> None:
    note(f"{broken}")
    check_told(broken)


@settings(max_examples=max(60, settings().max_examples))
@given(broken_layers())
def test_error_of_a_layer_is_led_by_the_dotted_path(broken: BrokenLayer) -> None:
    note(f"{broken}")
    check_led(broken)
