"""How many bytes a model takes on an exact way: counted from the spec, without running anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.context import StreamState
from vvae.cost import live_bytes
from vvae.errors import VideoError
from vvae.tiling.rules import Direction, TilingRule
from vvae.tiling.way import Way

LIBRARIES = 400 * 2**20
"""What Python, torch and FFmpeg take before the first frame."""

KEPT = 0.2
"""The allocator of C keeps blocks that were freed for later ones: so much more than what is alive at once. Measured
with glibc at 1080p, where a process took 1.14 to 1.23 times what it takes if every block goes back."""

_CLIPS = 4  # of a step's frames wait in float32: read ahead, as a source, as a result, as pictures
_STEPS = 4  # of a stream are counted at most; from then on only the clip grows, and what comes of it
_FEW = 32  # frames, at least, of which a longer clip's bytes follow
_MANY = 2**19  # pixels, at least: layers take fewer all at once, and more in slices


@dataclass(frozen=True)
class Asked:
    """What shall go through which model. `size`: frames, height, width of each of `batch` clips.

    files: clips come from files and go to files, so that a stream never holds more than a step of them, and frames may
    be None, not known. Else the clip and what comes of it are held whole.
    """

    spec: VideoAutoencoderSpec
    size: tuple[int | None, int, int]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    batch: int = 1
    directions: tuple[Direction, ...] = ("encode", "decode")
    files: bool = False

    @property
    def frames(self) -> int:
        """How many frames each clip has.

        Raises:
            VideoError: that is not known, but all of them must be held.
        """
        if self.size[0] is None:
            raise VideoError(f"{self.spec.name} takes all frames at once; say how many come")
        return self.size[0]

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def __str__(self) -> str:
        frames, height, width = self.size
        many = f"{self.batch} clips of " if self.batch > 1 else ""
        count = "" if frames is None else f"{frames} "
        return f"{many}{count}frames of {height}x{width} pixels in {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Cost:
    """Bytes of one direction, weights aside: `tensors` that are alive at once, `peak` with what convolutions take
    while they run, `state` of a stream between its steps.
    """

    tensors: int
    peak: int
    state: int = 0


def needed(asked: Asked, direction: Direction, way: Way | TilingRule) -> int:
    """Bytes of the process while it goes this way, or under the rule of a release; on a GPU, of the GPU's memory.

    Raises:
        TileError: no tiles give what the whole frame gives, or the rule does not fit the model.
    """
    at, groups = (
        (cost(asked, direction, way), way.groups) if isinstance(way, Way) else (tiled_cost(asked, direction, way), None)
    )
    around = 0 if asked.on_gpu else LIBRARIES + _waiting(asked, groups) + int(KEPT * at.peak)
    return _weights(asked.spec, asked.dtype) + at.peak + around


def _waiting(asked: Asked, groups: int | None) -> int:
    """Frames of files before and behind the model."""
    frames, height, width = asked.size
    at_once = frames if groups is None else asked.spec.chunks("encode").frames(groups)
    return _CLIPS * 4 * asked.spec.pixels.channels * (at_once or 0) * height * width if asked.files else 0


@cache
def cost(asked: Asked, direction: Direction, way: Way) -> Cost:
    """See `Cost`; counted on the meta device.

    Raises:
        TileError: no tiles give what the whole frame gives.
    """
    return (_of_steps if asked.files and way.groups is not None else _of_clip)(asked, direction, way)


@cache
def _on_meta(spec: VideoAutoencoderSpec, dtype: torch.dtype) -> VideoAutoencoder:
    with torch.device("meta"):
        return spec.build().to(dtype).eval().channels_last()


@cache
def _weights(spec: VideoAutoencoderSpec, dtype: torch.dtype) -> int:
    return sum(t.numel() * t.element_size() for t in _on_meta(spec, dtype).state_dict().values())


def _of_clip(asked: Asked, direction: Direction, way: Way) -> Cost:
    """A clip that is held, and what comes of it. Of a long stream the first steps are counted."""
    frames = asked.frames
    if way.groups is None:
        return _along(asked, lambda count: _of_held(asked, direction, way, count))
    counted = min(frames, asked.spec.chunks("encode").frames(_STEPS * way.groups))
    found, all_held = _of_held(asked, direction, way, counted), _held(asked, direction, frames)
    more, end = all_held - _held(asked, direction, counted), all_held + _joined(asked, direction, frames)
    return Cost(max(found.tensors + more, end), max(found.peak + more, end))


def _along(asked: Asked, of: Callable[[int], Cost]) -> Cost:
    """The cost of all frames at once, of which every further group or piece takes as much as the one before it."""
    frames, period = asked.frames, asked.spec.chunks("encode").group
    few = max(_FEW, _MANY // (asked.size[1] * asked.size[2]))
    step = -(-few // period) * period
    if frames < 4 * step:
        return of(frames)
    start = frames - (frames - step) // period * period
    low, high, times = of(start), of(start + step), Fraction(frames - start, step)
    return Cost(*(int(a + (b - a) * times) for a, b in ((low.tensors, high.tensors), (low.peak, high.peak))))


def tiled_cost(asked: Asked, direction: Direction, rule: TilingRule) -> Cost:
    """The same of a clip that is held under the rule of a release: the clip, what comes of it, and one tile."""
    tiles, size = rule.encode, (asked.frames, *asked.size[1:])
    if not tiles.applies(*size):
        return cost(replace(asked, files=False), direction, Way())
    frames = min(size[0], tiles.time.window) if tiles.time else size[0]
    height, width = (min(side, tiles.space.window) if tiles.space else side for side in size[1:])
    one = cost(replace(asked, size=(frames, height, width), files=False), direction, Way())
    held = _held(asked, direction, asked.frames)
    return Cost(one.tensors + held, one.peak + held)


def _of_held(asked: Asked, direction: Direction, way: Way, frames: int) -> Cost:
    """The same of so many frames."""
    model, x, (_, *sides) = _on_meta(asked.spec, asked.dtype), _clip(asked, direction, frames), asked.size
    if direction == "encode":
        return _counted(asked, partial(way.encoded, model, x))
    shown: dict[str, Any] = {"frames": frames, "size": tuple(sides), **_images(asked, x.shape[2])}
    return _counted(asked, partial(way.decoded, model, x, **shown))


def _counted(asked: Asked, run: Callable[[], object]) -> Cost:
    found = live_bytes(run, torch.device(asked.device).type)
    return Cost(found.peak, found.peak_inside)


def _held(asked: Asked, direction: Direction, frames: int) -> int:
    """Bytes of clips of so many frames and of what comes of them, at the end of a stream."""
    _, height, width = asked.size
    pixels = asked.batch * asked.spec.pixels.channels * frames * height * width
    latents = asked.batch * torch.Size(asked.spec.latent_shape(frames, height, width)).numel()
    if direction == "encode":  # means and logvars
        return 4 * pixels + 8 * latents
    return 4 * latents + asked.dtype.itemsize * pixels


def _joined(asked: Asked, direction: Direction, frames: int) -> int:
    """Means and logvars once more, when those of all steps are joined."""
    latents = torch.Size(asked.spec.latent_shape(frames, *asked.size[1:])).numel()
    return 8 * asked.batch * latents if direction == "encode" else 0


def _of_steps(asked: Asked, direction: Direction, way: Way) -> Cost:
    """The first steps of a stream, of which only the state stays."""
    model = way.on(_on_meta(asked.spec, asked.dtype), direction)
    step: Callable[..., Any] = model.encode_chunk if direction == "encode" else model.decode_chunk
    signal, groups = asked.spec.chunks(direction), way.groups or 1
    more = 1 if asked.spec.framing.piece else _STEPS - 1  # pieces leave nothing behind
    state: StreamState | None = None

    def run() -> None:
        nonlocal state
        kept, came = -1, 0  # bytes of the state, frames or positions that came out
        for frames in (signal.frames(groups), *[groups * signal.group] * more):
            x = _chunk(asked, direction, frames)
            given, state = step(x, state, **(_images(asked, frames) if direction == "decode" else {}))
            before, came = came, (given.mean if direction == "encode" else given).shape[2]
            if state.bytes == kept and came <= before:  # every further step is like this one
                break
            kept = state.bytes

    found = _counted(asked, run)
    return replace(found, state=0 if state is None else state.bytes)


def _clip(asked: Asked, direction: Direction, frames: int) -> Tensor:
    """Clips of so many frames as they come in, or their latents."""
    if direction == "encode":
        return _chunk(asked, direction, frames)
    return _chunk(asked, direction, asked.spec.latent_frames(frames))


def _chunk(asked: Asked, direction: Direction, length: int) -> Tensor:
    """So many frames, or so many positions of latents, without values."""
    spec, (_, height, width) = asked.spec, asked.size
    channels, _, rows, columns = spec.latent_shape(1, height, width)
    if direction == "encode":
        channels, rows, columns = spec.pixels.channels, height, width
    return torch.empty(asked.batch, channels, length, rows, columns, device="meta")


def _images(asked: Asked, positions: int) -> dict[str, Any]:
    """What a model with a content wants to decode so many positions."""
    spec, (_, height, width) = asked.spec, asked.size
    if spec.content is None:
        return {}
    pieces = spec.images(positions)
    shape = (asked.batch, spec.pixels.channels, pieces, *spec.filled_size(height, width))
    return {"content": torch.empty(shape, device="meta")}
