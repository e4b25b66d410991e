"""What laws are pointed at: layers and models, ours with the spec that says what holds, others with claims."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vvae.autoencoder import VideoAutoencoder
from vvae.context import WholeClip
from vvae.errors import SpecError
from vvae.layers.layer import split_axis
from vvae.reach import Reach, group_numbers, groups_around
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.clips import random_clip
from vvae.verify.measure import Run, TargetError, tensor_of

FAR = 33
"""Groups among which a length that passes is looked for."""


@dataclass(frozen=True)
class Part:
    """Something that maps clips to clips: a layer, an encoder, a decoder.

    `call(module, clip)` runs it, `given` and `out` are the clips before and behind it, `size` height and width of a
    small one. `reach(frames)` is what is claimed of its dependency in time (None: nothing); `exact` says that all of it
    must show. `spec` is there for layers of this library. `tolerance` is for clips of different shapes, for which
    kernels choose by their size: None is that of the laws; a model of others may compute some step in float32.
    `before` is the part of the same model whose layers need no second look where a law takes one of each kind.
    """

    name: str
    module: nn.Module
    call: Callable[[nn.Module, Tensor], Any]
    given: Signal
    out: Signal
    size: tuple[int, int]
    reach: Callable[[int], Reach] | None = None
    exact: bool = False
    spec: LayerSpec | None = None
    tolerance: float | None = None
    before: Part | None = None

    def fresh(self) -> Part:
        """With a module of its own where calls may leave something on it."""
        return self if self.spec is not None else replace(self, module=copy.deepcopy(self.module))

    def takes(self, groups: int) -> bool:
        """Whether a clip of so many groups passes."""
        try:
            return self.spec is None or self.spec.frames(self.given, self.given.frames(groups)) > 0
        except SpecError:
            return False

    def lengths(self, most: int, least: int = 1) -> list[int]:
        """Numbers of groups that pass, from `least` to `most`; the first one in any case."""
        found = [groups for groups in range(least, most + 1) if self.takes(groups)]
        return found or [next(groups for groups in range(least, FAR) if self.takes(groups))]

    def run(self, x: Tensor) -> Tensor:
        return tensor_of(self.call(self.module, x))

    def on(self, dtype: torch.dtype) -> Run:
        """The same with parameters in another number format."""
        # a model of diffusers warns of its own `to`
        module = nn.Module.to(copy.deepcopy(self.module), dtype)
        return lambda x: tensor_of(self.call(module, x))

    def clip(self, groups: int, seed: int = 0, scale: int = 1) -> Tensor:
        """A random clip of so many groups, float64."""
        height, width = (side * scale for side in self.size)
        return random_clip(self.given, self.given.frames(groups), height, width, seed=seed)

    @cached_property
    def ahead(self) -> int | None:
        """Groups after its own that an output may see, by the claimed reach; None: nothing is claimed."""
        if self.reach is None:
            return None
        groups = self.lengths(3)[-1]
        return groups_around(self.reach(self.given.frames(groups)), self.out, self.given)[1]


@dataclass(frozen=True)
class Model:
    """Something that encodes clips and decodes latents; `size` is height and width of a small clip, `frames` its own.

    `own` is a model of this library; `released` one that is exported under published names (None: there are none), and
    `names` what these are known to be, where they are: way of naming -> own name -> published name.
    """

    module: nn.Module
    encode: Callable[[nn.Module, Tensor], Any]
    decode: Callable[[nn.Module, Any], Any]
    pixels: Signal
    size: tuple[int, int]
    frames: int
    own: VideoAutoencoder | None = None
    released: VideoAutoencoder | None = None
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def fresh(self) -> Model:
        """With a module of its own where calls may leave something on it."""
        return self if self.own is not None else replace(self, module=copy.deepcopy(self.module))

    def clip(self, frames: int, height: int | None = None, width: int | None = None, seed: int = 0) -> Tensor:
        return random_clip(self.pixels, frames, height or self.size[0], width or self.size[1], seed=seed)

    def both(self, module: nn.Module, x: Tensor) -> Tensor:
        """The clip as it comes back from the mode of its posterior."""
        return tensor_of(self.decode(module, self.encode(module, x)))


@dataclass(frozen=True)
class Subject:
    """A name, the parts that laws of layers are pointed at, and the model for laws of models where it is one."""

    name: str
    parts: tuple[Part, ...]
    model: Model | None = None


@dataclass(frozen=True)
class Claims:
    """What is said of something without a spec.

    `shape`: `b c t h w` of a clip that it takes (`b c h w`: an image; frames are then taken one by one). The clip is
    `lead` frames that stand alone, then groups of `group` frames. `causal`: outputs see no later group than their own,
    or `look_ahead` groups after it; "encoder" or "decoder": those of this part.
    """

    shape: tuple[int, ...]
    lead: int = 0
    group: int = 1
    causal: bool | Literal["encoder", "decoder"] = False
    look_ahead: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) not in (4, 5) or min(self.shape) < 1:
            raise TargetError(f"an input of shape {self.shape} is no clip; give b,c,t,h,w (or b,c,h,w for images)")
        if self.group < 1 or self.lead not in (0, 1) or self.look_ahead < 0:
            told = f"lead {self.lead}, group {self.group}, lookahead {self.look_ahead}"
            raise TargetError(f"{told} cannot be; a lead is 0 or 1, a group 1 or more, a lookahead 0 or more")
        if not self.image and (self.frames - self.lead) % self.group:
            raise TargetError(
                f"{self.frames} frames are not lead {self.lead} and whole groups of {self.group}; give "
                f"{self.lead + max(1, (self.frames - self.lead) // self.group) * self.group} frames"
            )

    @property
    def image(self) -> bool:
        return len(self.shape) == 4

    @property
    def frames(self) -> int:
        return 3 if self.image else self.shape[2]

    @property
    def signal(self) -> Signal:
        return Signal(self.shape[1], self.lead, self.group)

    def reach(self, part: str, given: Signal, out: Signal) -> Callable[[int], Reach] | None:
        """What is claimed of a part's dependency in time; None: nothing."""
        if self.causal not in (True, part):
            return None

        def claimed(frames: int) -> Reach:
            groups = (frames - given.lead) // given.group
            own = group_numbers(out.frames(groups), out.lead, out.group)
            seen = group_numbers(frames, given.lead, given.group)
            return np.asarray(seen[None, :] <= own[:, None] + self.look_ahead)

        return claimed


