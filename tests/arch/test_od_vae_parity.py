"""OD-VAE against what its published code returned."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import parity
from tests.parity import Case
from vvae import verify
from vvae.arch.od_vae import (
    ATTENTIONS,
    CONVOLUTIONS,
    ODVAEFields,
    block,
    decoder,
    encoder,
    fewer_frames,
    larger,
    more_frames,
    od_vae,
    smaller,
)
from vvae.arch.od_vae_names import ATTENTIONS as NAMED_ATTENTIONS
from vvae.arch.od_vae_names import (
    BLOCKS,
    JOINT,
    SPACE,
    TIME,
    attention_names,
    block_names,
    conv_names,
    flat_layers,
    half_names,
    published_fields,
    renames,
    space_names,
    time_names,
)
from vvae.autoencoder import VideoAutoencoder
from vvae.framing import Fit
from vvae.gaussian import DiagonalGaussian, PosteriorSpec
from vvae.layers import (
    AfterLeadSpec,
    CausalAverageSpec,
    CausalConv3d,
    CausalConv3dSpec,
    ChainSpec,
    ClipGroupNormSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    TemporalRepeatSpec,
    attention_block,
    residual_block,
)
from vvae.layers.conv import same_pad, triple
from vvae.published.legacy.od_vae import STARTS, ClipsOnly, FrameLinearAttentionSpec
from vvae.published.renames import to_published
from vvae.published.table import Rename
from vvae.signal import Signal
from vvae.spec import LayerSpec

Outputs = Mapping[str, Tensor]
Run = Callable[[Case, torch.dtype], Outputs]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@DTYPES
@pytest.mark.parametrize("case", parity.cases("od_vae"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"].rpartition(".")[2])
    assert run is not None, f"not understood: {case.data['published_class']}"
    assert not (unknown := case.data.keys() - UNDERSTOOD), f"not understood: {sorted(unknown)}"
    case.check(run(case, dtype), dtype, wider=ROUNDINGS**0.5 * rounding(case) if dtype == torch.float32 else 0.0)


ROUNDINGS = 1000
"""So many operations round one after the other. Their errors are as good as random: they add up to the root of it."""


def rounding(case: Case) -> float:
    """How far gradients move, in float64, when weights and input are rounded to float32 once, and nothing else is.

    At these widths and sizes few values share a norm, and gradients of v1.0 move by 300 times the rounding.
    """
    if case.call != "grad reconstruct":
        return 0.0
    exact = gradients(case, torch.float64)
    moved = gradients(case, torch.float64, rounded=torch.float32)
    return max(verify.difference(moved[name], exact[name]) for name in exact)


UNDERSTOOD = {
    *("arch", "case", "kind", "release", "published_class", "config", "call", "note", "file"),
    *("names", "names_of", "names_2d", "kept", "weights", "inputs", "input_scale", "outputs", "stride", "grad_of"),
}


def weights(case: Case) -> dict[str, Tensor]:
    """By published name; where the case says so, placed by the tail rule."""
    placed = case.weights()
    return placed | dict(tail(case, placed)) if case.data.get("weights") == "tail" else placed


def tail(case: Case, placed: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of an image VAE in the last tap in time; what it has no counterpart of stays as it is."""
    names = case.data["names_2d"]
    if isinstance(names, str):
        recorded = json.loads((parity.FOLDER / case.arch / "cases.json").read_text())
        names = next(of["names_2d"] for of in recorded if of["case"] == names.rpartition(" ")[2])
    for name, tensor in placed.items():
        flat = name if name in names else re.sub(r"\.conv(?=\.\w+$)", "", name)
        if flat in names:
            image = torch.from_numpy(case.values.weight(flat, tuple(names[flat])))
            if image.ndim < tensor.ndim:
                last = image.unsqueeze(2)
                image = torch.cat([torch.zeros_like(last)] * (tensor.shape[2] - 1) + [last], 2)
            yield name, image


