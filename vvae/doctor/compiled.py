"""torch.compile on a few layers of this library, against the same layers as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vvae import layers
from vvae.doctor.convolutions import exact
from vvae.doctor.row import Gap, Row, measured
from vvae.doctor.truth import LIMITS, off_by

BACKENDS = ("aot_eager", "inductor")
WITHOUT = "leave compile() and --compile out"


def compiled_row(device: str, backend: str) -> Row:
    """The layers compiled for one size, float32. An error is a row of its own."""
    runs: list[str] = []
    try:
        with exact(device), torch.inference_mode():
            figure = _off(device, _noted(backend, runs))
    except Exception as error:
        found = _cause(error)
        return Row(
            part="compile", device=device, check=backend, verdict="unfit", found=found, advice=compile_advice(found)
        )  # fmt: skip
    row = measured("compile", device, backend, Gap(figure, "a block of layers"), LIMITS["float32"])
    if not runs:
        told = "torch compiled nothing: unset TORCH_COMPILE_DISABLE and TORCHDYNAMO_DISABLE, or do without compile()"
        return row.model_copy(update={"verdict": "unfit", "found": "nothing was compiled", "advice": told})
    told = f"{WITHOUT}, or install another release of torch"
    return row if row.verdict == "fit" else row.model_copy(update={"advice": told})


def block() -> nn.Module:
    """`b 3 t h w` -> `b 4 t h w`: a convolution, a norm and a nonlinearity, with fixed weights."""
    made = nn.Sequential(layers.CausalConv3d(3, 4), layers.FrameGroupNorm(4, 2), layers.SiLU())
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    return made.eval()


def _off(device: str, backend: Callable[..., Any]) -> float:
    made = block().to(device)
    clip = torch.randn(1, 3, 5, 8, 8, generator=torch.Generator().manual_seed(1)).to(device)
    plain: Tensor = made(clip)
    fast: Tensor = torch.compile(made, backend=backend)(clip)
    return off_by(fast, plain.cpu().double())


def _noted(backend: str, runs: list[str]) -> Callable[..., Any]:
    """The backend, which adds its name to `runs` when it is called: without dynamo nothing calls it."""

    def compile_graph(graph: Any, inputs: Any) -> Any:
        from torch._dynamo.backends.registry import lookup_backend

        runs.append(backend)
        return lookup_backend(backend)(graph, inputs)

    return compile_graph


def _cause(error: Exception) -> str:
    """The last of the lines that say something; torch puts several errors into one."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def compile_advice(found: str) -> str:
    """What to do about that error."""
    low = found.lower()
    if "compiler" in low or "g++" in low or "python.h" in low:
        return f"install a C++ compiler (Debian, Ubuntu: apt install g++ python3-dev), or {WITHOUT}"
    if "triton" in low:
        return f"install triton (pip install triton), or {WITHOUT}"
    if "python 3" in low or "not supported on" in low:
        return f"take a Python that this torch compiles for, or {WITHOUT}"
    return f"{WITHOUT}, or install another release of torch"
