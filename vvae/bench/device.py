"""The same work on a GPU: bfloat16, channels last, compiled beside eager, and how near it comes to the hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench.contest import counted
from vvae.bench.costs import convolution_share, operators
from vvae.bench.figures import Figure, Spread, paired, spread
from vvae.bench.rounds import Say, play, seconds, timed
from vvae.bench.work import DIRECTIONS, Size, random_model, source, whole
from vvae.errors import VvaeError
from vvae.summary import Direction

Device: TypeAlias = Literal["cpu", "cuda"]
DTYPE = torch.bfloat16
SIDE = 8192
"""Side of the square matrices whose product tells the hardware's rate."""


class OnDevice(Figure):
    """One direction on the device.

    `matmul_share` is the model's FLOP/s over those of a large matrix product in the same rounds; `peak` in bytes, what
    the allocator held above the model; `first_seconds` are those of the first run, compiling included.
    """

    direction: Direction
    size: Size
    compiled: bool
    first_seconds: float
    seconds: Spread
    flops_per_second: float
    matmul_share: Spread
    convolution_share: float
    peak: int | None


def check(device: Device) -> None:
    """VvaeError where the device is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise VvaeError("device cuda: no GPU is here; take --device cpu, or run it on a machine with one")


def on_device(
    spec: VideoAutoencoderSpec, size: Size, rounds: int, device: Device, say: Say, *, compiled: bool = True
) -> list[OnDevice]:
    """Both directions whole, eager and, if wanted, compiled, beside a matrix product in every round."""
    check(device)
    model = random_model(spec, DTYPE, device)
    twins = {"eager": model, **({"compiled": model.compile()} if compiled else {})}
    work, found = counted(spec, size), []
    for direction in DIRECTIONS:
        x = next(source(spec, direction, size)).to(device, DTYPE)
        passes = {name: _pass(twin, direction, x, device) for name, twin in twins.items()}
        found += _figures(direction, size, passes, work[direction], rounds, device, say)
    return found


def _figures(
    direction: Direction,
    size: Size,
    passes: Mapping[str, Callable[[], None]],
    flops: int,
    rounds: int,
    device: Device,
    say: Say,
) -> list[OnDevice]:
    """The passes of one direction, each warmed up, in rounds with the matrix product."""
    first = {name: timed(run).seconds for name, run in passes.items()}
    product, product_flops = _product(device)
    product()
    played = play({name: partial(timed, run) for name, run in {"product": product, **passes}.items()}, rounds, say)
    rates = [product_flops / s for s in seconds(played, "product")]
    share = convolution_share(operators(passes["eager"], device))
    return [
        OnDevice(
            direction=direction,
            size=size,
            compiled=name == "compiled",
            first_seconds=first[name],
            seconds=spread(seconds(played, name)),
            flops_per_second=flops / spread(seconds(played, name)).median,
            matmul_share=paired([flops / s for s in seconds(played, name)], rates),
            convolution_share=share,
            peak=_peak(run, device),
        )
        for name, run in passes.items()
    ]


def _pass(model: VideoAutoencoder, direction: Direction, x: Tensor, device: Device) -> Callable[[], None]:
    return _waiting(lambda: whole(model, direction, x), device)


def _waiting(run: Callable[[], object], device: Device) -> Callable[[], None]:
    """`run` until the device is done with it."""

    def wait() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    return wait


def _product(device: Device) -> tuple[Callable[[], None], int]:
    """A square matrix product and its FLOPs; a small one on a CPU."""
    side = SIDE if device == "cuda" else 256
    a = torch.randn(side, side).to(device, DTYPE)
    return _waiting(lambda: a @ a, device), 2 * side**3


def _peak(run: Callable[[], object], device: Device) -> int | None:
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before
