"""What flows between two layers, known before any tensor exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction


@dataclass(frozen=True)
class Signal:
    """A clip between two layers: `channels`, then `lead` frames that stand alone, then groups of `group` frames.

    `stride` is the side of one cell in pixels (1 at the pixels, 8 in most latents). `content` names the signals that
    stand beside the clip (features of a content image).

    >>> Signal(channels=3, lead=1, group=4).frames(groups=2)
    9
    """

    channels: int
    lead: int = 0
    group: int = 1
    stride: Fraction = Fraction(1)
    content: Mapping[str, Signal] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.channels} channels, lead {self.lead}, groups of {self.group}, stride {self.stride}"

    def frames(self, groups: int) -> int:
        """Frames of a clip with that many whole groups behind its lead."""
        return self.lead + self.group * groups

    def with_channels(self, channels: int) -> Signal:
        return replace(self, channels=channels)

    def with_time(self, *, lead: int | None = None, group: int | None = None) -> Signal:
        return replace(self, lead=self.lead if lead is None else lead, group=self.group if group is None else group)

    def with_stride(self, stride: Fraction) -> Signal:
        return replace(self, stride=stride)
