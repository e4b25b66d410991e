"""How many groups of frames go through a model in one step, so that a budget of memory is kept.

Streaming gives the same clip whatever the length of its steps, so memory decides nothing but that length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import peak_bytes
from vvae.errors import VideoError

Direction: TypeAlias = Literal["encode", "decode"]

MOST_GROUPS = 16
_USUAL_FRAMES = 8  # of a step without a budget: enough to keep a processor busy
_LIBRARIES = 400 * 2**20  # what Python, torch and FFmpeg take before the first frame
_CLIPS = 4  # of a step's frames wait in float32: read ahead, as a source, as a result, as pictures
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Steps:
    """Groups of frames in one step of the encoder and of the decoder."""

    encode: int
    decode: int


def usual_steps(spec: VideoAutoencoderSpec) -> Steps:
    """The steps without a budget."""
    groups = max(1, _USUAL_FRAMES // spec.chunks("encode").group)
    return Steps(groups, groups)


def steps_within(
    budget: int,
    spec: VideoAutoencoderSpec,
    size: tuple[int, int],
    *,
    dtype: torch.dtype = torch.float32,
    directions: Iterable[Direction] = ("encode", "decode"),
) -> Steps:
    """The longest steps, up to `MOST_GROUPS` groups, for which `step_bytes` stays within `budget` bytes.

    size: height and width of the clip. A direction that is not asked for has steps of one group.

    Raises:
        VideoError: not even one group fits; says what one needs.
    """
    found: dict[Direction, int] = {"encode": 1, "decode": 1}
    for direction in directions:
        least, frames = step_bytes(spec, direction, size, 1, dtype=dtype), spec.chunks("encode").group
        if least > budget:
            raise VideoError(
                f"{spec.name} needs {told(least)} to {direction} {frames} frames of {size[0]}x{size[1]} "
                f"pixels in {str(dtype).removeprefix('torch.')}, but the budget is {told(budget)}; "
                "give more memory or a smaller size"
            )
        found[direction] = _longest(spec, direction, size, budget, dtype)
    return Steps(**found)


def _longest(
    spec: VideoAutoencoderSpec, direction: Direction, size: tuple[int, int], budget: int, dtype: torch.dtype
) -> int:
    fits, fails = 1, MOST_GROUPS + 1
    while fails - fits > 1:
        groups = (fits + fails) // 2
        if step_bytes(spec, direction, size, groups, dtype=dtype) <= budget:
            fits = groups
        else:
            fails = groups
    return fits


def step_bytes(
    spec: VideoAutoencoderSpec,
    direction: Direction,
    size: tuple[int, int],
    groups: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> int:
    """What a process needs for steps of so many groups of a clip of that height and width, in bytes.

    Weights, the states of both streams, the largest of the first steps with all that lives in it, the clip's frames
    that wait, and the libraries. Counted on the meta device, so nothing is computed.
    """
    model = _on_meta(spec, dtype)
    weights: int = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    peaks, state = _peaks(model, direction, size, groups)
    other: Direction = "decode" if direction == "encode" else "encode"
    _, other_state = _peaks(model, other, size, 1)
    frames = 4 * spec.pixels.channels * spec.chunks("encode").frames(groups) * size[0] * size[1]
    return weights + peaks + state + other_state + _CLIPS * frames + _LIBRARIES


@cache
def _on_meta(spec: VideoAutoencoderSpec, dtype: torch.dtype) -> VideoAutoencoder:
    with torch.device("meta"):
        return spec.build().to(dtype).eval()


@cache
def _peaks(model: VideoAutoencoder, direction: Direction, size: tuple[int, int], groups: int) -> tuple[int, int]:
    """Peak bytes of a first and of a second step, whichever is larger, and the bytes of the state between them."""
    chunks = _chunks(model, direction, size, groups)
    content = _images(model, size, groups) if direction == "decode" else {}
    chunk: Callable[..., Any] = model.encode_chunk if direction == "encode" else model.decode_chunk
    step = partial(chunk, **content)
    with torch.no_grad():
        _, state = step(chunks[0])
    first, second = (peak_bytes(lambda: step(chunks[0])), peak_bytes(lambda: step(chunks[1], state)))
    return max(first, second), state.bytes


def _images(model: VideoAutoencoder, size: tuple[int, int], pieces: int) -> dict[str, Any]:
    """What a model with a content wants to decode so many pieces."""
    if model.spec.content is None:
        return {}
    shape = (1, model.spec.pixels.channels, pieces, *model.spec.filled_size(*size))
    return {"content": torch.empty(shape, device="meta")}


def _chunks(model: VideoAutoencoder, direction: Direction, size: tuple[int, int], groups: int) -> list[Tensor]:
    """A first chunk and one that follows."""
    spec = model.spec
    signal = spec.chunks(direction)
    height, width = size if direction == "encode" else spec.latent_shape(1, *size)[2:]
    frames = (signal.frames(groups), groups * signal.group)
    return [torch.empty(1, signal.channels, count, height, width, device="meta") for count in frames]


def parse_bytes(text: str) -> int:
    """Bytes of a text such as "2GiB", "500MB" or "1.5 GB".

    Raises:
        VideoError: nothing of the kind.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or (count := int(float(found[1]) * unit)) < 1:
        raise VideoError(f"memory {text!r} is no amount; write it as 2GiB, 500MB or 1.5GB")
    return count


def told(count: int) -> str:
    """Bytes as `parse_bytes` reads them, rounded up."""
    unit, name = (2**30, "GiB") if count >= 2**30 else (2**20, "MiB")
    return f"{math.ceil(10 * count / unit) / 10:g}{name}" if name == "GiB" else f"{math.ceil(count / unit)}{name}"
