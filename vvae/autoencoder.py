"""A video autoencoder as a module: one class for all architectures, for whole clips and for streams."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

from torch import Tensor

from vvae import checkpoint
from vvae.context import StreamState, StreamStep, module_names
from vvae.errors import StreamError, VideoError
from vvae.framing import Fit, check_clip, fill, whole_groups, with_last
from vvae.gaussian import DiagonalGaussian
from vvae.whole_clips import Content, WholeClipAutoencoder, cut_content, dtype_of


class VideoAutoencoder(WholeClipAutoencoder):
    """A model that turns clips into latents and back, whole or in streams. Clips are `b c t h w` in [-1, 1].

    Encoder and decoder follow the dtype of their own parameters; the posterior is float32 or wider.
    """

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
        full = self._group_end(state.position, x.shape[2])
        end = self._stretch_end(seen, full)
        if end != seen and not (last and self._ends_ragged):
            raise StreamError(f"{seen} frames end inside {self._grouping(end - seen)}")
        if self.spec.framing.piece:
            posterior = self.encode(x) if x.shape[2] else self._nothing(x)
            given = state.given + posterior.mean.shape[2]
            return posterior, replace(state, position=seen, given=given, ended=last)
        height, width = self.spec.filled_size(*x.shape[3:])
        fit = Fit(x.shape[2], *x.shape[3:])
        x = fill(x, x.shape[2] + full - seen, height, width) if x.shape[2] else x.new_empty(*x.shape[:3], height, width)
        x = x.to(dtype_of(self.encoder, x.dtype))
        step = StreamStep(module_names(self), state.tensors, last=last, frames=fit.frames)
        moments = self._run("encoder", x, step)
        given = state.given + moments.shape[2]
        if self._ends_ragged:  # the frames of the latents that are ready: a layer may have held some back
            end = seen if last else self.spec.decoded_frames(given)
            fit = replace(fit, frames=end - self.spec.decoded_frames(state.given))
        after = replace(state, position=seen, given=given, ended=last, tensors=step.close())
        content = self.spec.content if self.spec.stretch else None
        images = None if content is None else x[:, :, content.images(x.shape[2])]
        return self.spec.posterior.posterior(moments, fit, images), after

    @property
    def _ends_ragged(self) -> bool:
        """Whether it is the last chunk of a stream that may end inside a group, not the first."""
        return self.spec.framing.surplus == "end" or self.spec.framing.piece is not None

    def _group_end(self, position: int, frames: int) -> int:
        """The frames of a stream that stands at `position`, after so many more, up to the end of the group."""
        seen, framing = position + frames, self.spec.framing
        if self._ends_ragged:
            return self.spec.filled_frames(seen) if seen else 0
        return seen if not position else position - frames // -framing.group * framing.group

    def _stretch_end(self, seen: int, group_end: int) -> int:
        """The frames of a stream up to where its chunk may end, which has seen so many."""
        return -(-seen // self.spec.stretch) * self.spec.stretch if self.spec.stretch else group_end

    @property
    def _stretch_names(self) -> tuple[str, str]:
        """What the frames are called that pass together, one and several."""
        return ("piece", "pieces") if self.spec.framing.piece else ("stretch", "stretches")

    def _grouping(self, missing: int) -> str:
        """What is wrong with a chunk that ends too early."""
        framing = self.spec.framing
        if self.spec.stretch:
            one, several = self._stretch_names
            takes = f"the stream takes {several} of {self.spec.stretch}"
            return f"a {one}: give {missing} more, or fewer, or say last=True ({takes})"
        if not self._ends_ragged:
            return f"a group: give {missing} more (after its first chunk, the stream takes groups of {framing.group})"
        return (
            f"a group: give {missing} more, or fewer, or say last=True "
            f"(the stream takes {framing.lead} + whole groups of {framing.group})"
        )

    def _nothing(self, x: Tensor) -> DiagonalGaussian:
        """The posterior of a chunk without frames."""
        channels, _, height, width = self.spec.latent_shape(1, *x.shape[3:])
        moments = x.new_empty(x.shape[0], 2 * channels, 0, height, width)
        return self.spec.posterior.posterior(moments, Fit(*x.shape[2:]), None if self.content is None else x)

    def decode_chunk(
        self,
        latents: Tensor | DiagonalGaussian,
        state: StreamState | None = None,
        *,
        last: bool = False,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
    ) -> tuple[Tensor, StreamState]:
        """The frames that are ready after the next latents of a stream, and the state for the chunk after it.

        Of a posterior the mode is decoded and cropped by its fit; `frames` and `size` say the same for plain latents:
        how many true frames this chunk stands for (fewer than it gives only in the last chunk; only in the first one of
        a model that completes its first group), and height and width. `content` as of `decode`, for these pieces.
        """
        z, fit = self._latents(latents, least=0)
        state = self._opened(state, "decode", z)
        seen = state.position + z.shape[2]
        if last and not seen:
            raise StreamError("the stream ends without a latent; give at least one")
        whole = self.spec.decoded_frames(seen) - self.spec.decoded_frames(state.position)
        fit = self._cropped(z, fit, whole, frames, size)
        which, may = ("last", last) if self._ends_ragged else ("first", not state.position)
        if fit.frames != whole and not may:
            raise StreamError(f"only the {which} chunk may be cropped: it stands for {fit.frames} of {whole} frames")
        features = self._features(latents, content, z.shape[2])
        if (length := self.spec.stretch_positions) and seen % length and not last:
            one, several = self._stretch_names
            raise StreamError(f"{seen} latents end inside a {one} of {length}; give whole {several}, or say last=True")
        if self.spec.framing.piece:
            video = self._decoded(z, fit, features) if z.shape[2] else self._no_frames(z, fit)
            return video, replace(state, position=seen, given=state.given + video.shape[2], ended=last)
        video, tensors = self._stretches(z, features, state.tensors, last=last, frames=fit.frames)
        given = state.given + video.shape[2]
        if self._ends_ragged:
            video = video[:, :, : video.shape[2] - (whole - fit.frames)]
        else:
            video = self.spec.framing.own(video, fit.frames)
        video = replace(fit, frames=video.shape[2]).crop(video)
        return video, replace(state, position=seen, given=given, ended=last, tensors=tensors)

    def _no_frames(self, z: Tensor, fit: Fit) -> Tensor:
        return z.new_empty(z.shape[0], self.spec.pixels.channels, 0, fit.height, fit.width)

    def encode_stream(self, chunks: Iterable[Tensor], *, frames: int | None = None) -> Iterator[DiagonalGaussian]:
        """Posteriors of a clip that comes in chunks of any length; waits for one chunk more to know the last.

        `frames`, those of the whole clip, must be known where a model completes its first group, not its last.
        """
        state: StreamState | None = None
        signal = self.spec.chunks("encode")
        if not self._ends_ragged:
            if not frames:
                raise StreamError(f"{self.spec.name} completes the first group of a clip; say how many frames= come")
            signal = signal.with_time(lead=(frames - 1) % signal.group + 1)
        for x, last in whole_groups(chunks, signal, lambda x: check_clip(x, self.spec.pixels.channels)):
            posterior, state = self.encode_chunk(x, state, last=last)
            yield posterior

    def decode_stream(
        self,
        latents: Iterable[Tensor | DiagonalGaussian],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
    ) -> Iterator[Tensor]:
        """Frames of latents that come in chunks: posteriors (mode, cropped by their fit), or tensors of any length.

        `frames` and `size` crop what comes of them: the frames of the whole clip, height and width. `content` as of
        `decode`, for all pieces.
        """
        state: StreamState | None = None
        left, piece = frames, 0
        for z, last in self._latent_chunks(latents):
            first, count = None, self.spec.images((z if isinstance(z, Tensor) else z.mean).shape[2])
            own = cut_content(content, piece, count)
            piece += count if self.spec.stretch else 0  # a clip that passes as one has one image for all chunks
            if state is None and frames is not None and isinstance(z, Tensor) and not self._ends_ragged:
                first = self.spec.decoded_frames(z.shape[2]) - -frames % self.spec.framing.group
            video, state = self.decode_chunk(z, state, last=last, frames=first, size=size, content=own)
            if left is not None:
                video = video[:, :, : max(left, 0)]
                left -= video.shape[2]
            yield video
        if left:
            raise VideoError(f"the latents end {left} frames before the {frames} that were asked for; ask for fewer")

    def _latent_chunks(
        self, latents: Iterable[Tensor | DiagonalGaussian]
    ) -> Iterator[tuple[Tensor | DiagonalGaussian, bool]]:
        """Posteriors as they come, tensors in whole groups or pieces; and whether each is the last."""
        source = iter(latents)
        first = next(source, None)
        whole = () if first is None else (first,)
        if isinstance(first, Tensor):
            signal = self.spec.chunks("decode")
            yield from whole_groups(chain(whole, source), signal, self._latents)  # type: ignore[arg-type]
        else:
            yield from with_last(chain(whole, source))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Weights and spec in one safetensors file, all or nothing."""
        extras = {f"{checkpoint.EXTRAS}{name}": tensor for name, tensor in self.published_extras.items()}
        checkpoint.save_weights(path, {**self.state_dict(), **extras}, self.spec.to_json())

    def _opened(self, state: StreamState | None, direction: Literal["encode", "decode"], x: Tensor) -> StreamState:
        """The state to start from, checked against the model and the chunk."""
        if limit := self.spec.stream_limit(direction):
            raise StreamError(f"this model cannot {direction} a stream: {limit}; give the clip whole, or in tiles")
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
