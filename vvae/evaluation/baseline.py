"""The linear floor of a model's latent shape: what a linear code of as many numbers gives on the same clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import VvaeError
from vvae.evaluation import floor
from vvae.evaluation.protocol import Clip
from vvae.evaluation.subjects import Subject, of_function, rate_of
from vvae.evaluation.told import Progress
from vvae.framing import fill

MOST_NUMBERS = 4096  # of a block: its covariance then takes 128 MiB, and a minute to be taken apart
_CHUNK = 64  # frames that are read at a time


def linear_subject(spec: VideoAutoencoderSpec, clips: Sequence[Clip], progress: Progress | None = None) -> Subject:
    """The linear code of the latent shape of `spec`, its principal components fitted to `clips`.

    Fitted to the clips that are evaluated it is the best linear code there is for them (too good where they have few
    blocks: give other clips then); fitted to the clips of a training, it is what that starts from. progress: clips that
    are done, and all of them.

    Errors: VvaeError where a latent position stands for more than 4096 numbers; VideoError where a clip cannot be read.
    """
    refuse_large(spec)
    group, side, channels = _group(spec), int(spec.latents.stride), spec.latents.channels
    fitted = floor.fit(_pieces(clips, group, side, progress), channels, group, side)
    about = {
        "block": [group, side, side],
        "latent_channels": channels,
        "fitted_to": [clip.to_dict()["sha256"] for clip in clips],
    }
    name = f"linear-{group}x{side}x{side}-z{channels}"
    whole = spec.chunks("encode")
    plain = of_function(name, lambda video: _through(fitted, spec, video), whole.lead, whole.group)
    return replace(plain, rate=rate_of(spec), cell=side, about=about)


def refuse_large(spec: VideoAutoencoderSpec) -> None:
    """VvaeError where the floor of a model would take too long."""
    group, side = _group(spec), int(spec.latents.stride)
    numbers = spec.pixels.channels * group * side**2
    if numbers > MOST_NUMBERS:
        raise VvaeError(
            f"{spec.name}: a latent position stands for {group}x{side}x{side} pixels, {numbers} numbers; the linear "
            f"baseline takes at most {MOST_NUMBERS}, so leave it out"
        )


def _group(spec: VideoAutoencoderSpec) -> int:
    """Frames that a latent position stands for."""
    return spec.pixels.group // spec.latents.group


def _pieces(clips: Sequence[Clip], group: int, side: int, progress: Progress | None) -> Iterator[Tensor]:
    """All clips in pieces of whole groups but for the last of each, their sides filled to whole blocks."""
    for done, clip in enumerate(clips, 1):
        held: list[Tensor] = []
        most = max(1, _CHUNK // group) * group
        for frame, _ in clip.shown():
            held.append(frame)
            if len(held) == most:
                yield _filled(torch.cat(held, 2), most, side)
                held = []
        if held:
            yield _filled(torch.cat(held, 2), len(held), side)
        if progress is not None:
            progress(done, len(clips))


def _filled(video: Tensor, frames: int, side: int) -> Tensor:
    height, width = (-(-n // side) * side for n in video.shape[3:])
    return fill(video, frames, height, width)


def _through(fitted: floor.Floor, spec: VideoAutoencoderSpec, video: Tensor) -> Tensor:
    """A clip through the floor: piece by piece, where the model's clips fall into pieces."""
    taken = video.split([piece.taken for piece in spec.pieces(video.shape[2])], 2)
    return torch.cat([_piece(fitted, part, spec.pixels.lead) for part in taken], dim=2)


def _piece(fitted: floor.Floor, video: Tensor, lead: int) -> Tensor:
    """A piece through the floor, with as many positions as the model has for it; its end is filled to a whole group."""
    group, (frames, height, width) = fitted.group.frames, video.shape[2:]
    groups = -(-(frames - lead) // group)
    whole = _filled(video, lead + groups * group, fitted.group.side)
    parts = [(fitted.lead, whole[:, :, :lead])] if lead else []
    parts += [(fitted.group, whole[:, :, lead:])] if groups else []
    return torch.cat([code.decode(code.encode(part)) for code, part in parts], 2)[:, :, :frames, :height, :width]
