"""What a run measures: which specs, which clips, how often."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import PositiveInt

from vvae.bench.device import Device
from vvae.bench.figures import Figure
from vvae.bench.work import Size

Part: TypeAlias = Literal["speed", "memory", "growth", "costs"]
PARTS: tuple[Part, ...] = ("speed", "memory", "growth", "costs")
DEFAULT_SPEC = "iv_vae:z16_dim64"


class Plan(Figure):
    """The parts of a run.

    `specs` are names as everywhere: `iv_vae:z16_dim64`, `vvae-small`, a file; `diffusers:NAME` is a peer. `sizes` are
    those of the contest and, the first, of the costs. `unit`: whether U takes part; `exact`: whether errors are
    measured, against float64, which takes long; `streams`: whether streams take part. `growth` goes by `frames_grow`
    and `sides_grow`, each from its smallest clip on; `longer` is the clip with which streams must not take more memory.
    """

    specs: tuple[str, ...] = (DEFAULT_SPEC,)
    sizes: tuple[Size, ...] = ((17, 128, 128),)
    rounds: PositiveInt = 5
    parts: tuple[Part, ...] = PARTS
    unit: bool = True
    compiled: bool = False
    exact: bool = True
    streams: bool = True
    device: Device = "cpu"
    memory_sizes: tuple[Size, ...] = ((17, 128, 128), (17, 256, 256), (33, 128, 128))
    longer: Size | None = (65, 128, 128)
    frames_grow: tuple[Size, ...] = ((5, 64, 64), (9, 64, 64), (17, 64, 64), (33, 64, 64))
    sides_grow: tuple[Size, ...] = ((9, 64, 64), (9, 96, 96), (9, 128, 128))


QUICK = Plan(
    specs=("vvae-small",),
    sizes=((5, 16, 16),),
    rounds=2,
    unit=False,
    memory_sizes=((5, 16, 16),),
    longer=(9, 16, 16),
    frames_grow=((5, 16, 16), (9, 16, 16)),
    sides_grow=((5, 16, 16), (5, 32, 32)),
)
"""Every part in a few seconds: to see that it runs, not to learn from."""
