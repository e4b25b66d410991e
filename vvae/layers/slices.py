"""Layers in a row, some frames of a clip at a time, so that what is between two of them is never all there.

A norm, its activation and the convolution behind it would hold three clips, and a wider copy for what stands around the
clip; in slices they hold their input, their output and a slice of the others. Where an input belongs to nobody else,
the output of the same shape takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from vvae.context import Context, Kept
from vvae.layers.activation import Activation
from vvae.layers.layer import Layer, channels_first, channels_last
from vvae.layers.norm import Norm

AT_ONCE = 2**15
"""Pixels of a slice, those of the whole batch: enough to keep a convolution busy."""


class SliceStep(Context):
    """One slice after the other on its way through layers: what they keep between slices stands here."""

    def __init__(self, around: Context) -> None:
        given = {"names": around.names, "content": around.content, "noise": around.noise, "frames": around.frames}
        super().__init__(**given, last=False)  # type: ignore[arg-type]
        self.around = around
        self.kept: dict[nn.Module, Kept] = {}

    def recall(self, layer: nn.Module) -> Kept | None:
        return self.kept[layer] if layer in self.kept else self.around.recall(layer)

    def keep(self, layer: nn.Module, *tensors: Tensor) -> None:
        self.kept[layer] = tensors

    def close(self) -> None:
        """What layers kept of the last slice is what they keep of all."""
        for layer, tensors in self.kept.items():
            self.around.keep(layer, *tensors)


def in_a_row(layers: Sequence[nn.Module], x: Tensor, ctx: Context) -> tuple[Tensor, bool]:
    """What the layers give, one after the other, and whether that may be written over: nobody else has it.

    Where no gradients are kept a long clip goes through them in slices, and norms together with the activation behind
    them. Where somebody watches what passes, by a hook of any kind, each layer is called by itself.
    """
    own = False
    while layers:
        stretch = [] if torch.is_grad_enabled() else _sliceable(layers)
        frames = _at_once(stretch, x)
        if stretch and x.shape[2] > frames + _leads(stretch, ctx):
            x, own, count = _in_slices(stretch, x, ctx, frames, own), True, len(stretch)
        else:
            x, count = _one(layers, x, ctx)
            own = not torch.is_grad_enabled() and _gives_anew(layers[count - 1])
        layers = layers[count:]
    return x, own


def _one(layers: Sequence[nn.Module], x: Tensor, ctx: Context) -> tuple[Tensor, int]:
    """What the first layer gives, together with an activation behind a norm; and how many these are."""
    layer, behind = layers[0], layers[1] if len(layers) > 1 else None
    if isinstance(layer, Norm) and isinstance(behind, Activation) and not watched(layer, behind):
        return layer.forward_then(x, ctx, behind), 2
    return layer(x, ctx), 1


def _gives_anew(layer: nn.Module) -> bool:
    """Whether what comes of it is in memory that nobody else has."""
    return isinstance(layer, nn.Conv2d | nn.Conv3d) and not watched(layer)


def _sliceable(layers: Sequence[nn.Module]) -> list[Layer]:
    """Those of the layers, from the first one on, that take a clip in slices; none where that spares nothing.

    The first may be a norm over the whole clip: it is measured before.
    """
    found: list[Layer] = []
    unit = 1
    for layer in layers:
        if not isinstance(layer, Layer) or watched(layer) or layer in found:
            break
        measured = isinstance(layer, Norm) and layer.whole_clip and not found
        if not (measured or (layer.unit and (1 in (unit, layer.unit) or layer.unit == unit))):
            break
        found.append(layer)
        unit = max(unit, layer.unit)
        if not layer.even:
            break
    convolutions = [layer for layer in found if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    return found if convolutions and (len(found) > 1 or isinstance(found[0], nn.Conv3d)) else []


def watched(*modules: nn.Module) -> bool:
    """Whether somebody sees or changes what goes in and out of one of them: a hook, a compiler, its own `forward`."""
    if torch.compiler.is_compiling() or torch_modules._has_any_global_hook():
        return True
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(module) or any(getattr(module, hook) for hook in hooks) for module in modules)


def _at_once(layers: Sequence[Layer], x: Tensor) -> int:
    """Frames of a slice: whole units, by the largest frame on the way."""
    batch, channels, _, height, width = x.shape
    most, unit = height * width, 1
    for layer in layers:
        channels, height, width = layer.shape(channels, height, width)
        most, unit = max(most, height * width), max(unit, layer.unit)
    return max(AT_ONCE // (max(batch, 1) * max(most, 1)) // unit, 1) * unit


def _leads(layers: Sequence[Layer], ctx: Context) -> int:
    return max(layer.leads(ctx) for layer in layers)


def _in_slices(layers: Sequence[Layer], x: Tensor, ctx: Context, frames: int, own: bool) -> Tensor:
    """The same slice by slice, written over x where it is our `own` and of the same shape."""
    step, head, length, done = SliceStep(ctx), layers[0], x.shape[2], 0
    unit = max(layer.unit for layer in layers)
    count, found = layers[-1].given(length, ctx), []
    if isinstance(head, Norm) and head.whole_clip:
        head.check(ctx)
        found = head.measured(x.contiguous(memory_format=torch.channels_last_3d))
    starts = [0, *range(_leads(layers, ctx) + frames, length - unit + 1, frames)]
    out: Tensor | None = None
    for start, end in zip(starts, [*starts[1:], length], strict=True):
        step.last = ctx.last and end == length
        if found:
            step.keep(head, *(values[:, :, start:end] for values in found))
        y = channels_last(_through(layers, x[:, :, start:end], step))
        if out is None:
            whole = (y.shape[0], count, *y.shape[2:])
            fits = own and x.dtype == y.dtype and channels_last(x).shape == whole
            out = channels_last(x) if fits else y.new_empty(whole)
        out[:, done : done + y.shape[1]] = y
        done += y.shape[1]
    assert out is not None
    assert done == count, f"{done} frames came of {length}, not {count}"
    step.close()
    return channels_first(out)


def _through(layers: Sequence[nn.Module], x: Tensor, ctx: Context) -> Tensor:
    while layers:
        x, count = _one(layers, x, ctx)
        layers = layers[count:]
    return x
