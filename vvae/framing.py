"""Which sizes a model takes, how other sizes are filled, and the record of a clip's true size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from vvae.errors import SpecError, StreamError, VideoError
from vvae.layers.layer import join_frames, split_axis
from vvae.layers.pad import pad_time
from vvae.signal import Signal
from vvae.spec import Spec

T = TypeVar("T")
FramingRule: TypeAlias = Literal["fill", "refuse", "published"]


@dataclass(frozen=True)
class Fit:
    """The true size of a clip: what comes back is cropped to it. Frames, and pixels of height and width."""

    frames: int
    height: int
    width: int

    def crop(self, x: Tensor) -> Tensor:
        return x[:, :, : self.frames, : self.height, : self.width]


@dataclass(frozen=True)
class Piece:
    """Frames of a clip that pass by themselves: `taken` of them, filled to a length of `filled`, give so many latent
    `positions`, and `kept` frames of what comes back are the clip's.
    """

    taken: int
    filled: int
    positions: int
    kept: int


class Framing(Spec):
    """The clip at the pixels: `lead` frames that stand alone, then groups of `group`.

    A clip falls into pieces of `piece` frames, each of which passes by itself; the last may be shorter. None: a clip is
    one piece. The release cuts clips so too, unless `published_pieces` says that it takes one piece and no more.
    `surplus`: where frames stand that are no frames of the clip when more come back than went in.
    Which sizes fit is derived from the layers; nothing here repeats it.
    """

    channels: PositiveInt = 3
    lead: int = Field(0, ge=0)
    group: PositiveInt = 1
    piece: PositiveInt | None = None
    published_pieces: bool = True
    surplus: Literal["front", "end"] = "end"

    @property
    def pixels(self) -> Signal:
        return Signal(channels=self.channels, lead=self.lead, group=self.group)

    def own(self, video: Tensor, frames: int) -> Tensor:
        """The `frames` frames of the clip among those that came back."""
        return video[:, :, :frames] if self.surplus == "end" else video[:, :, max(video.shape[2] - frames, 0) :]


def legal_frames(frames: int, passes: Callable[[int], object], step: Literal[-1, 1], within: int) -> int | None:
    """The nearest number of frames at or beyond `frames` that passes, going by `step`; None if none is `within`."""
    for n in range(frames, frames + step * (within + 1), step):
        if n < 1:
            return None
        try:
            passes(n)
        except SpecError:
            continue
        return n
    return None


def fill(x: Tensor, frames: int, height: int, width: int) -> Tensor:
    """The clip at a larger size: its last frame, row and column are repeated at the end."""
    add_h, add_w = height - x.shape[3], width - x.shape[4]
    if add_h or add_w:
        folded = F.pad(x.flatten(1, 2), (0, add_w, 0, add_h), mode="replicate")
        x = split_axis(folded, 1, *x.shape[1:3])
    return pad_time(x, 0, frames - x.shape[2], "replicate") if frames > x.shape[2] else x


def cut_noise(noise: Mapping[str, Tensor], frames: Iterable[Mapping[str, int]]) -> Iterator[dict[str, Tensor]]:
    """Noise by path for each piece, one after the other; `frames`: how many frames of it each piece takes."""
    start = dict.fromkeys(noise, 0)
    for piece in frames:
        yield {path: noise[path][:, :, start[path] : start[path] + piece[path]] for path in noise}
        start = {path: start[path] + piece[path] for path in noise}


def check_clip(x: Tensor, channels: int) -> None:
    """VideoError unless x is `b c t h w` with that many channels and at least one pixel."""
    if not isinstance(x, Tensor):
        raise VideoError(f"found {type(x).__name__}; a clip is a tensor `b c t h w` with c = {channels}")
    if x.ndim != 5 or x.shape[1] != channels:
        raise VideoError(f"found shape {tuple(x.shape)}; a clip is `b c t h w` with c = {channels}")
    if not x.is_floating_point():
        raise VideoError(f"found {x.dtype}; convert the clip to floating point first (pixels to [-1, 1])")
    if min(x.shape[0], *x.shape[3:]) < 1:
        raise VideoError(f"found shape {tuple(x.shape)}; batch, height and width must be at least one")


def with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Every item, and whether it is the last one."""
    source = iter(items)
    try:
        held = next(source)
    except StopIteration:
        raise StreamError("the stream holds nothing; give at least one chunk") from None
    for item in source:
        yield held, False
        held = item
    yield held, True


def whole_groups(
    chunks: Iterable[Tensor], signal: Signal, check: Callable[[Tensor], object]
) -> Iterator[tuple[Tensor, bool]]:
    """Chunks of any length, each checked, as the lead and whole groups; what is left over goes with the last one."""
    seen, left = 0, None
    ready: Tensor | None = None
    for chunk in chunks:
        check(chunk)
        left = chunk if left is None else join_frames(left, chunk)
        total = seen + left.shape[2]
        whole = signal.frames((total - signal.lead) // signal.group) if total >= signal.lead else 0
        if whole > seen:
            if ready is not None:
                yield ready, False
            ready, left, seen = left[:, :, : whole - seen], left[:, :, whole - seen :], whole
    if left is None:
        raise StreamError("the stream holds nothing; give at least one chunk")
    yield left if ready is None else join_frames(ready, left), True
