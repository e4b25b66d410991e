"""Hypothesis profiles, and what a run says of the parity files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, settings

from tests.parity import FOLDER, LONG

WHOLE = ("model", "tiled", "loss")
"""Kinds of parity cases with whole models or losses: the quick profiles run them in one dtype, float64 if that is fast.
"""
EXCEPTED: tuple[str, ...] = ()
"""Architectures with parity files that are not built yet."""

_CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("dev", max_examples=25, **_CALM)
settings.register_profile("ci", max_examples=15, derandomize=True, **_CALM)
settings.register_profile("thorough", max_examples=1000, **_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

_CASE = re.compile(r"::test_parity\w*\[(?P<arch>[a-z_]+)-(?P<case>.+?)(-(?P<dtype>float64|float32|bfloat16))?\]$")


def parity_cases(nodeids: Iterable[str]) -> set[tuple[str, str]]:
    """(architecture, case) of every parity test among them, each once, whatever its dtype."""
    found = (_CASE.search(nodeid) for nodeid in nodeids)
    return {(match["arch"], match["case"]) for match in found if match}


def missing_cases(run: set[tuple[str, str]]) -> list[str]:
    """One phrase for each architecture of which a case did not run."""
    wanted = {arch: names for arch, names in recorded_cases().items() if arch not in EXCEPTED}
    ran = {arch: {case for of, case in run if of == arch} for arch in wanted}
    return [
        f"{arch}: {len(names & ran[arch])} of {len(names)} parity cases ran"
        for arch, names in wanted.items()
        if names - ran[arch]
    ]


def recorded_cases() -> dict[str, set[str]]:
    """Architecture -> names of its cases."""
    return {arch: set(cases) for arch, cases in _recorded().items()}


def _recorded() -> dict[str, dict[str, str]]:
    """Architecture -> names of its cases, and the kind of each."""
    indices = sorted(FOLDER.glob("*/cases.json")) if FOLDER.exists() else []
    return {
        index.parent.name: {case["case"]: case["kind"] for case in json.loads(index.read_text())} for index in indices
    }


def _outcomes(config: pytest.Config) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Parity cases that ran, and those that were skipped."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    by_outcome = {name: parity_cases(report.nodeid for report in stats.get(name, [])) for name in stats if name}
    run = by_outcome.get("passed", set()) | by_outcome.get("failed", set())
    return run, by_outcome.get("skipped", set()) - run


def _whole_suite(config: pytest.Config) -> bool:
    option = config.option
    partial = (option.keyword, option.markexpr, option.deselect, option.lf, option.collectonly, option.maxfail)
    return config.args_source is not pytest.Config.ArgsSource.ARGS and not any(partial)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("HYPOTHESIS_PROFILE") == "thorough":
        return
    models = {(arch, name) for arch, cases in _recorded().items() for name, kind in cases.items() if kind in WHOLE}
    left_out = {item for item in items if item.get_closest_marker("thorough") or _second_dtype(item.nodeid, models)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _second_dtype(nodeid: str, models: set[tuple[str, str]]) -> bool:
    """Whether this is the case of a whole model in the dtype that only the thorough profile runs."""
    found = _CASE.search(nodeid)
    if found is None or (found["arch"], found["case"]) not in models:
        return False
    return found["dtype"] == ("float64" if found["case"] in LONG else "float32")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    must = bool(os.environ.get("CI")) and _whole_suite(config) and config.pluginmanager.has_plugin("terminalreporter")
    if must and missing_cases(_outcomes(config)[0]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run, skipped = _outcomes(config)
    terminalreporter.write_line(f"parity: {len(run)} run, {len(skipped)} skipped")
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for line in dict(report.user_properties).get("drawn", "").splitlines():
            terminalreporter.write_line(f"drawn: {line}")
    if os.environ.get("CI") and _whole_suite(config):
        for phrase in missing_cases(run):
            terminalreporter.write_line(f"FAILED: {phrase}", red=True)
