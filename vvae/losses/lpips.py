"""LPIPS: how unlike two frames are to a network that was trained to name photographs. No weights come with it.

`convert` makes one file of the two that its authors publish: VGG16 of torchvision, and the linear layers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import checkpoint
from vvae.checkpoint import match
from vvae.errors import CheckpointError, VideoError
from vvae.layers.layer import fold_frames
from vvae.published.renames import to_own
from vvae.published.table import Rename, published_shapes
from vvae.spec import Spec

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of VGG16 between its halvings; after each of the five, features are compared."""
WIDTHS = (64, 128, 256, 512, 512)
SMALLEST_SIDE = 2 ** (len(DEPTHS) - 1)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPS = 1e-10
FETCH = (
    "fetch vgg16-397923af.pth of torchvision and vgg.pth of LPIPS v0.1 "
    "(md5 d507d7349b931f0638a25a48a722f98a, also in taming-transformers), and run "
    "vvae convert lpips --backbone vgg16-397923af.pth --linear vgg.pth"
)
_CONVS = tuple(f"conv{i}_{j}" for i, depth in enumerate(DEPTHS, 1) for j in range(1, depth + 1))


class LPIPSFile(Spec):
    """What a file of LPIPS says of itself."""

    kind: Literal["lpips"] = "lpips"
    network: Literal["vgg16"] = "vgg16"


class Fixed(nn.Module):
    """Tensors of a convolution that nothing trains and no checkpoint holds."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)


class LPIPS(nn.Module):
    """The distance of frames: `b c t h w` in [-1, 1] twice -> `b 1 t 1 1`, 0 for equal frames.

    One channel is taken for three equal ones. Sides are at least 16 pixels. The weights come with the
    constructor by own names (`conv1_1.weight`, ..., `linear5.weight`): VGG16 with biases (torch) or without (mindcv).
    They are no parameters: nothing trains them, and no state dict holds them. There is no dropout in any mode.
    `digest` is theirs, as `vvae convert lpips` tells it.

    Source: arXiv 1801.03924 as taming-transformers has it: features behind relu1_2, 2_2, 3_3, 4_3, 5_3, each divided by
    its norm over channels + 1e-10, squared difference, a weighted sum over channels, mean over pixels, sum of the five.
    Inputs lie in [-1, 1] (some figures of publications come from frames in [0, 1], which is another number).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        check_weights(weights, "the weights of LPIPS")
        self.digest = checkpoint.digest(weights)
        for name in (*_CONVS, *(f"linear{i}" for i in range(1, len(DEPTHS) + 1))):
            setattr(self, name, Fixed(weights[f"{name}.weight"], weights.get(f"{name}.bias")))
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            # single precision, as published; wider dtypes keep these very numbers
            constant = torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """LPIPS from a file that `vvae convert lpips` wrote.

        Raises:
            CheckpointError: no such file, another kind of file, a damaged one; it says how to make one.
        """
        refuse_absent(path)
        told, weights = checkpoint.load_weights(path)
        if '"lpips"' not in told:
            raise CheckpointError(f"{os.fspath(path)}: holds a model, not LPIPS; {FETCH}")
        LPIPSFile.from_json(told)
        return cls(weights)

    def forward(self, source: Tensor, result: Tensor) -> Tensor:
        batch, _, frames, height, width = result.shape
        if min(height, width) < SMALLEST_SIDE:
            raise VideoError(
                f"LPIPS compares frames of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels; "
                f"found {height} x {width}; give larger ones"
            )
        total = result.new_zeros(batch * frames, 1, 1, 1)
        pairs = zip(self.features(fold_frames(source)), self.features(fold_frames(result)), strict=True)
        for i, (a, b) in enumerate(pairs, 1):
            unlike = (_unit(a) - _unit(b)).square()
            weight = self.get_buffer(f"linear{i}.weight")
            total = total + F.conv2d(unlike, weight).mean((2, 3), keepdim=True)
        return total.view(batch, frames, 1, 1, 1).transpose(1, 2)

    def features(self, frames: Tensor) -> list[Tensor]:
        """Five feature maps of frames `n c h w`: after relu1_2, 2_2, 3_3, 4_3, 5_3, each half the size of the last."""
        if frames.shape[1] not in (1, 3):
            raise VideoError(f"LPIPS compares frames of 1 or 3 channels; found {frames.shape[1]}; give RGB")
        x = (frames.to(self.shift.dtype) - self.shift) / self.scale
        found: list[Tensor] = []
        for i, depth in enumerate(DEPTHS, 1):
            x = F.max_pool2d(x, 2) if found else x
            for j in range(1, depth + 1):
                conv = self.get_submodule(f"conv{i}_{j}")
                assert isinstance(conv, Fixed)
                x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
            found.append(x)
        return found