def layer_subject(spec: LayerSpec, signal: Signal, module: nn.Module | None = None) -> Subject:
    """A layer of this library behind a signal; `module` is built from the spec unless given."""
    return Subject(spec.kind, (_own_part("layer", spec, signal, module or spec.build(signal)),))


def _own_part(name: str, spec: LayerSpec, signal: Signal, module: nn.Module) -> Part:
    side = 2 * (spec.cell(signal) / signal.stride).numerator  # of a single cell a norm leaves nothing
    return Part(
        name=name,
        module=module.double().eval(),
        call=lambda part, x: part(x),
        given=signal,
        out=spec.trace(signal),
        size=(side, side),
        reach=lambda frames: spec.reach(signal, frames),
        exact=True,
        spec=spec,
    )


def model_subject(model: VideoAutoencoder, released: VideoAutoencoder | None = None) -> Subject:
    """A model of this library: encoder, decoder, and both. Its parameters become float64. `released`: see `Model`."""
    spec = model.double().eval().spec
    encoder = _own_part("encoder", spec.encoder, spec.pixels, model.encoder)
    decoder = replace(_own_part("decoder", spec.decoder, spec.latents, model.decoder), before=encoder)
    if model.content is not None:
        decoder = replace(decoder, module=_WithContent(model))
    pair = Model(
        module=model,
        encode=lambda module, x: module.encode(x),  # type: ignore[operator]
        decode=lambda module, posterior: module.decode(posterior),  # type: ignore[operator]
        pixels=spec.pixels,
        size=(2 * spec.cell, 2 * spec.cell),
        frames=spec.filled_frames(spec.pixels.frames(2)),
        own=model,
        released=released,
    )
    return Subject(spec.name, (encoder, decoder), pair)


