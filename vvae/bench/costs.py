"""Where the time goes, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import computed_field
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench.figures import Figure
from vvae.bench.rounds import Say
from vvae.bench.work import DIRECTIONS, Size, random_model, source, whole
from vvae.summary import Direction

LEAST = 0.01
LARGEST = 3


class Cost(Figure):
    """An operator's own time as a share of all operators' time."""

    operator: str
    share: float
    seconds: float
    calls: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def convolution(self) -> bool:
        return "conv" in self.operator


class Costs(Figure):
    """The operators of one run that take at least 1 % each, the largest first."""

    direction: Direction
    dtype: str
    operators: tuple[Cost, ...]
    convolution_share: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def largest_others(self) -> tuple[Cost, ...]:
        """The three largest that are not convolutions."""
        return tuple(cost for cost in self.operators if not cost.convolution)[:LARGEST]


def operators(run: Callable[[], object], device: Literal["cpu", "cuda"] = "cpu") -> list[Cost]:
    """All operators of what `run` does, by their own time on that device, the largest first."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as profiled:
        run()
    own = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    # kernels stand in the list beside the operators that launched them: operators alone count each microsecond once
    events = [event for event in profiled.key_averages() if event.device_type == DeviceType.CPU]
    return shares((event.key, getattr(event, own) / 1e6, event.count) for event in events)


def shares(events: Iterable[tuple[str, float, int]]) -> list[Cost]:
    """Operators (name, seconds, calls) with their shares of all seconds."""
    timed = [event for event in events if event[1] > 0]
    total = sum(seconds for _, seconds, _ in timed)
    costs = [Cost(operator=name, share=s / total, seconds=s, calls=calls) for name, s, calls in timed]
    return sorted(costs, key=lambda cost: -cost.share)


def convolution_share(costs: Sequence[Cost]) -> float:
    return sum(cost.share for cost in costs if cost.convolution)


def costs(spec: VideoAutoencoderSpec, size: Size, dtypes: Sequence[str], say: Say) -> list[Costs]:
    """Both directions, whole clip, each dtype."""
    found = []
    for dtype in dtypes:
        model: Any = random_model(spec, getattr(torch, dtype))
        for direction in DIRECTIONS:
            x = next(source(spec, direction, size))
            whole(model, direction, x)
            seen = operators(lambda m=model, d=direction, x=x: whole(m, d, x))  # type: ignore[misc]
            kept = tuple(cost for cost in seen if cost.share >= LEAST)
            say(f"costs: {direction} {dtype}")
            found.append(
                Costs(direction=direction, dtype=dtype, operators=kept, convolution_share=convolution_share(seen))
            )
    return found
