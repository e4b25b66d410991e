"""PatchGAN discriminators over clips: convolutions that judge overlapping patches, a logit each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.errors import SpecError, VideoError
from vvae.losses.batch_norm import BatchNorm
from vvae.losses.shared import Reduce, alone
from vvae.published.legacy.discriminators import ActNorm
from vvae.published.table import Rename
from vvae.spec import Spec

Three: TypeAlias = tuple[PositiveInt, PositiveInt, PositiveInt]
"""One number each for frames, rows and columns."""
SLOPE = 0.2


class PatchConv(Spec):
    """One convolution; (kernel - 1) // 2 zeros stand before and behind each axis."""

    channels: PositiveInt
    kernel: Three
    stride: Three = (1, 1, 1)

    @property
    def padding(self) -> tuple[int, int, int]:
        frames, rows, columns = ((k - 1) // 2 for k in self.kernel)
        return frames, rows, columns


class PatchSpec(Spec):
    """Convolutions with a leaky ReLU (0.2) between them and a norm after each but the first and the last.

    `norm`: "batch" (of the batch, all frames and pixels), or "act" (a scale and a shift). `last` is the activation
    before the last convolution. A net of frames has kernels of 1 in time.
    """

    norm: Literal["batch", "act"] = "batch"
    last: Literal["leaky", "tanh"] = "leaky"

    def layout(self) -> tuple[PatchConv, ...]:
        """The convolutions, two at least, of which the last gives one channel."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> tuple[int, int, int]:
        """Frames, rows and columns that one logit sees."""
        return self._first(lambda behind, k, stride: (behind - 1) * stride + k)

    @property
    def shortest(self) -> tuple[int, int, int]:
        """The least frames, rows and columns that give a logit."""
        return self._first(lambda behind, k, stride: max((behind - 1) * stride + k - 2 * ((k - 1) // 2), 1))

    def _first(self, step: Callable[[int, int, int], int]) -> tuple[int, int, int]:
        """What one logit is at the first convolution, where `step` tells it before a convolution from it behind."""
        frames, rows, columns = 1, 1, 1
        for conv in reversed(self.layout()):
            sizes = zip((frames, rows, columns), conv.kernel, conv.stride, strict=True)
            frames, rows, columns = (step(behind, k, stride) for behind, k, stride in sizes)
        return frames, rows, columns

    def check(self, frames: int, height: int, width: int) -> None:
        """VideoError where clips of that size give no logit."""
        if any(found < least for found, least in zip((frames, height, width), self.shortest, strict=True)):
            t, h, w = self.shortest
            raise VideoError(
                f"the discriminator judges clips of at least {t} frames of {h} x {w} pixels; found {frames} frames of "
                f"{height} x {width}; give longer or larger ones, or take another discriminator"
            )

    def build(self, channels: int = 3, *, reduce: Reduce = alone) -> PatchDiscriminator:
        """The net for clips of that many channels; `reduce` makes batch statistics those of all processes."""
        return PatchDiscriminator(self, channels, reduce=reduce)


class PatchDiscriminator(nn.Module):
    """Logits of overlapping patches: `b c t h w` -> `b 1 t' h' w'`.

    Weights start N(0, 0.02), those of norms N(1, 0.02). Source: pix2pix (arXiv 1611.07004) and, over time, the
    `NLayerDiscriminator3D` of video autoencoders. Clips are judged in the dtype of the weights. VideoError for a clip
    that is too small.
    """

    def __init__(self, spec: PatchSpec, channels: int = 3, *, reduce: Reduce = alone) -> None:
        super().__init__()
        self.spec = spec
        convs = spec.layout()
        end = self.end = len(convs) - 1
        for i, conv in enumerate(convs):
            bias = i in (0, end) or spec.norm == "act"
            made = nn.Conv3d(channels, conv.channels, conv.kernel, conv.stride, conv.padding, bias=bias)
            nn.init.normal_(made.weight, 0.0, 0.02)
            setattr(self, f"conv{i}", made)
            if 0 < i < end:
                norm = BatchNorm(conv.channels, reduce=reduce) if spec.norm == "batch" else ActNorm(conv.channels)
                setattr(self, f"norm{i}", norm)
            channels = conv.channels

    def forward(self, video: Tensor) -> Tensor:
        self.spec.check(*video.shape[2:])
        x: Tensor = self.get_submodule("conv0")(video.to(self.get_parameter("conv0.weight").dtype))
        for i in range(1, self.end + 1):
            x = x.tanh() if i == self.end and self.spec.last == "tanh" else F.leaky_relu(x, SLOPE)
            x = self.get_submodule(f"conv{i}")(x)
            if i < self.end:
                x = self.get_submodule(f"norm{i}")(x)
        return x


def patch_gan(width: int, kernels: Sequence[Three], strides: Sequence[Three]) -> tuple[PatchConv, ...]:
    """Convolutions of the widths that PatchGANs have: doubled up to 8 x `width`, and one channel at the end."""
    channels = [width * min(2**i, 8) for i in range(len(kernels) - 1)]
    rows = zip([*channels, 1], kernels, strides, strict=True)
    return tuple(PatchConv(channels=c, kernel=kernel, stride=stride) for c, kernel, stride in rows)


class Patch2dSpec(PatchSpec):
    """The PatchGAN of images, of frames one by one: kernels of 4, `layers` halvings, two more convolutions.

    With three layers a logit sees 70 x 70 pixels, and a frame has at least 24 x 24. Source: `NLayerDiscriminator`.
    """

    kind: Literal["patch_2d"] = "patch_2d"
    width: PositiveInt = 64
    layers: PositiveInt = 3

    def layout(self) -> tuple[PatchConv, ...]:
        strides: list[Three] = [(1, 2, 2)] * self.layers + [(1, 1, 1)] * 2
        return patch_gan(self.width, [(1, 4, 4)] * len(strides), strides)


class Patch3dSpec(PatchSpec):
    """A PatchGAN over clips: `layers` halvings of the frame, the first `time_halvings` also of the frame rate.

    As OD-VAE 1.1 and 1.2 have it: any number of frames. Kernels of 4 with one halving in time, as OD-VAE 1.0 and
    Open-Sora have it, need 10 frames. Source: `NLayerDiscriminator3D`.
    """

    kind: Literal["patch_3d"] = "patch_3d"
    width: PositiveInt = 64
    layers: PositiveInt = 3
    kernel: PositiveInt = 3
    time_halvings: NonNegativeInt = 2

    def layout(self) -> tuple[PatchConv, ...]:
        halved: list[Three] = [(2 if i < self.time_halvings else 1, 2, 2) for i in range(self.layers)]
        kernels = [(self.kernel, self.kernel, self.kernel)] * (self.layers + 2)
        return patch_gan(self.width, kernels, [*halved, (1, 1, 1), (1, 1, 1)])


class PatchConvsSpec(PatchSpec):
    """A PatchGAN of any convolutions."""

    kind: Literal["patch_convs"] = "patch_convs"
    convs: tuple[PatchConv, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _ends_in_a_logit(self) -> Self:
        if self.convs[-1].channels != 1:
            raise SpecError(f"the last convolution gives {self.convs[-1].channels} channels; a discriminator gives 1")
        return self

    def layout(self) -> tuple[PatchConv, ...]:
        return self.convs


AnyPatch: TypeAlias = Annotated[Patch2dSpec | Patch3dSpec | PatchConvsSpec, Field(discriminator="kind")]
"""A discriminator of any kind."""


def published_names(spec: PatchSpec, published: str = "main.") -> tuple[Rename, ...]:
    """The names of every published PatchGAN behind `published`, kernels of a net of frames without their axis of time.

    What training counts there (`num_batches_tracked`, `initialized`) is no part of ours.
    """
    rows = [Rename(f"{published}{{i}}.num_batches_tracked", None), Rename(f"{published}{{i}}.initialized", None)]
    convs = spec.layout()
    frames_alone = all(conv.kernel[0] == 1 for conv in convs)
    for i, conv in enumerate(convs):
        place = f"{published}{max(3 * i - 1, 0)}."
        if frames_alone:
            rows.append(Rename(f"{place}weight", f"conv{i}.weight", "view", shape=(0, 0, *conv.kernel[1:])))
            rows.append(Rename(f"{place}bias", f"conv{i}.bias"))
        else:
            rows.append(Rename(place, f"conv{i}."))
        if spec.norm == "act":
            rows.append(Rename(f"{published}{3 * i}.loc", f"norm{i}.shift", "view", shape=(1, -1, 1, 1)))
            rows.append(Rename(f"{published}{3 * i}.scale", f"norm{i}.scale", "view", shape=(1, -1, 1, 1)))
        else:
            rows.append(Rename(f"{published}{3 * i}.", f"norm{i}."))
    return tuple(rows)