def inputs(case: Case, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """What the name of each input adds to those of the outputs, and the input."""
    for name in case.data["inputs"]:
        yield name[1:], case.input(name, dtype)


# --------------------------------------------------------------------------- whole models


def fields(case: Case) -> dict[str, Any]:
    return published_fields(case.config, release=case.data["release"])


def model_of(case: Case, dtype: torch.dtype, rounded: torch.dtype = torch.float64) -> VideoAutoencoder:
    """Without limits of logvar, so that the posterior holds the moments as they are; weights may be rounded before."""
    model = od_vae(**fields(case)).replace(posterior=PosteriorSpec()).build()
    own = {name: value.to(rounded) for name, value in weights(case).items()}
    parity.load(model, renames(model.spec, flat_layers(case.config)), own, dtype)
    return model


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    halvings, doublings = (fields(case)[f"{side}_time"] for side in ("encoder", "decoder"))
    if halvings.count(None) != doublings.count(None):
        return encoded_alone(case, dtype)
    return MODEL_CALLS[case.call](case, dtype)


def moments(posterior: DiagonalGaussian) -> Tensor:
    return torch.cat([posterior.mean, posterior.logvar], 1)


@torch.no_grad()
def encoded(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    return {f"moments{of}": moments(model.encode(x, framing="published")) for of, x in inputs(case, dtype)}


@torch.no_grad()
def encoded_alone(case: Case, dtype: torch.dtype) -> Outputs:
    """Where the decoder has another frame rate, there is no model around the encoder."""
    assert case.call == "encode"
    given = ODVAEFields(**fields(case))
    whole = ChainSpec(layers={"encoder": encoder(given)})
    flat = flat_layers(case.config)
    table = [
        *half_names("encoder.down.{}", "encoder", encoder(given), range(len(given.multipliers)), flat),
        *conv_names("quant_conv.", "encoder.moments.", frames=True, flat="encoder.moments" in flat),
    ]
    own = {name: value for name, value in weights(case).items() if name.startswith(("encoder.", "quant_conv."))}
    module = parity.load(whole.build(Signal(3, lead=1, group=given.group)), table, own, dtype)
    return {f"moments{of}": module(x) for of, x in inputs(case, dtype)}


@torch.no_grad()
def decoded(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    return {f"reconstruction{of}": model.decode(z) for of, z in inputs(case, dtype)}


@torch.no_grad()
def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model, found = model_of(case, dtype), {}
    for of, x in inputs(case, dtype):
        posterior = model.encode(x, framing="published")
        found |= {f"moments{of}": moments(posterior), f"reconstruction{of}": model.decode(posterior)}
    return found


def gradients(case: Case, dtype: torch.dtype, rounded: torch.dtype = torch.float64) -> Outputs:
    model = model_of(case, dtype, rounded)
    ((_, given),) = inputs(case, dtype)
    x = given.to(rounded).to(dtype).requires_grad_()
    y = model.decode(model.encode(x, framing="published"))
    (y * torch.from_numpy(case.values.uniform("in.cotangent", tuple(y.shape))).to(y)).sum().backward()
    assert x.grad is not None
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    published = to_published(renames(model.spec, flat_layers(case.config)), grads)
    return {"grad_input": x.grad, **{f"grad_{name}": published[name] for name in case.data["grad_of"]}}


MODEL_CALLS: Mapping[str, Run] = {
    "encode": encoded,
    "decode": decoded,
    "encode, decode of the mode": round_trip,
    "grad reconstruct": gradients,
}


# --------------------------------------------------------------------------- encoder and decoder


def part(case: Case, dtype: torch.dtype) -> Outputs:
    """One half without the other and without the convolution around the latents."""
    side = case.data["published_class"].lower()
    levels = len(case.config["hidden_size_mult"])
    own = {f"{side}_{name}": value for name, value in case.config.items()}
    config = {**case.config, **bare(levels), **own, "use_quant_layer": False, "embed_dim": case.config["z_channels"]}
    given = ODVAEFields(**published_fields(config, release=case.data["release"]))
    half = {"encoder": encoder, "decoder": decoder}[side](given)
    if not case.config.get("double_z", True):
        half = half.replace_at("conv_out", channels=case.config["z_channels"])
    stack, numbers = {"encoder": ("down", range(levels)), "decoder": ("up", range(levels)[::-1])}[side]
    table = half_names(f"{side}.{stack}.{{}}", side, half, numbers, flat_layers(config))
    group = given.group if side == "encoder" else 1
    signal = Signal(3 if side == "encoder" else case.config["z_channels"], lead=1, group=group)
    module = ChainSpec(layers={side: half}).build(signal)
    parity.load(module, tuple(table), {f"{side}.{name}": v for name, v in weights(case).items()}, dtype)
    return through(module, case, dtype)


def bare(levels: int) -> dict[str, Any]:
    """Both halves with as many levels, at which nothing changes."""
    plain: dict[str, Any] = {f"{side}_resnet_blocks": ["ResnetBlock3D"] * levels for side in ("encoder", "decoder")}
    for name in ("encoder_spatial_down", "encoder_temporal_down", "decoder_spatial_up", "decoder_temporal_up"):
        plain[f"{name}sample"] = [""] * levels
    return plain


# --------------------------------------------------------------------------- single layers


@torch.no_grad()
def through(module: nn.Module, case: Case, dtype: torch.dtype) -> Outputs:
    return {f"output{of}": module(x) for of, x in inputs(case, dtype)}


def unit(case: Case, dtype: torch.dtype, spec: LayerSpec, *table: Rename) -> nn.Module:
    """A layer, whose tensors the table takes to stand below "own"."""
    config = case.config
    channels = next(config[key] for key in ("in_channels", "chan_in", "num_channels", "dim") if key in config)
    whole = ChainSpec(layers={"own": spec}).build(Signal(channels, lead=1, group=8))
    return parity.load(whole, table, weights(case), dtype)


def norm_of(kind: str) -> LayerSpec:
    return FrameGroupNormSpec() if kind == "2d" else ClipGroupNormSpec()


def width(case: Case) -> int:
    return case.config.get("out_channels", case.config.get("chan_out"))


def published_name(case: Case) -> str:
    return case.data["published_class"].rpartition(".")[2]


def causal_conv(case: Case, dtype: torch.dtype) -> Outputs:
    """With zeros that keep the size, of which other paddings and strides take a part."""
    config = case.config
    kernel, stride = triple(as_tuple(config["kernel_size"])), triple(as_tuple(config.get("stride", 1)))
    if "init_method" in config:
        conv = CausalConv3d(config["chan_in"], config["chan_out"], kernel)
        STARTS[config["init_method"]](conv)
        return {f"conv.{name}": value.to(dtype) for name, value in conv.state_dict().items()}
    spec = CausalConv3dSpec(channels=config["chan_out"], kernel=kernel, stride=stride[0])
    module = unit(case, dtype, spec, Rename("conv.", "own."))
    pads = triple(as_tuple(config.get("padding", 0)))
    cut = [max(0, same_pad(k) - pad) for k, pad in zip(kernel[1:], pads[1:], strict=True)]
    found = {}
    for name, y in through(module, case, dtype).items():
        rows, columns = (slice(c, side - c, s) for c, side, s in zip(cut, y.shape[3:], stride[1:], strict=True))
        found[name] = y[:, :, :, rows, columns]
    return found


def as_tuple(value: int | list[int]) -> Any:
    return tuple(value) if isinstance(value, list) else value


def frame_conv(case: Case, dtype: torch.dtype) -> Outputs:
    spec = FrameConv2dSpec(channels=case.config["out_channels"], kernel=case.config["kernel_size"])
    return through(ClipsOnly(unit(case, dtype, spec, Rename("*", "own.*"))), case, dtype)


def group_norm(case: Case, dtype: torch.dtype) -> Outputs:
    return through(unit(case, dtype, norm_of("3d"), Rename("norm.", "own.")), case, dtype)


def attention(case: Case, dtype: torch.dtype) -> Outputs:
    kind = NAMED_ATTENTIONS[published_name(case)]
    spec = attention_block(norm=norm_of(kind), attend=ATTENTIONS[kind])
    return through(unit(case, dtype, spec, *attention_names("", "own.", spec, flat=kind == "2d")), case, dtype)


def linear_attention(case: Case, dtype: torch.dtype) -> Outputs:
    config = {"heads": 1, "dim_head": case.config.get("in_channels"), **case.config}
    spec = FrameLinearAttentionSpec(heads=config["heads"], width=config["dim_head"])
    module = unit(case, dtype, spec, Rename("to_qkv.", "own.qkv."), Rename("to_out.", "own.out."))
    return {f"output{of}": module(image.unsqueeze(2)).squeeze(2) for of, image in inputs(case, dtype)}


def resnet_block(case: Case, dtype: torch.dtype) -> Outputs:
    kind = BLOCKS[published_name(case)]
    spec = block(kind, case.config["in_channels"], width(case), norm_of(kind))
    if case.config.get("conv_shortcut"):
        conv = CONVOLUTIONS[kind](channels=width(case))
        spec = residual_block(conv, norm=norm_of(kind), shortcut=conv)
    module = unit(case, dtype, spec, *block_names("", "own.", spec))
    return through(ClipsOnly(module) if kind == "2d" else module, case, dtype)


def space_resample(case: Case, dtype: torch.dtype) -> Outputs:
    name = published_name(case)
    kind, flat = SPACE[name], name in ("Downsample", "Upsample")
    assert kind is not None
    spec = (smaller if "Down" in name else larger)(kind, width(case), joint=name in JOINT)
    if case.config.get("undown") or case.config.get("unup"):
        spec = FrameConv2dSpec(channels=width(case))
        return through(unit(case, dtype, spec, *conv_names("conv.", "own.", frames=True, flat=flat)), case, dtype)
    if case.config.get("t_interpolation") == "nearest":
        spec = spec.replace_at("time", AfterLeadSpec(layers={"repeat": TemporalRepeatSpec()}))
    return through(unit(case, dtype, spec, *space_names("", "own.", spec, flat=flat)), case, dtype)


def time_resample(case: Case, dtype: torch.dtype) -> Outputs:
    name = published_name(case)
    kind, table = TIME[name], []
    if case.data["release"] == "v1.0.0" and kind == "attended":
        kind, table = "linear", [Rename("*", None)]  # its learned branch has no weight
    assert kind is not None
    spec = (fewer_frames if "Down" in name else more_frames)(kind, width(case), norm_of("3d"))
    if isinstance(spec, CausalAverageSpec):
        spec = spec.replace(kernel=case.config.get("kernel_size", 3))
    return through(unit(case, dtype, spec, *table, *time_names("", "own.", spec)), case, dtype)


def statistics(case: Case, dtype: torch.dtype) -> Outputs:
    """The published sums leave out the width; here each column of cells is a posterior of its own."""
    spec = PosteriorSpec(limits=(-30.0, 20.0))
    given = {name: case.input(name, dtype) for name in case.data["inputs"]}
    one = spec.posterior(given["moments"], Fit(1, 1, 1))
    columns = [
        {name: spec.posterior(value[..., w : w + 1], Fit(1, 1, 1)) for name, value in given.items() if name != "sample"}
        for w in range(given["moments"].shape[-1])
    ]
    samples = given["sample"].split(1, -1)
    return {
        "mean": one.mean,
        "logvar": one.logvar,
        "std": one.std,
        "var": one.std.square(),
        "mode": one.mode(),
        "kl": torch.stack([column["moments"].kl() for column in columns], 1),
        "kl_other": torch.stack([column["moments"].kl(column["other"]) for column in columns], 1),
        "nll": torch.stack([column["moments"].nll(z) for column, z in zip(columns, samples, strict=True)], 1),
    }


HANDLERS: Mapping[str, Run] = {
    "CausalVAEModel": run_model,
    "Encoder": part,
    "Decoder": part,
    "CausalConv3d": causal_conv,
    "Conv2d": frame_conv,
    "GroupNorm": group_norm,
    **dict.fromkeys(NAMED_ATTENTIONS, attention),
    **dict.fromkeys(("LinearAttention", "LinAttnBlock"), linear_attention),
    **dict.fromkeys(BLOCKS, resnet_block),
    **dict.fromkeys(filter(None, SPACE), space_resample),
    **dict.fromkeys(filter(None, TIME), time_resample),
    "DiagonalGaussianDistribution": statistics,
}
