"""What is measured: a model with random weights that encodes or decodes, whole or as a stream."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.context import StreamState
from vvae.framing import with_last
from vvae.signal import Signal
from vvae.summary import Direction

Size: TypeAlias = tuple[int, int, int]
"""Frames, height, width of a clip."""

DIRECTIONS: tuple[Direction, Direction] = ("encode", "decode")
SEED = 0


def random_model(
    spec: VideoAutoencoderSpec, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> VideoAutoencoder:
    """The model with weights that are the same each time, for evaluation, in the memory format that is fast."""
    with torch.random.fork_rng(), torch.device("meta" if device == "meta" else "cpu"):
        torch.manual_seed(SEED)
        model = spec.build()
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            # as built, each convolution shrinks its input by sqrt(3): a deep chain would end in denormal numbers
            weight.mul_(math.sqrt(3))
    return model.to(dtype=dtype, device=device).eval().channels_last()


def signal(spec: VideoAutoencoderSpec, direction: Direction) -> Signal:
    """What the chunks of a stream consist of in that direction."""
    return spec.chunks(direction)


def shape(spec: VideoAutoencoderSpec, direction: Direction, size: Size) -> tuple[int, int, int, int, int]:
    """`b c t h w` of what is read in that direction for one clip of that size."""
    if direction == "encode":
        return (1, spec.pixels.channels, *size)
    return (1, *spec.latent_shape(*size))


def source(
    spec: VideoAutoencoderSpec, direction: Direction, size: Size, stream: bool = False, device: str = "cpu"
) -> Iterator[Tensor]:
    """The clip or its latents, random, float32: at once, or in groups, each made when it is asked for."""
    batch, channels, frames, height, width = shape(spec, direction, size)
    generator = None if device == "meta" else torch.Generator(device).manual_seed(SEED)
    for length in groups(signal(spec, direction), frames) if stream else [frames]:
        yield torch.randn(batch, channels, length, height, width, generator=generator, device=device)


def groups(read: Signal, frames: int) -> list[int]:
    """Lengths of the chunks of a stream: the lead with the first group, then group by group, then what is left."""
    first = min(read.frames(1), frames)
    whole, left = divmod(frames - first, read.group)
    return [first, *[read.group] * whole, *([left] if left else [])]


@torch.no_grad()
def whole(model: VideoAutoencoder, direction: Direction, x: Tensor) -> Tensor:
    """Latents (the mode) of a clip, or the clip of latents, both `b c t h w`."""
    return model.encode(x).mode() if direction == "encode" else model.decode(x, **images(model.spec, x))


@torch.no_grad()
def streamed(model: VideoAutoencoder, direction: Direction, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same in chunks; what came out earlier is not kept here."""
    state: StreamState | None = None
    if direction == "encode":
        for posterior in model.encode_stream(chunks):
            yield posterior.mode()
    else:
        for chunk, last in with_last(chunks):  # each with images of its own
            video, state = model.decode_chunk(chunk, state, last=last, **images(model.spec, chunk))
            yield video


def images(spec: VideoAutoencoderSpec, latents: Tensor) -> dict[str, Any]:
    """What a model with a content wants beside latents: images, here without anything on them."""
    if spec.content is None:
        return {}
    pieces, side = spec.images(latents.shape[2]), int(spec.latents.stride)
    height, width = latents.shape[3] * side, latents.shape[4] * side
    return {"content": latents.new_zeros(latents.shape[0], spec.pixels.channels, pieces, height, width)}


def work(
    model: VideoAutoencoder, direction: Direction, size: Size, stream: bool = False, device: str = "cpu"
) -> Iterator[Tensor]:
    """All that one case does, its input included: what comes out, piece by piece."""
    chunks = source(model.spec, direction, size, stream, device)
    return streamed(model, direction, chunks) if stream else (whole(model, direction, x) for x in chunks)


def chunked(spec: VideoAutoencoderSpec, direction: Direction, x: Tensor) -> tuple[Tensor, ...]:
    """The same clip or latents as the chunks of a stream."""
    return torch.split(x, groups(signal(spec, direction), x.shape[2]), dim=2)


def ways(spec: VideoAutoencoderSpec) -> list[tuple[Direction, bool]]:
    """Every case that the spec has: each direction whole, and streamed where it streams."""
    return [(d, stream) for stream in (False, True) for d in DIRECTIONS if not stream or spec.stream_limit(d) is None]
