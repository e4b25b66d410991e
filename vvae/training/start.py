"""Where training starts: which model, and what its weights are before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.evaluation import floor
from vvae.evaluation.floor import BLOCK, Components, Floor
from vvae.models.files import load
from vvae.models.names import architectures, is_architecture, spec_of
from vvae.models.small import vvae_small
from vvae.published.inflate import inflate
from vvae.spec import Spec, nearest

LOG_VARIANCE = -8.0  # constant: noise far below what 16 numbers per position lose anyway
PATHS = {"lead": "on_lead", "group": "groups"}


class ModelSource(Spec):
    """The model that is trained.

    `name` is an architecture with or without a variant ("iv_vae", "tae:published", "vvae_small"), which takes `fields`;
    the file of a spec; or a model's file or name, whose weights are where training starts. Otherwise it starts at
    "random" weights, at the "linear" floor of the material (vvae_small), or at an image VAE: `inflate` names the file.
    """

    name: str
    fields: dict[str, Any] = Field(default_factory=dict)
    start: Literal["random", "linear", "weights"] = "random"
    inflate: str | None = None

    def spec(self) -> VideoAutoencoderSpec:
        """SpecError or CheckpointError where nothing is called so, or the fields do not fit."""
        if self.name == "vvae_small":
            return _called(vvae_small, self.name, self.fields)
        if is_architecture(self.name):
            head, _, variant = self.name.partition(":")
            return _called(architectures()[head], self.name, self.fields, *([variant] if variant else []))
        if self.fields:
            raise SpecError(f"{self.name} is no architecture by name, and has no fields to set; leave them out")
        return spec_of(self.name)

    def check(self) -> None:
        """SpecError or CheckpointError where the model or its start cannot be."""
        spec = self.spec()
        if self.start == "linear" and self.name != "vvae_small":
            raise SpecError(f"{self.name} has no linear path; take start: random, or the model vvae_small", ("start",))
        if self.start == "weights":
            load(self.name)
        if self.inflate is not None:
            self._table(spec)
            load(self.inflate)

    def build(self, clips: Iterable[Tensor], seed: int) -> VideoAutoencoder:
        """The model with its first weights; `clips` `b c t h w` are what a linear start is fitted to."""
        spec = self.spec()
        if self.start == "weights":
            return load(self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = spec.build()
        if self.start == "linear":
            start_from(model, floor.fit(clips), seed)
        if self.inflate is not None:
            weights = inflate(self._table(spec), load(self.inflate).state_dict(), model.state_dict())
            model.load_state_dict(weights)
        return model

    def _table(self, spec: VideoAutoencoderSpec) -> Any:
        from vvae.arch.inflate import INFLATIONS

        head = self.name.partition(":")[0]
        if head not in INFLATIONS:
            raise SpecError(f"no image VAE becomes this model: {nearest(head, INFLATIONS)}; take start: random")
        return INFLATIONS[head]


def _called(make: Any, name: str, fields: dict[str, Any], *variant: str) -> VideoAutoencoderSpec:
    """What a spec function makes of fields; those that it does not have are told in one line."""
    try:
        made: VideoAutoencoderSpec = make(*variant, **fields)
    except TypeError as error:
        raise SpecError(f"{name}: {error}; see `vvae show {name}` for its fields", ("fields",)) from None
    return made


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
