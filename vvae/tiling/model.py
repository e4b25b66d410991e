"""A model under the tiling rule of a release."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import TileError, VideoError
from vvae.framing import Fit, FramingRule, check_clip, fill
from vvae.gaussian import DiagonalGaussian, PosteriorSpec
from vvae.tiling.blend import blended_rows
from vvae.tiling.layout import Gives, TilePlan, laid_out
from vvae.tiling.rules import Compression, Direction, TilingRule
from vvae.tiling.tiles import Place, Progress, Run, checked_into, in_tiles
from vvae.whole_clips import own_content

TiledFeatures: TypeAlias = Sequence[Sequence[Mapping[str, Tensor]]]
"""The features of a content image tile by tile: rows, columns, then `b c n h w` by name."""
TiledContent: TypeAlias = Tensor | TiledFeatures | Literal["own"] | None


@dataclass(frozen=True, eq=False)
class PublishedTiling:
    """Encodes and decodes as a release does what is too long or too big for it.

    Another function than the whole clip, not an approximation of it with a bound: norms and attention see one tile,
    and convolutions the border of a tile as that of the clip. Clips within the limits of the rule pass whole.
    """

    model: VideoAutoencoder
    rule: TilingRule

    @property
    def spec(self) -> VideoAutoencoderSpec:
        """That of the model."""
        return self.model.spec

    def plan(self, direction: Direction, size: tuple[int, int, int], framing: FramingRule = "fill") -> TilePlan:
        """What is read and joined of a clip of that size (frames, height, width), or of latents."""
        spec, cell = self.model.spec, int(self.model.spec.latents.stride)
        in_time: Gives = spec.decoded_frames if direction == "decode" else spec.latent_frames
        in_space: Gives = (
            (lambda n: n * cell) if direction == "decode" else (lambda n: spec.filled_size(n, n)[0] // cell)
        )
        if direction == "encode" and framing == "published":
            in_time, in_space = _floored_positions(spec), lambda n: n // cell
        tiles = self.rule.encode if direction == "encode" else self.rule.decode
        aligned = not tiles.faults(direction, compression(spec, in_time=self.rule.in_time))
        return laid_out(tiles, size, (in_time, in_space, in_space), aligned=aligned)

    def encode(self, x: Tensor, framing: FramingRule = "fill", *, progress: Progress | None = None) -> DiagonalGaussian:
        """The posterior of a clip `b c t h w` in [-1, 1]. `framing` as of the model; "published" floors in each tile.

        Raises:
            VideoError: not a clip, or a size that does not fit under "refuse".
        """
        spec, true = self.model.spec, Fit(*self._clip(x).shape[2:])
        framed = self._framed(x, framing)
        moments = self._moments(framed, framing, progress)
        fit = self._floored(true, moments) if framing == "published" else true
        return spec.posterior.posterior(moments, fit, self._content_images(framed, framing, true.frames))

    def moments(self, x: Tensor, framing: FramingRule = "fill") -> Tensor:
        """Means and logvars of a clip `b c t h w`, one above the other in channels, before logvar is limited."""
        return self._moments(self._framed(self._clip(x), framing), framing)

    def _moments(self, framed: Tensor, framing: FramingRule, progress: Progress | None = None) -> Tensor:
        plan = self.plan("encode", (framed.shape[2], framed.shape[3], framed.shape[4]), framing)
        return in_tiles(self._encoder(framing), framed, plan, progress=progress)

    def decode(
        self,
        latents: Tensor | DiagonalGaussian,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        content: TiledContent = "own",
        into: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """The clip of latents, or of a posterior: its mode, cropped by its fit. Latents are those of the model.

        `frames` and `size` (height, width) crop what comes back; without any of these it comes back as it is.
        `content`, for models with one: images, what `content` of this class made of them, or None on purpose; a
        posterior has its "own". The clip is laid into one tensor: `into`, or one that is made once.

        Raises:
            VideoError: no latents of this model, or more frames or pixels than they hold.
            TileError: content in fewer tiles than the latents, or an `into` of another shape than what comes back.
        """
        z, fit = self.model._latents(latents)
        features = self._features(latents, content, self.rule.decode.applies(*z.shape[2:]))

        def decode(tile: Tensor, place: Place) -> Tensor:
            return self.model.decode(tile, content=None if features is None else _feature_at(features, place))

        plan = self.plan("decode", (z.shape[2], z.shape[3], z.shape[4]))
        whole = plan.time.length if plan.time else self.spec.decoded_frames(z.shape[2])
        fit = self.model._cropped(z, fit, whole, frames, size)
        cut = fit != Fit(whole, plan.rows.length, plan.columns.length)
        if into is None or cut:
            video = fit.crop(in_tiles(decode, z, plan, progress=progress))
            return video if into is None else checked_into(into, video, *video.shape[2:]).copy_(video)
        return in_tiles(decode, z, plan, into=into, progress=progress)

    def content(self, images: Tensor) -> TiledFeatures:
        """The features of content images `b c h w` or, one for each piece of a clip, `b c n h w`, tile by tile."""
        rule, encode = self.rule.content, self.model.content
        if encode is None or rule is None:
            raise TileError(f"{self.model.spec.name} under this rule has no content in tiles; decode without")
        images = images.unsqueeze(2) if images.ndim == 4 else images
        images = fill(images, images.shape[2], *self.model.spec.filled_size(*images.shape[3:]))
        columns = rule.windows(images.shape[4])
        rows = [
            [encode(images[..., top:bottom, left:right]) for left, right in columns]
            for top, bottom in rule.windows(images.shape[3])
        ]
        blended = {
            name: list(blended_rows(([tile[name] for tile in row] for row in rows), rule.blend)) for name in rows[0][0]
        }
        return [
            [{name: blended[name][i][j] for name in tile} for j, tile in enumerate(row)] for i, row in enumerate(rows)
        ]

    def _clip(self, x: Tensor) -> Tensor:
        check_clip(x, self.model.spec.pixels.channels)
        if not x.shape[2]:
            raise VideoError("a clip of 0 frames has no latents; give at least one frame")
        return x

    def _framed(self, x: Tensor, framing: FramingRule) -> Tensor:
        """The clip as the tiles are cut from it."""
        if framing == "published":
            return x
        full = (self.model.spec.filled_frames(x.shape[2]), *self.model.spec.filled_size(*x.shape[3:]))
        if framing == "refuse" and full != tuple(x.shape[2:]):
            raise VideoError(
                f"a clip of {tuple(x.shape[2:])} (frames, height, width) does not fit, {full} would; crop or fill it"
            )
        return fill(x, *full)

    def _encoder(self, framing: FramingRule) -> Run:
        """Moments of a tile."""
        # they are blended as they are: logvar is limited only when all tiles have been joined
        free = copy.copy(self.model)
        free.spec = self.model.spec.replace(posterior=PosteriorSpec())

        def encode(tile: Tensor, place: Place) -> Tensor:
            posterior = free.encode(tile, framing="published" if framing == "published" else "fill")
            return torch.cat([posterior.mean, posterior.logvar], 1)

        return encode

    def _floored(self, true: Fit, moments: Tensor) -> Fit:
        """What of a clip comes back from moments of which each tile was floored by itself."""
        spec, (positions, *cells) = self.model.spec, moments.shape[2:]
        height, width = (cell * int(spec.latents.stride) for cell in cells)
        frames = min(true.frames, spec.decoded_frames(positions))
        return Fit(frames, min(true.height, height), min(true.width, width))

    def _content_images(self, x: Tensor, framing: FramingRule, frames: int) -> Tensor | None:
        """The content image of each piece of a clip of so many true frames, `b c n h w`."""
        spec = self.model.spec
        if spec.content is None:
            return None
        start, indices = 0, []
        for piece in spec.published_pieces(frames) if framing == "published" else spec.pieces(frames):
            indices += [start + index for index in spec.content.images(piece.filled)]
            start += piece.taken
        return x[:, :, indices]

    def _features(self, latents: Tensor | DiagonalGaussian, content: TiledContent, cut: bool) -> TiledFeatures | None:
        """The features to decode with, tile by tile; all in one where the latents are not cut."""
        content = own_content(latents, content)
        if isinstance(content, str):
            if self.model.content is not None:
                raise VideoError(f"{self.model.spec.name} decodes with content; give images, or None on purpose")
            return None
        if not isinstance(content, Tensor):
            return content
        if self.model.content is None:
            raise VideoError(f"{self.model.spec.name} decodes without content; leave it out")
        return self.content(content) if cut else [[self.model.content(content)]]


def _feature_at(features: TiledFeatures, place: Place) -> Mapping[str, Tensor]:
    row, column = place
    if row >= len(features) or column >= len(features[row]):
        raise TileError(
            f"no content for the tile in row {row}, column {column}: it has {len(features)} x {len(features[0])}; "
            f"give that of images as large as the clip"
        )
    return features[row][column]


def _floored_positions(spec: VideoAutoencoderSpec) -> Gives:
    """The latent positions that a release makes of so many frames."""
    return lambda frames: sum(piece.positions for piece in spec.published_pieces(frames))


def published(model: VideoAutoencoder, rule: TilingRule, *, as_published: bool = False) -> PublishedTiling:
    """The model under the rule of a release: another function than the whole clip.

    >>> tiled = published(model, image_vae.tiling["sd"])  # doctest: +SKIP
    >>> video = tiled.decode(tiled.encode(video))  # doctest: +SKIP

    Raises:
        TileError: the rule would join rows, columns or frames that are unlike each other; with `as_published` it runs
            all the same, as the release does.
    """
    faults = [] if as_published else rule.faults(compression(model.spec, in_time=rule.in_time))
    if faults:
        raise TileError(f"{'; '.join(faults)}. Change the rule, or say as_published=True for what the release gives")
    return PublishedTiling(model, rule)


def compression(spec: VideoAutoencoderSpec, *, in_time: bool = True) -> Compression:
    """How a model compresses; without `in_time` only in space, for models that take one length alone."""
    cell = int(spec.latents.stride)
    if not in_time:
        return Compression(cell)
    first, second = spec.decoded_frames(1), spec.decoded_frames(2)
    return Compression(cell, second - first, first % (second - first))
