"""Where training starts: the linear path is the floor, and the deep branches add nothing yet."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vvae.autoencoder import VideoAutoencoder
from vvae.training.floor import BLOCK, Components, Floor

LOG_VARIANCE = -8.0  # constant: noise far below what 16 numbers per position lose anyway
PATHS = {"lead": "on_lead", "group": "groups"}


@torch.no_grad()
def start_from(model: VideoAutoencoder, floor: Floor, seed: int = 0) -> None:
    """Set all weights of a vvae-small: afterwards encode and decode are those of the floor."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _set_deep(name, module, generator)
    for part, path in PATHS.items():
        components: Components = getattr(floor, part)
        _set_encoder(model.get_submodule(f"encoder.sum.shortcut.{path}"), components)
        _set_decoder(model.get_submodule(f"decoder.sum.shortcut.{path}"), components)


def is_linear(name: str) -> bool:
    """Whether the parameter of that name belongs to the linear path."""
    return ".shortcut." in name


def _set_deep(name: str, conv: nn.Conv2d | nn.Conv3d, generator: torch.Generator) -> None:
    """Unit gain; the last layer of every branch and block is zero, so each starts as nothing."""
    last = ".leave" in name or name.endswith("conv_b")
    gain = 0.0 if last else 1 / math.sqrt(conv.weight[0].numel())
    conv.weight.normal_(generator=generator).mul_(gain)
    if conv.bias is not None:
        conv.bias.zero_()


def _set_encoder(fold: nn.Module, components: Components) -> None:
    """Moments: the mean is the code, the rows of logvar are constant."""
    code = components.basis / components.scale.view(-1, 1, 1, 1, 1)
    offset = -(code.flatten(1) @ components.mean.flatten())
    weight = _cells(code)  # k c*8*8 t 1 1
    _fill(fold.weight, torch.cat([weight, torch.zeros_like(weight)]))
    _fill(fold.bias, torch.cat([offset, torch.full_like(offset, LOG_VARIANCE)]))


def _set_decoder(unfold: nn.Module, components: Components) -> None:
    """A map per frame of the group, one after the other."""
    code = components.basis * components.scale.view(-1, 1, 1, 1, 1)
    _fill(unfold.weight, _cells(code).permute(2, 1, 0, 3, 4).flatten(0, 1))
    _fill(unfold.bias, _cells(components.mean[None])[0].permute(1, 0, 2, 3).flatten())


def _cells(blocks: Tensor) -> Tensor:
    """`k c t 8 8` to `k (c 8 8) t 1 1`: the channels as space_to_depth orders them."""
    k, c, t = blocks.shape[:3]
    return blocks.permute(0, 1, 3, 4, 2).reshape(k, c * BLOCK * BLOCK, t, 1, 1)


def _fill(parameter: object, value: Tensor) -> None:
    assert isinstance(parameter, nn.Parameter)
    parameter.copy_(value.reshape(parameter.shape))