class _WithContent(nn.Module):
    """A decoder with the features of an image that depends on the size of the latents alone."""

    def __init__(self, model: VideoAutoencoder) -> None:
        super().__init__()
        self.spec, self.content, self.decoder = model.spec, model.content, model.decoder

    def forward(self, z: Tensor) -> Tensor:
        side = int(self.spec.latents.stride)
        image = random_clip(self.spec.pixels, 1, z.shape[3] * side, z.shape[4] * side, batch=1, seed=5).to(z)
        assert self.content is not None
        features = self.content(image.expand(len(z), -1, -1, -1, -1))
        found: Tensor = self.decoder(z, WholeClip(content=features))
        return found


def claimed_subject(target: Any, claims: Claims, name: str = "") -> Subject:
    """Anything that maps clips to clips, or has `encode` and `decode`, with what is claimed of it.

    Raises:
        TargetError: it cannot be called with a clip of the claimed shape, or gives back what is no clip.
    """
    name = name or type(target).__name__
    if not (hasattr(target, "encode") and hasattr(target, "decode")):
        module = target if isinstance(target, nn.Module) else _Function(target)
        return Subject(name, (_claimed_part("layer", module.double().eval(), _plain, claims, claims.signal),))
    if not isinstance(target, nn.Module):
        raise TargetError(f"{name} has encode and decode and is no torch module; give an nn.Module")
    model = target.double().eval()
    fold = _folded if claims.image else _as_it_is
    pair = Model(
        module=model,
        encode=lambda module, x: fold(module.encode, x),  # type: ignore[arg-type]
        decode=lambda module, z: fold(module.decode, tensor_of(z)),  # type: ignore[arg-type]
        pixels=claims.signal,
        size=(claims.shape[-2], claims.shape[-1]),
        frames=claims.frames,
    )
    encoder = _claimed_part("encoder", model, pair.encode, claims, claims.signal)
    x = random_clip(claims.signal, claims.frames, *pair.size)
    latents = encoder.run(x)
    read = Signal(latents.shape[1], encoder.out.lead, encoder.out.group)
    size = (latents.shape[3], latents.shape[4])
    decoder = _claimed_part("decoder", model, pair.decode, claims, read, size)
    return Subject(name, (encoder, decoder), pair)


def _plain(module: nn.Module, x: Tensor) -> Any:
    return module(x)


def _as_it_is(call: Callable[[Tensor], Any], x: Tensor) -> Any:
    return call(x)


def _folded(call: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """What takes images `b c h w`, frame by frame."""
    batch = len(x)
    given = tensor_of(call(x.transpose(1, 2).flatten(0, 1)))
    return split_axis(given, 0, batch, -1).transpose(1, 2)


class _Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _claimed_part(
    name: str,
    module: nn.Module,
    call: Callable[[nn.Module, Tensor], Any],
    claims: Claims,
    given: Signal,
    size: tuple[int, int] | None = None,
) -> Part:
    size = size or (claims.shape[-2], claims.shape[-1])
    groups = (claims.frames - claims.lead) // claims.group
    x = random_clip(given, given.frames(groups), *size)
    try:
        with torch.no_grad():
            y = tensor_of(call(module, x))
    except TargetError:
        raise
    except Exception as error:
        told = f"{name} fails for a clip of shape {tuple(x.shape)}: {type(error).__name__}: {error}".splitlines()[0]
        raise TargetError(f"{told:.300}; give an input that it takes") from error
    out = _claimed_out(name, x, y, given, groups)
    return Part(name, module, call, given, out, size, claims.reach(name, given, out), tolerance=1e-5)


def _claimed_out(name: str, x: Tensor, y: Tensor, given: Signal, groups: int) -> Signal:
    """Lead and groups of what came out: as many groups as went in."""
    if y.ndim != 5 or len(y) != len(x):
        raise TargetError(f"{name} gives {tuple(y.shape)} for {tuple(x.shape)}; it must give a clip `b c t h w`")
    frames = y.shape[2] - given.lead
    if groups and (frames < groups or frames % groups):
        raise TargetError(
            f"{name} gives {y.shape[2]} frames for {x.shape[2]}, which are no lead {given.lead} and {groups} groups; "
            "say another lead or group"
        )
    return Signal(y.shape[1], given.lead, frames // groups if groups else 1, Fraction(x.shape[3], y.shape[3]))