def refuse_absent(path: str | os.PathLike[str]) -> None:
    """CheckpointError where there is no file, which says how to make it."""
    if not os.path.exists(path):
        raise CheckpointError(f"{os.fspath(path)}: no such file; {FETCH}")


def _unit(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + EPS)


def check_weights(weights: Mapping[str, Tensor], where: str) -> None:
    """CheckpointError that names what is missing or misshapen; widths may be any, biases there or not."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    expected: dict[str, tuple[int, ...]] = {}
    channels = 3
    for i, depth in enumerate(DEPTHS, 1):
        for j in range(1, depth + 1):
            width = shapes.get(f"conv{i}_{j}.weight", (WIDTHS[i - 1],))[0]
            expected[f"conv{i}_{j}.weight"] = (width, channels, 3, 3)
            if "conv1_1.bias" in shapes:
                expected[f"conv{i}_{j}.bias"] = (width,)
            channels = width
        expected[f"linear{i}.weight"] = (1, channels, 1, 1)
    match(expected, shapes, where)


# --------------------------------------------------------------------------- the published files


def _places() -> list[tuple[str, int, int]]:
    """(own name, stage from 1, place in torchvision's `features`) of each convolution."""
    place, rows = 0, []
    for i, depth in enumerate(DEPTHS, 1):
        for j in range(1, depth + 1):
            rows.append((f"conv{i}_{j}", i, place))
            place += 2  # an activation follows
        place += 1  # and a halving
    return rows


BACKBONE = tuple(Rename(f"features.{place}.", f"{own}.") for own, _, place in _places())
"""The names of VGG16 in torchvision."""
LINEAR = tuple(Rename(f"lin{i - 1}.model.1.", f"linear{i}.") for i in range(1, len(DEPTHS) + 1))
"""The names of the linear layers in LPIPS v0.1 and in taming-transformers."""
TAMING = (*(Rename(f"net.slice{i}.{place}.", f"{own}.") for own, i, place in _places()), *LINEAR)
"""The names of all of it in taming-transformers, and so in checkpoints that hold the training loss."""


def convert(backbone: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of LPIPS by own names, values unchanged, of VGG16 and of the linear layers.

    Layers of VGG16 that LPIPS does not read (its classifier) are left out.

    Raises:
        CheckpointError: names or shapes that are not those of the published files.
    """
    bias = any(name.endswith(".bias") for name in backbone if name.startswith("features."))
    wanted = [f"{name}.weight" for name in _CONVS] + ([f"{name}.bias" for name in _CONVS] if bias else [])
    own = _taken(BACKBONE, backbone, wanted, "--backbone")
    own |= _taken(LINEAR, linear, [f"linear{i}.weight" for i in range(1, len(DEPTHS) + 1)], "--linear")
    check_weights(own, "--backbone and --linear together")
    return own


def _taken(
    table: tuple[Rename, ...], published: Mapping[str, Tensor], wanted: list[str], where: str
) -> dict[str, Tensor]:
    """The wanted tensors out of a published file, each of the shape that it has there."""
    names = {own: next(iter(published_shapes(table, {own: ()}))) for own in wanted}
    read = {name: published[name] for name in names.values() if name in published}
    shapes = {own: tuple(published[name].shape) if name in published else () for own, name in names.items()}
    return to_own(table, read, shapes, where)[0]
