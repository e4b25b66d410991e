"""A video autoencoder, as data and as a module: one class for all architectures."""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch
from pydantic import model_validator
from torch import Tensor, nn

from vvae import checkpoint, reach
from vvae.context import Context, StreamState, StreamStep, WholeClip, module_names
from vvae.errors import SpecError, StreamError, VideoError
from vvae.framing import Fit, Framing, FramingRule, check_clip, fill, legal_frames, whole_groups, with_last
from vvae.gaussian import DiagonalGaussian, PosteriorSpec
from vvae.layers.compose import limit_of
from vvae.reach import Reach
from vvae.scaling import Affine, LatentScaling
from vvae.signal import Signal
from vvae.spec import AnyLayer, Spec, at

if TYPE_CHECKING:
    from vvae.summary import Summary

FORMAT = 1
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class VideoAutoencoderSpec(Spec):
    """Everything a video autoencoder is, except its weights. Wiring is checked when it is made.

    `encoder` reads the clip that `framing` describes and gives moments; `decoder` reads latents, half as many channels.
    """

    format: int = FORMAT
    name: str
    encoder: AnyLayer
    decoder: AnyLayer
    framing: Framing
    posterior: PosteriorSpec = PosteriorSpec()
    latent: LatentScaling = Affine()

    @model_validator(mode="before")
    @classmethod
    def _version(cls, data: Any) -> Any:
        # first of all: a newer format may hold fields and kinds that this version does not know
        found = data.get("format", FORMAT) if isinstance(data, Mapping) else FORMAT
        if found != FORMAT:
            raise SpecError(
                f"spec of format {found}, but this vvae reads format {FORMAT}; install the vvae that wrote it"
            )
        return data

    @model_validator(mode="after")
    def _wiring(self) -> Self:
        self.latent.check(self.latents.channels)
        if self.latents.stride.denominator > 1:
            raise SpecError(f"a latent is {self.latents.stride} pixels wide; it must be a whole number", ("encoder",))
        with at("decoder"):
            out, pixels = self.decoder.trace(self.latents), self.pixels
            if out != pixels:
                raise SpecError(f"gives {out}, but the pixels are {pixels}; it must give them")
        return self

    @property
    def pixels(self) -> Signal:
        """The clip that the encoder reads."""
        return self.framing.pixels

    @cached_property
    def latents(self) -> Signal:
        """The latents that the decoder reads."""
        with at("encoder"):
            moments = self.encoder.trace(self.pixels)
            return moments.with_channels(self.posterior.channels(moments.channels))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the spec: of its JSON, or of its tree where a layer has no spec."""
        try:
            text = self.to_json()
        except SpecError:
            text = str(self)
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self) -> VideoAutoencoder:
        """The model with fresh weights."""
        return VideoAutoencoder(self)

    @property
    def cell(self) -> int:
        """Pixels of which height and width are multiples where nothing must be filled."""
        return math.lcm(self.encoder.cell(self.pixels), self.decoder.cell(self.latents))

    def latent_frames(self, frames: int) -> int:
        """Latent positions in time of a clip of that many frames, filled where it must be."""
        return self.encoder.frames(self.pixels, self.filled_frames(frames))

    def decoded_frames(self, positions: int) -> int:
        """Frames that so many latent positions give."""
        return self.decoder.frames(self.latents, positions) if positions else 0

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """c, t, h, w of the latents of a clip of that size, filled where it must be."""
        rows, columns = (int(side / self.latents.stride) for side in self.filled_size(height, width))
        return self.latents.channels, self.latent_frames(frames), rows, columns

    def filled_frames(self, frames: int) -> int:
        """The smallest number of frames, at least `frames`, that passes through the encoder."""
        filled = legal_frames(frames, self._encoded, 1, self.framing.lead + self.framing.group)
        if filled is None:
            raise VideoError(f"no clip of {frames} frames or slightly more passes through {self.name}")
        return filled

    def floored_frames(self, frames: int) -> int:
        """The largest number of frames, at most `frames`, that passes through the encoder; 0 if none does."""
        return legal_frames(frames, self._encoded, -1, self.framing.lead + self.framing.group) or 0

    def _encoded(self, frames: int) -> int:
        return self.encoder.frames(self.pixels, frames)

    def filled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, each filled to whole cells at every layer."""
        cell = self.cell
        return -(-height // cell) * cell, -(-width // cell) * cell

    def dependency(self, frames: int, direction: Literal["encode", "decode", "reconstruct"] = "reconstruct") -> Reach:
        """Who depends on whom in time for a clip of that many frames, from the spec alone.

        encode: rows latents, columns source frames. decode: rows frames that come back, columns latents. reconstruct:
        rows frames that come back, columns source frames. A filled frame counts as the frame that it repeats.
        """
        filled = self.filled_frames(frames)
        encoded = self.encoder.reach(self.pixels, filled)
        encoded[:, frames - 1] |= encoded[:, frames:].any(1)
        encoded = encoded[:, :frames]
        if direction == "encode":
            return encoded
        if direction not in ("decode", "reconstruct"):
            raise VideoError(f"direction {direction!r} is unknown; it is one of encode, decode, reconstruct")
        decoded = self.decoder.reach(self.latents, encoded.shape[0])[:frames]
        return decoded if direction == "decode" else reach.then(encoded, decoded)

    def stream_limit(self, direction: Literal["encode", "decode"]) -> str | None:
        """The layer that prevents streaming and why; None: it streams."""
        layer, read = (self.encoder, self.pixels) if direction == "encode" else (self.decoder, self.latents)
        return limit_of(f"{direction}r", layer, read)

    def summary(self, size: tuple[int, int, int] = (17, 256, 256)) -> Summary:
        """Parameters, cost, memory and truths in time for clips of that size (frames, height, width)."""
        from vvae.summary import summarize

        return summarize(self, size)


class VideoAutoencoder(nn.Module):
    """A model that turns clips into latents and back, whole or in streams. Clips are `b c t h w` in [-1, 1].

    Encoder and decoder follow the dtype of their own parameters; the posterior is float32 or wider.
    """

    def __init__(self, spec: VideoAutoencoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = spec.encoder.build(spec.pixels)
        self.decoder = spec.decoder.build(spec.latents)
        self._compiled: dict[str, Any] = {}

    @property
    def scaling(self) -> LatentScaling:
        """What a diffusion model should see of the latents: `normalize`, and `restore` back."""
        return self.spec.latent

    def compile(self, **options: Any) -> VideoAutoencoder:  # type: ignore[override]
        """A twin that shares the weights and runs compiled: encode, decode and streams. Options as of torch.compile."""
        twin = copy.copy(self)
        object.__setattr__(
            twin, "_compiled", {name: torch.compile(getattr(self, name), **options) for name in ("encoder", "decoder")}
        )
        return twin

    def channels_last(self) -> Self:
        """Weights in the layout in which convolutions run fastest, 4-D and 5-D ones alike; values stay. In place.

        Clips are put into it in any case.
        """
        for parameter in self.parameters():
            if layout := LAYOUTS.get(parameter.ndim):
                parameter.data = parameter.data.contiguous(memory_format=layout)
        return self

    def forward(self, x: Tensor, framing: FramingRule = "fill") -> Tensor:
        """The clip as it comes back, from the mode of its posterior."""
        return self.decode(self.encode(x, framing=framing))

    def encode(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        noise: Mapping[str, Tensor] | None = None,
        framing: FramingRule = "fill",
    ) -> DiagonalGaussian:
        """The posterior of a clip.

        Layers inside that draw get `noise` by path, or noise drawn with `generator`; without both they take the mode.
        `framing`: "fill" takes any size, "refuse" only sizes that fit, "published" does as the release did.

        Raises:
            VideoError: not a clip, or a size that does not fit under "refuse".
        """
        check_clip(x, self.spec.pixels.channels)
        if not x.shape[2]:
            raise VideoError("a clip of 0 frames has no latents; give at least one frame")
        x, fit = self._framed(x, framing)
        x = x.to(_dtype(self.encoder, x.dtype))
        if noise is None:
            noise = {} if generator is None else self.draw(x, generator)
        elif {path: tuple(t.shape) for path, t in noise.items()} != (wanted := self._noise_shapes(x)):
            raise VideoError(f"noise is wanted as {wanted}; give a tensor of that shape for each path, or a generator")
        ctx = WholeClip(names=module_names(self) if noise else None, noise=noise)
        return self.spec.posterior.posterior(self._run("encoder", x, ctx), fit)

    def draw(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The noise that layers of the encoder want for the clip x, by path; drawn before anything runs."""
        device = generator.device
        shapes = self._noise_shapes(x)
        return {path: torch.randn(s, generator=generator, device=device).to(x) for path, s in shapes.items()}

    def _noise_shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        batch, _, frames, height, width = x.shape
        shapes: dict[str, tuple[int, ...]] = {}
        for path, want in self.spec.encoder.draws(self.spec.pixels).items():
            scale = self.spec.pixels.stride / want.stride
            groups = (frames - self.spec.pixels.lead) // self.spec.pixels.group
            size = (batch, want.channels, want.frames(groups), int(height * scale), int(width * scale))
            shapes[f"encoder.{path}".rstrip(".")] = size
        return shapes

    def decode(
        self, latents: Tensor | DiagonalGaussian, *, frames: int | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """The clip of latents (not normalized), or of a posterior: its mode, cropped by its fit.

        `frames` and `size` (height, width) crop what comes back.
        """
        z, fit = self._latents(latents)
        whole = self.spec.decoded_frames(z.shape[2])
        fit = self._cropped(z, fit, whole, frames, size)
        return fit.crop(self._run("decoder", z, WholeClip()))

    def encode_chunk(
        self, x: Tensor, state: StreamState | None = None, *, last: bool = False
    ) -> tuple[DiagonalGaussian, StreamState]:
        """The next chunk of a stream: the posterior of what is ready, and the state for the chunk after it.

        A chunk is, from the stream's start, the lead and then whole groups; only the last one may end inside a group.

        Raises:
            StreamError: a broken group, a state of another model or direction, a layer that cannot stream.
        """
        check_clip(x, self.spec.pixels.channels)
        state = self._opened(state, "encode", x)
        seen = state.position + x.shape[2]
        if last and not seen:
            raise StreamError("the stream ends without a frame; give at least one")
        full = self.spec.filled_frames(seen) if seen else 0
        if full != seen and not last:
            raise StreamError(
                f"{seen} frames end inside a group: give {full - seen} more, or fewer, or say last=True "
                f"(the stream takes {self.spec.pixels.lead} + whole groups of {self.spec.pixels.group})"
            )
        true = Fit(0, *x.shape[3:])
        height, width = self.spec.filled_size(true.height, true.width)
        x = fill(x, x.shape[2] + full - seen, height, width) if x.shape[2] else x.new_empty(*x.shape[:3], height, width)
        step = StreamStep(module_names(self), state.tensors, last=last)
        moments = self._run("encoder", x.to(_dtype(self.encoder, x.dtype)), step)
        given = state.given + moments.shape[2]
        end = seen if last else self.spec.decoded_frames(given)
        fit = Fit(end - self.spec.decoded_frames(state.given), true.height, true.width)
        after = replace(state, position=seen, given=given, ended=last, tensors=step.close())
        return self.spec.posterior.posterior(moments, fit), after

    def decode_chunk(
        self,
        latents: Tensor | DiagonalGaussian,
        state: StreamState | None = None,
        *,
        last: bool = False,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, StreamState]:
        """The frames that are ready after the next latents of a stream, and the state for the chunk after it.

        Of a posterior the mode is decoded and cropped by its fit; `frames` and `size` say the same for plain latents:
        how many true frames this chunk stands for (fewer than it gives only in the last chunk), and height and width.
        """
        z, fit = self._latents(latents, least=0)
        state = self._opened(state, "decode", z)
        seen = state.position + z.shape[2]
        if last and not seen:
            raise StreamError("the stream ends without a latent; give at least one")
        whole = self.spec.decoded_frames(seen) - self.spec.decoded_frames(state.position)
        fit = self._cropped(z, fit, whole, frames, size)
        if fit.frames != whole and not last:
            raise StreamError(f"only the last chunk may be cropped: it stands for {fit.frames} of {whole} frames")
        step = StreamStep(module_names(self), state.tensors, last=last)
        video = self._run("decoder", z, step)
        given = state.given + video.shape[2]
        video = Fit(video.shape[2] - (whole - fit.frames), fit.height, fit.width).crop(video)
        return video, replace(state, position=seen, given=given, ended=last, tensors=step.close())

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[DiagonalGaussian]:
        """Posteriors of a clip that comes in chunks of any length; waits for one chunk more to know the last."""
        state: StreamState | None = None
        for x, last in whole_groups(chunks, self.spec.pixels, lambda x: check_clip(x, self.spec.pixels.channels)):
            posterior, state = self.encode_chunk(x, state, last=last)
            yield posterior

    def decode_stream(
        self,
        latents: Iterable[Tensor | DiagonalGaussian],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Iterator[Tensor]:
        """Frames of latents that come in chunks: posteriors (mode, cropped by their fit), or tensors of any length.

        `frames` and `size` crop what comes of them: the frames of the whole clip, height and width.
        """
        state: StreamState | None = None
        left = frames
        for z, last in self._latent_chunks(latents):
            video, state = self.decode_chunk(z, state, last=last, size=size)
            if left is not None:
                video = video[:, :, : max(left, 0)]
                left -= video.shape[2]
            yield video
        if left:
            raise VideoError(f"the latents end {left} frames before the {frames} that were asked for; ask for fewer")

    def _latent_chunks(
        self, latents: Iterable[Tensor | DiagonalGaussian]
    ) -> Iterator[tuple[Tensor | DiagonalGaussian, bool]]:
        """Posteriors as they come, tensors in whole groups; and whether each is the last."""
        source = iter(latents)
        first = next(source, None)
        whole = () if first is None else (first,)
        if isinstance(first, Tensor):
            yield from whole_groups(chain(whole, source), self.spec.latents, self._latents)  # type: ignore[arg-type]
        else:
            yield from with_last(chain(whole, source))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Weights and spec in one safetensors file, all or nothing."""
        checkpoint.save_weights(path, self.state_dict(), self.spec.to_json())

    def _run(self, part: Literal["encoder", "decoder"], x: Tensor, ctx: Context) -> Tensor:
        module = getattr(self, part)
        compiled = self._compiled.get(part)
        x = x.contiguous(memory_format=LAYOUTS[5])
        out: Tensor = (compiled if compiled is not None and compiled._orig_mod is module else module)(x, ctx)
        return out

    def _framed(self, x: Tensor, rule: FramingRule) -> tuple[Tensor, Fit]:
        """The clip as the encoder takes it, and what of it comes back."""
        true = Fit(*x.shape[2:])
        if rule not in get_args(FramingRule):
            raise VideoError(f"framing {rule!r} is unknown; it is one of {', '.join(get_args(FramingRule))}")
        if rule == "published":
            cell = self.spec.cell
            kept = Fit(self.spec.floored_frames(true.frames), true.height // cell * cell, true.width // cell * cell)
            if min(kept.frames, kept.height, kept.width) < 1:
                raise VideoError(f"nothing is left of {true} when it is floored; take framing='fill'")
            return x[:, :, : kept.frames], kept
        full = Fit(self.spec.filled_frames(true.frames), *self.spec.filled_size(true.height, true.width))
        if rule == "refuse" and full != true:
            low = self.spec.floored_frames(true.frames)
            frames = " or ".join(str(n) for n in sorted({low, full.frames} - {0}))
            raise VideoError(
                f"a clip of {true.frames} x {true.height} x {true.width} (frames, height, width) does not fit; the "
                f"nearest has {frames} frames of {full.height} x {full.width}; crop it, or take framing='fill'"
            )
        return fill(x, full.frames, full.height, full.width), true

    def _latents(self, latents: Tensor | DiagonalGaussian, least: int = 1) -> tuple[Tensor, Fit | None]:
        z, fit = (latents.mode(), latents.fit) if isinstance(latents, DiagonalGaussian) else (latents, None)
        want = self.spec.latents.channels
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise VideoError("latents are a floating point tensor or a posterior; convert what you have first")
        if z.ndim != 5 or z.shape[1] != want or z.shape[2] < least or not z.shape[0] * z.shape[3] * z.shape[4]:
            raise VideoError(
                f"found latents of shape {tuple(z.shape)}; they are `b c t h w` with c = {want}, t >= {least}"
            )
        return z.to(_dtype(self.decoder, z.dtype)), fit

    def _cropped(self, z: Tensor, fit: Fit | None, whole: int, frames: int | None, size: tuple[int, int] | None) -> Fit:
        """What of the decoded clip is kept: by the posterior's fit, or by what the caller says."""
        cell = int(self.spec.latents.stride)
        full = Fit(whole, z.shape[3] * cell, z.shape[4] * cell)
        fit = fit or full
        if size is not None and not (isinstance(size, tuple | list) and len(size) == 2 and min(size) > 0):
            raise VideoError(f"size {size!r} is not (height, width); give two numbers of pixels")
        height, width = (fit.height, fit.width) if size is None else size
        kept = Fit(fit.frames if frames is None else frames, height, width)
        if kept.frames < 0 or kept.frames > full.frames or kept.height > full.height or kept.width > full.width:
            raise VideoError(f"latents of {full} cannot give {kept}; ask for at most what they hold")
        return kept

    def _opened(self, state: StreamState | None, direction: Literal["encode", "decode"], x: Tensor) -> StreamState:
        """The state to start from, checked against the model and the chunk."""
        if limit := self.spec.stream_limit(direction):
            raise StreamError(f"this model cannot {direction} a stream: {limit}")
        digest = self.spec.digest
        if state is None:
            return StreamState(digest, direction, frame=(x.shape[0], x.shape[3], x.shape[4]))
        if state.ended:
            raise StreamError("this stream has had its last chunk; start a new one with state=None")
        if (state.digest, state.direction) != (digest, direction):
            raise StreamError(
                f"a state to {state.direction} with spec {state.digest[:8]} does not continue here "
                f"({direction} with spec {digest[:8]}); start a new stream with state=None"
            )
        if (frame := (x.shape[0], x.shape[3], x.shape[4])) != state.frame:
            raise StreamError(
                f"a chunk of (batch, height, width) {frame} does not continue a stream of {state.frame}; "
                f"start a new stream with state=None"
            )
        return state


def _dtype(part: nn.Module, default: torch.dtype) -> torch.dtype:
    return next((p.dtype for p in part.parameters() if p.is_floating_point()), default)
