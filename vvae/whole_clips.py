"""Whole clips through a model: pieces, noise, content, and what of the clip comes back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor, nn

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.context import Context, Kept, StreamStep, WholeClip, module_names
from vvae.errors import VideoError
from vvae.framing import Fit, FramingRule, Piece, check_clip, cut_noise, fill
from vvae.gaussian import DiagonalGaussian
from vvae.layers.layer import join_frames
from vvae.scaling import ClipNorm, LatentScaling

Content: TypeAlias = Tensor | Mapping[str, Tensor] | Literal["own"] | None
"""What a model with a content decodes with: images, their features, those of the posterior, or on purpose nothing."""

C = TypeVar("C")
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class WholeClipAutoencoder(nn.Module):
    """What a model does with whole clips; `VideoAutoencoder` adds streams and files."""

    def __init__(self, spec: VideoAutoencoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = spec.encoder.build(spec.pixels)
        self.decoder = spec.decoder.build(spec.latents)
        self.content = None if spec.content is None else spec.content.build(spec.pixels, spec.decoder.reads())
        self.published_extras: dict[str, Tensor] = {}
        """Tensors of a released checkpoint that the model does not use, by their published names; saved with it."""
        self._compiled: dict[str, Any] = {}

    @property
    def scaling(self) -> LatentScaling:
        """What a diffusion model should see of the latents: `normalize`, and `restore` back."""
        latent = self.spec.latent
        return latent.replace(piece=self.spec.piece_positions) if isinstance(latent, ClipNorm) else latent

    def compile(self, **options: Any) -> Self:  # type: ignore[override]
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
        pieces, (height, width), fit = self._framed(x, framing)
        x = x.to(dtype_of(self.encoder, x.dtype))
        if generator is not None or noise is not None:
            shapes = self._noise_shapes(x.shape[0], pieces, height, width)
            if noise is None and generator is not None:
                noise = self._drawn(shapes, generator, x)
            elif noise is not None and {path: tuple(t.shape) for path, t in noise.items()} != shapes:
                told = f"noise is wanted as {shapes}; give a tensor of that shape for each path, or a generator"
                raise VideoError(told)
        parts = cut_noise(noise, map(self._noise_frames, pieces)) if noise else [{} for _ in pieces]
        names, start = module_names(self) if noise else None, 0
        moments: list[Tensor] = []
        images: list[Tensor] = []
        for piece, own_noise in zip(pieces, parts, strict=True):
            clip = fill(x[:, :, start : start + piece.taken], piece.filled, height, width)
            moments.append(self._run("encoder", clip, WholeClip(names=names, noise=own_noise, frames=piece.kept)))
            if self.spec.content is not None:
                images.append(clip[:, :, self.spec.content.images(piece.filled)])
            start += piece.taken
        content = torch.cat(images, 2) if images else None
        return self.spec.posterior.posterior(join_frames(*moments), fit, content)

    def draw(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The noise that layers of the encoder want for the clip x, by path; drawn before anything runs."""
        pieces, (height, width), _ = self._framed(x, "fill")
        return self._drawn(self._noise_shapes(x.shape[0], pieces, height, width), generator, x)

    def _drawn(self, shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator, x: Tensor) -> dict[str, Tensor]:
        device = generator.device
        return {path: torch.randn(s, generator=generator, device=device).to(x) for path, s in shapes.items()}

    def _noise_shapes(self, batch: int, pieces: Sequence[Piece], height: int, width: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        frames = [self._noise_frames(piece) for piece in pieces]
        for path, want in self.spec.encoder.draws(self.spec.pixels).items():
            path, scale = f"encoder.{path}".rstrip("."), self.spec.pixels.stride / want.stride
            count = sum(of_piece[path] for of_piece in frames)
            shapes[path] = (batch, want.channels, count, int(height * scale), int(width * scale))
        return shapes

    def _noise_frames(self, piece: Piece) -> dict[str, int]:
        """How many frames of noise each layer that draws wants for a piece, by path."""
        read = self.spec.pixels
        groups = (piece.filled - read.lead) // read.group
        wants = self.spec.encoder.draws(read).items()
        return {
            # where nothing has changed the frames yet, they need not be whole groups
            f"encoder.{path}".rstrip("."): piece.filled
            if (want.lead, want.group) == (read.lead, read.group)
            else want.frames(groups)
            for path, want in wants
        }

    def decode(
        self,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: Content = "own",
    ) -> Tensor:
        """The clip of latents, or of a posterior: its mode, cropped by its fit.

        Latents are plain ones; normalized ones for a model whose scaling has no inverse. `frames` and `size` (height,
        width) crop what comes back. A model with a content decodes with images `b c h w` or, one for each piece,
        `b c n h w`, or with the features that `model.content(images)` made of them, or on purpose without (None); a
        posterior has its "own".

        Raises:
            VideoError: no latents of this model, more frames or pixels than they hold, no content where one is needed.
        """
        z, fit = self._latents(latents)
        fit = self._cropped(z, fit, self.spec.decoded_frames(z.shape[2]), frames, size)
        return self._decoded(z, fit, self._features(latents, content, z.shape[2]))

    def _decoded(self, z: Tensor, fit: Fit, features: Mapping[str, Tensor]) -> Tensor:
        """The clip of latents piece by piece, cropped by its fit."""
        if not self.spec.framing.piece and self.spec.stretch:
            return fit.crop(self._stretches(z, features, {}, last=True, frames=fit.frames)[0])
        start, left = 0, fit.frames
        clips: list[Tensor] = []
        for number, (positions, most) in enumerate(self.spec.decoded_pieces(z.shape[2])):
            kept = min(most, left)
            if kept or not clips:
                own = {name: feature[:, :, number : number + 1] for name, feature in features.items()}
                ctx = WholeClip(frames=kept, content=own)
                clip = self._run("decoder", z[:, :, start : start + positions], ctx)
                clips.append(self.spec.framing.own(clip, kept))
            start, left = start + positions, left - kept
        return fit.crop(join_frames(*clips))

    def _stretches(
        self, z: Tensor, features: Mapping[str, Tensor], before: Mapping[str, Kept], *, last: bool, frames: int
    ) -> tuple[Tensor, dict[str, Kept]]:
        """The frames of latents as steps of a stream, a step for each content image, and what the last step leaves.

        `before` is what the step before left; `frames` of what comes are the clip's own.
        """
        names, state, start, left = module_names(self), dict(before), 0, frames
        clips: list[Tensor] = []
        parts = (self.spec.decoded_pieces(z.shape[2]) if self.spec.stretch else ()) or ((z.shape[2], frames),)
        for number, (positions, most) in enumerate(parts):
            own = {name: feature[:, :, number : number + 1] for name, feature in features.items()}
            ends, kept = last and number == len(parts) - 1, min(most, left)
            step = StreamStep(names, state, last=ends, frames=kept, content=own)
            clips.append(self._run("decoder", z[:, :, start : start + positions], step))
            state, start, left = step.close(), start + positions, left - kept
        return join_frames(*clips), state

    def _features(self, latents: Tensor | DiagonalGaussian, content: Content, positions: int) -> Mapping[str, Tensor]:
        """The features to decode with, for every piece of so many latent positions; none for None."""
        content = own_content(latents, content)
        if isinstance(content, str) and self.content is not None:
            raise VideoError(
                f"{self.spec.name} decodes with content: give content=images, content=model.content(images), "
                "or content=None to decode without on purpose"
            )
        if content is None or isinstance(content, str):
            return {}
        if self.content is None:
            raise VideoError(f"{self.spec.name} decodes without content; leave it out")
        pieces = self.spec.images(positions)
        if isinstance(content, Tensor):
            content = self.content(content.to(dtype_of(self.content, content.dtype))) if pieces else {}
        for name, feature in content.items():
            if feature.shape[2] != pieces:
                raise VideoError(f"content {name!r} of {feature.shape[2]} images for {pieces} pieces; give one each")
        return content

    def _run(self, part: Literal["encoder", "decoder"], x: Tensor, ctx: Context) -> Tensor:
        module = getattr(self, part)
        compiled = self._compiled.get(part)
        x = x.contiguous(memory_format=LAYOUTS[5])
        out: Tensor = (compiled if compiled is not None and compiled._orig_mod is module else module)(x, ctx)
        return out

    def _framed(self, x: Tensor, rule: FramingRule) -> tuple[tuple[Piece, ...], tuple[int, int], Fit]:
        """The pieces in which the encoder takes the clip, at which height and width, and what of it comes back."""
        true = Fit(*x.shape[2:])
        if rule not in get_args(FramingRule):
            raise VideoError(f"framing {rule!r} is unknown; it is one of {', '.join(get_args(FramingRule))}")
        if rule == "published":
            cell, pieces = self.spec.cell, self.spec.published_pieces(true.frames)
            kept = Fit(sum(p.kept for p in pieces), true.height // cell * cell, true.width // cell * cell)
            if min(kept.frames, kept.height, kept.width) < 1:
                raise VideoError(f"nothing is left of {true} when it is floored; take framing='fill'")
            return pieces, (true.height, true.width), kept
        pieces = self.spec.pieces(true.frames)
        full = Fit(sum(p.filled for p in pieces), *self.spec.filled_size(true.height, true.width))
        if rule == "refuse" and full != true:
            low = self.spec.floored_frames(true.frames)
            frames = " or ".join(str(n) for n in sorted({low, full.frames} - {0}))
            raise VideoError(
                f"a clip of {true.frames} x {true.height} x {true.width} (frames, height, width) does not fit; the "
                f"nearest has {frames} frames of {full.height} x {full.width}; crop it, or take framing='fill'"
            )
        return pieces, (full.height, full.width), true

    def _mode(self, posterior: DiagonalGaussian) -> Tensor:
        """The latents that decode takes: normalized where that cannot be undone."""
        scaling, mode = self.scaling, posterior.mode()
        return scaling.normalize(mode) if isinstance(scaling, ClipNorm) and mode.shape[2] else mode

    def _latents(self, latents: Tensor | DiagonalGaussian, least: int = 1) -> tuple[Tensor, Fit | None]:
        z, fit = (self._mode(latents), latents.fit) if isinstance(latents, DiagonalGaussian) else (latents, None)
        want = self.spec.latents.channels
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise VideoError("latents are a floating point tensor or a posterior; convert what you have first")
        if z.ndim != 5 or z.shape[1] != want or z.shape[2] < least or not z.shape[0] * z.shape[3] * z.shape[4]:
            raise VideoError(
                f"found latents of shape {tuple(z.shape)}; they are `b c t h w` with c = {want}, t >= {least}"
            )
        return z.to(dtype_of(self.decoder, z.dtype)), fit

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


def own_content(latents: Tensor | DiagonalGaussian, content: C) -> C | Tensor:
    """The images of a posterior for its "own" content; anything else, and "own" where it has none, as it is."""
    if isinstance(content, str) and isinstance(latents, DiagonalGaussian) and latents.content is not None:
        return latents.content
    return content


def cut_content(content: Content, start: int, count: int) -> Content:
    """The content of `count` pieces from piece `start` on."""
    if isinstance(content, Tensor):
        return content if content.ndim == 4 else content[:, :, start : start + count]
    if isinstance(content, Mapping):
        return {name: feature[:, :, start : start + count] for name, feature in content.items()}
    return content


def dtype_of(part: nn.Module, default: torch.dtype) -> torch.dtype:
    return next((p.dtype for p in part.parameters() if p.is_floating_point()), default)
