"""The doctor notices compilers that are missing, wrong or switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vvae.doctor import compiled
from vvae.doctor.compiled import BACKENDS, compile_advice, compiled_row


@pytest.fixture
def compile_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`compile_as(what)`: what a compiled module gives of what the module itself gives; the backend is called."""

    def put(what: Callable[[Tensor], Tensor]) -> None:
        def compile(module: nn.Module, backend: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
            backend(None, None)
            return lambda clip: what(module(clip))

        monkeypatch.setattr(compiled, "_noted", lambda backend, runs: lambda *graph: runs.append(backend))
        monkeypatch.setattr(torch, "compile", compile)

    return put


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (lambda y: y, "fit"),
        (lambda y: y * 1.001, "unfit"),
        (lambda y: y[:, :, :-1], "unfit"),
        (lambda y: y.log(), "unfit"),
    ],
)
def test_compiled_layers_give_what_they_give_uncompiled(
    compile_as: Callable[..., None], what: Callable[[Tensor], Tensor], verdict: str
) -> None:
    compile_as(what)
    row = compiled_row("cpu", "inductor")
    assert row.verdict == verdict
    assert bool(row.advice) == (verdict == "unfit")


def test_a_compiler_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: nn.Module, backend: object) -> None:
        try:
            raise RuntimeError("No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')")
        except RuntimeError as error:
            raise ValueError("backend='inductor' raised:\nRuntimeError") from error

    monkeypatch.setattr(torch, "compile", broken)
    row = compiled_row("cpu", "inductor")
    assert (row.verdict, row.figure) == ("unfit", None)
    assert "No working C++ compiler" in row.found
    assert "apt install g++" in row.advice


def test_where_nothing_is_compiled_it_is_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, backend: module)
    row = compiled_row("cpu", "aot_eager")
    assert (row.verdict, row.found) == ("unfit", "nothing was compiled")
    assert "TORCHDYNAMO_DISABLE" in row.advice


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ("InvalidCxxCompiler: No working C++ compiler found", "apt install g++"),
        ("CppCompileError: fatal error: Python.h: No such file", "python3-dev"),
        ("TritonMissing: Cannot find a working triton installation", "pip install triton"),
        ("RuntimeError: torch.compile is not supported on Python 3.15+", "take a Python"),
        ("AssertionError: something else", "another release of torch"),
    ],
)
def test_advice_goes_by_the_error(found: str, told: str) -> None:
    assert told in compile_advice(found)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("backend", "environment", "verdict", "told"),
    [
        *((backend, {}, "fit", "a block of layers") for backend in BACKENDS),
        ("aot_eager", {"TORCHDYNAMO_DISABLE": "1"}, "unfit", "nothing was compiled"),
        ("inductor", {"CXX": "/no/compiler"}, "unfit", "No working C++ compiler"),
    ],
)
def test_the_compilers_of_torch(
    backend: str, environment: dict[str, str], verdict: str, told: str, tmp_path: Path
) -> None:
    program = (
        "import sys; from vvae.doctor.compiled import compiled_row; row = compiled_row('cpu', sys.argv[1]); "
        "print(row.verdict, row.found)"
    )
    fresh = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "-c", program, backend], capture_output=True, text=True, env=fresh)
    assert done.stdout.startswith(f"{verdict} ")
    assert told in done.stdout
