"""Weighted terms of an objective, as data: what is measured, how much it counts, from which step on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from vvae.errors import SpecError, VideoError
from vvae.gaussian import DiagonalGaussian
from vvae.losses import terms
from vvae.losses.lpips import LPIPS
from vvae.spec import Spec


@dataclass(frozen=True)
class Pass:
    """What one forward pass of a model gave.

    `video` and `result` are `b c t h w`; `latents` what was decoded, of the posterior's shape; `seen` outputs of layers
    by path, for terms that compare these. `notes` collects what terms say of themselves by name.
    """

    video: Tensor
    result: Tensor
    posterior: DiagonalGaussian | None = None
    latents: Tensor | None = None
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    lpips: LPIPS | None = None
    logvars: Mapping[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Tensor] = field(default_factory=dict)

    def named(self, name: str) -> Tensor:
        """The video, the result, the latents, or what the layer at that path gave; VideoError where it is not there."""
        own = {"video": self.video, "result": self.result, "latents": self.latents}
        found = own.get(name, self.seen.get(name))
        if found is None:
            raise VideoError(
                f"the objective reads {name!r}, which was not handed over; give latents=, or seen= of "
                f"`with objective.watching(model) as seen:` around the forward pass"
            )
        return found

    def distance(self, source: Tensor, result: Tensor) -> Tensor:
        """LPIPS, `b 1 t 1 1`; SpecError where there is none."""
        if self.lpips is None:
            raise SpecError("a term has LPIPS, and this objective was made without its file; use ObjectiveSpec.build")
        found: Tensor = self.lpips(source, result)
        return found

    def moments(self) -> DiagonalGaussian:
        """The posterior; VideoError where there is none."""
        if self.posterior is None:
            raise VideoError("the objective has a KL term, and posterior is None; give the posterior of the clip")
        return self.posterior


class StepWeight(Spec):
    """A weight that is 0 before `start` and then grows in equal steps: after `ramp` more it is whole."""

    weight: float = 1.0
    start: NonNegativeInt = 0
    ramp: NonNegativeInt = 0

    def share(self, step: int) -> float:
        """How much of the weight counts at that step: (n + 1) / (ramp + 1) for step n from the start, at most 1."""
        return min(1.0, max(step - self.start + 1, 0) / (self.ramp + 1))


class TermSpec(StepWeight):
    """A term by its kind. `value` is what is reported; the loss takes it times weight and share."""

    def value(self, name: str, given: Pass) -> Tensor:
        """One number, before its weight; `name` is that of the term in its objective."""
        raise NotImplementedError

    def needs_lpips(self) -> bool:
        """Whether this term compares by LPIPS."""
        return False

    def reads(self) -> frozenset[str]:
        """Paths of layers whose outputs this term compares."""
        return frozenset()


class NLLSpec(TermSpec):
    """Negative log likelihood of each value: error / exp(logvar) + logvar, the error with LPIPS inside.

    The error is |x - y| ("l1") or its square ("l2"), plus `perceptual` times LPIPS of the frame. `over`: "frame" sums
    over a frame and takes the mean over frames, "all" is the mean over all values. `logvar` is one number, trained if
    `learned`. `source` and `result` say what is compared: "video", "result", "latents", or layers by path.
    `single_frames`: 0 for clips of more than one frame.
    """

    kind: Literal["nll"] = "nll"
    error: Literal["l1", "l2"] = "l1"
    perceptual: NonNegativeFloat = 0.0
    over: Literal["frame", "all"] = "frame"
    logvar: float = 0.0
    learned: bool = False
    source: str = "video"
    result: str = "result"
    single_frames: bool = False

    def needs_lpips(self) -> bool:
        return self.perceptual > 0

    def reads(self) -> frozenset[str]:
        return frozenset({self.source, self.result} - {"video", "result", "latents"})

    def value(self, name: str, given: Pass) -> Tensor:
        if self.single_frames and given.video.shape[2] > 1:
            return given.video.new_zeros(())
        source, result = given.named(self.source), given.named(self.result)
        gap = source - result
        error = gap.abs() if self.error == "l1" else gap.square()
        if self.needs_lpips():
            distance = self.perceptual * given.distance(source, result)
            given.notes[f"{name}.lpips"] = distance.detach().mean()
            error = error + distance
        given.notes[f"{name}.error"] = error.detach().mean()
        values = terms.nll_map(error, given.logvars[name])
        return values.mean() if self.over == "all" else terms.mean_over_frames(values)


class ErrorSpec(TermSpec):
    """`positions`: weights of the frames of a group, where some come out worse than others; see `mean_by_position`."""

    positions: tuple[PositiveFloat, ...] = ()


class L1Spec(ErrorSpec):
    """Mean absolute error."""

    kind: Literal["l1"] = "l1"

    def value(self, name: str, given: Pass) -> Tensor:
        return terms.l1(given.video, given.result, self.positions)


class L2Spec(ErrorSpec):
    """Mean squared error."""

    kind: Literal["l2"] = "l2"

    def value(self, name: str, given: Pass) -> Tensor:
        return terms.l2(given.video, given.result, self.positions)


class LPIPSSpec(TermSpec):
    """Mean over frames of LPIPS."""

    kind: Literal["lpips"] = "lpips"

    def needs_lpips(self) -> bool:
        return True

    def value(self, name: str, given: Pass) -> Tensor:
        return given.distance(given.video, given.result).mean()


class KLSpec(TermSpec):
    """Divergence of the posterior from the standard normal in nats: "clip" is its mean over clips, "frame" over frames.

    Frames are those of the video, not latent positions.
    """

    kind: Literal["kl"] = "kl"
    per: Literal["clip", "frame"] = "clip"

    def value(self, name: str, given: Pass) -> Tensor:
        if self.per == "clip":
            return terms.kl_per_clip(given.moments())
        return terms.kl_per_frame(given.moments(), given.video.shape[0] * given.video.shape[2])


class OutlierSpec(TermSpec):
    """Values farther than `radius` standard deviations from the mean of their frame.

    "latent" are latents of a channel, "vector" latents as vectors over channels, "pixel" bright pixels of the result.
    """

    kind: Literal["outliers"] = "outliers"
    of: Literal["latent", "vector", "pixel"]
    radius: PositiveFloat = 3.0

    def value(self, name: str, given: Pass) -> Tensor:
        if self.of == "pixel":
            return terms.pixel_outliers(given.result, self.radius)
        penalty: Callable[[Tensor, float], Tensor] = (
            terms.latent_outliers if self.of == "latent" else terms.vector_outliers
        )
        return penalty(given.named("latents"), self.radius)


class WaveletSpec(TermSpec):
    """Details of a Haar transform of the frames; see `wavelet_detail`."""

    kind: Literal["wavelet"] = "wavelet"
    levels: PositiveInt = 1

    def value(self, name: str, given: Pass) -> Tensor:
        return terms.wavelet_detail(given.video, given.result, self.levels)


class TemporalDifferenceSpec(TermSpec):
    """Change from frame to frame; see `temporal_difference`."""

    kind: Literal["temporal_difference"] = "temporal_difference"

    def value(self, name: str, given: Pass) -> Tensor:
        return terms.temporal_difference(given.video, given.result)


AnyTerm: TypeAlias = Annotated[
    NLLSpec | L1Spec | L2Spec | LPIPSSpec | KLSpec | OutlierSpec | WaveletSpec | TemporalDifferenceSpec,
    Field(discriminator="kind"),
]
"""A term of any kind."""
