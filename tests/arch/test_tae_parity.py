"""TAE against what its published code returned, and its release's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import parity
from tests.parity import Case
from tests.tiling.by_hand import joined
from vvae.arch.image_vae import image_vae
from vvae.arch.image_vae import published_fields as image_published_fields
from vvae.arch.image_vae import renames as image_renames
from vvae.arch.inflate import TAE
from vvae.arch.tae import (
    attend_names,
    block_names,
    conv_names,
    norm_names,
    published_fields,
    renames,
    tae,
    time_names,
)
from vvae.autoencoder import VideoAutoencoder
from vvae.framing import Fit
from vvae.layers import (
    ChainSpec,
    ClipGroupNormSpec,
    SpatialDownsampleSpec,
    SpatialRepeatSpec,
    SpatialUpsampleSpec,
    TemporalAttentionSpec,
    TemporalConvSpec,
    TemporalConvUpsampleSpec,
    attention_block,
    conv25d,
    residual_block,
)
from vvae.published.inflate import inflate
from vvae.published.inflation import Inflation
from vvae.published.mindspore import read_ckpt
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.tiling import TimeTiles

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@DTYPES
@pytest.mark.parametrize("case", parity.cases("tae"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"])
    assert run is not None, f"not understood: {case.data['published_class']}"
    case.check(run(case, dtype), dtype)


# --------------------------------------------------------------------------- whole models


def model_of(case: Case, dtype: torch.dtype) -> VideoAutoencoder:
    model = tae(**published_fields(case.config)).build()
    if case.data.get("kept"):
        return inflated_model(model, image_weights(case), dtype)
    weights = case.weights() if "checkpoint" not in case.data else stored(case)
    parity.load(model, renames(model.spec), weights, dtype)
    return model


def stored(case: Case) -> dict[str, Tensor]:
    """The tensors of the case's file, in double precision; they are those of the case, as precise as stored."""
    tensors = read_ckpt(parity.stored_file("tae", case.data["checkpoint"]))
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == case.names
    for name, made in case.weights().items():
        assert torch.equal(tensors[name], made.float().to(tensors[name].dtype))
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32", "torch.float16"}
    return {name: tensor.double() for name, tensor in tensors.items()}


@torch.no_grad()
def inflated_model(model: VideoAutoencoder, image: Mapping[str, Tensor], dtype: torch.dtype) -> VideoAutoencoder:
    model = model.to(torch.float64)
    model.load_state_dict(inflate(TAE, image, model.state_dict()))
    return model.to(dtype)


def image_weights(case: Case) -> dict[str, Tensor]:
    """The image VAE's weights under our names."""
    spec = image_vae(**image_fields(case))
    shapes = {name: tuple(value.shape) for name, value in spec.build().state_dict().items()}
    return to_own(image_renames(spec, "mindspore"), case.weights(by_rule=True), shapes)[0]


def image_fields(case: Case) -> dict[str, Any]:
    """Those of CompVis' configuration, which has the same words ("attn_type" aside), and of what stands beside it."""
    words = {key: value for key, value in case.config.items() if key != "attn_type"}
    fields = image_published_fields({"ddconfig": words, "embed_dim": words["z_channels"]})
    return {**fields, "moments_conv": words["use_quant_conv"], "latent_conv": words["use_post_quant_conv"]}


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    for start, run in MODEL_CALLS.items():
        if case.call.startswith(start):
            return run(case, dtype)
    raise AssertionError(f"not understood: {case.call}")


@torch.no_grad()
def encoded(case: Case, dtype: torch.dtype) -> Outputs:
    """Mean and logvar; without `double_z` the decoder cannot read the latents, so the encoder runs alone."""
    if case.config["double_z"]:
        posterior = model_of(case, dtype).encode(case.input("video", dtype), framing="published")
        return {"mean": posterior.mean, "logvar": posterior.logvar}
    spec = tae(**published_fields(case.config))
    weights = case.weights(lambda name: name.startswith("encoder."))
    moments = alone("encoder", spec.encoder, spec.pixels, renames(spec), weights, dtype)(case.input("video", dtype))
    posterior = spec.posterior.posterior(moments, Fit(1, 1, 1))
    return {"mean": posterior.mean, "logvar": posterior.logvar}


def alone(
    part: str, layer: LayerSpec, read: Signal, table: Iterable[Rename], weights: Outputs, dtype: torch.dtype
) -> nn.Module:
    """One part of a model with weights by the names that the whole has."""
    return parity.load(inside(part, layer).build(read), tuple(table), weights, dtype)


@torch.no_grad()
def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    posterior = model.encode(case.input("video", dtype), framing="published")
    return {"mean": posterior.mean, "logvar": posterior.logvar, "decoded": model.decode(posterior.mean)}


@torch.no_grad()
def from_file(case: Case, dtype: torch.dtype) -> Outputs:
    return {**encoded(case, dtype), "output": model_of(case, dtype).decode(case.input("latent", dtype))}


@torch.no_grad()
def decoded(case: Case, dtype: torch.dtype) -> Outputs:
    z = case.input("latent", dtype)
    frames = case.data["outputs"]["output"][2]
    if case.config.get("give_pre_end"):
        return {"output": before_end(case, dtype)(z)}
    return {"output": model_of(case, dtype).decode(z, frames=frames)}


def before_end(case: Case, dtype: torch.dtype) -> nn.Module:
    """The decoder without its last norm, activation and convolution."""
    spec = tae(**published_fields(case.config))
    kept = {name: layer for name, layer in spec.decoder.children().items() if not name.endswith("_out")}
    end = ("decoder.norm_out.", "decoder.conv_out.")
    weights = case.weights(lambda name: name.startswith("decoder.") and not name.startswith(end))
    return alone("decoder", ChainSpec(layers=kept), spec.latents, renames(spec), weights, dtype)


@torch.no_grad()
def constructed(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), case.input("video", dtype)
    posterior = model.encode(x, framing="published")
    z = posterior.sample(noise=case.input("noise", dtype))
    reconstruction = model.decode(z, frames=x.shape[2])
    return {"reconstruction": reconstruction, "z": z, "mean": posterior.mean, "logvar": posterior.logvar}


def gradients(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    x = case.input("video", dtype).requires_grad_()
    video = model.decode(model.encode(x, framing="published").mean)
    cotangent = torch.from_numpy(case.values.uniform("in.cotangent", tuple(video.shape))).to(dtype)
    (video * cotangent).sum().backward()
    assert x.grad is not None
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    published = to_published(renames(model.spec), grads)
    wanted = [name.removeprefix("grad.") for name in case.data["outputs"] if name.startswith("grad.")]
    return {"grad_input": x.grad, **{f"grad.{name}": published[name] for name in wanted}}


@torch.no_grad()
def image_model(case: Case, dtype: torch.dtype) -> Outputs:
    """The image VAE that TAE starts from."""
    model = image_vae(**image_fields(case)).build().to(torch.float64)
    model.load_state_dict(image_weights(case))
    posterior = model.to(dtype).encode(case.input("image", dtype).unsqueeze(2), framing="published")
    found = {"mean": posterior.mean, "logvar": posterior.logvar, "decoded": model.decode(posterior.mean)}
    return {name: value.squeeze(2) for name, value in found.items()}


MODEL_CALLS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "encode to the posterior": round_trip,
    "construct(x)": constructed,
    "decode(z": decoded,
    "_encode(x)": encoded,
    "gradients of sum(decode(mean of encode(video)) * uniform('in.cotangent'": gradients,
    "load mindspore_format.ckpt": from_file,
}


# --------------------------------------------------------------------------- single layers


def inside(name: str, spec: LayerSpec) -> ChainSpec:
    """A layer under a name, for tables that say where it stands."""
    return ChainSpec(layers={name: spec})


def unit(case: Case, dtype: torch.dtype, spec: LayerSpec, channels: int, table: Iterable[Rename] = ()) -> Outputs:
    module = alone("own", spec, Signal(channels, group=2), table, case.weights(), dtype)
    with torch.no_grad():
        return {"output": module(case.input("x", dtype))}


def convolution(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    kernel = c["kernel_size"]
    table = conv_names("", "own.", kernel)
    return unit(case, dtype, conv25d(c["out_channels"], kernel), c["in_channels"], table)


NORM = ClipGroupNormSpec(groups=32)


def resnet_block(case: Case, dtype: torch.dtype) -> Outputs:
    width_in, width = case.config["in_channels"], case.config["out_channels"]
    shortcut = None if width_in == width else conv25d(width, kernel=1)
    spec = residual_block(conv25d(width), norm=NORM, shortcut=shortcut)
    return unit(case, dtype, spec, width_in, block_names("", "own."))


def attention(case: Case, dtype: torch.dtype) -> Outputs:
    """Of convolutions of a frame ("V2": of linear maps), or over time."""
    over_time = case.data["published_class"].startswith("Temporal")
    spec = attention_block(norm=NORM, attend=TemporalAttentionSpec() if over_time else None)
    read = ("to_q", "to_k", "to_v") if over_time else ("q", "k", "v")
    linear = over_time or case.data["published_class"].endswith("V2")
    table = attend_names("", "own.", read, (0, 0) if linear else (0, 0, 1, 1))
    return unit(case, dtype, spec, case.config["in_channels"], table)


def spatial(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    make = SpatialDownsampleSpec if case.data["published_class"] == "SpatialDownsample" else SpatialUpsampleSpec
    spec = make(channels=c["in_channels"]) if c["with_conv"] else SpatialRepeatSpec()
    return unit(case, dtype, spec, c["in_channels"], [Rename("conv.", "own.")])


def temporal(case: Case, dtype: torch.dtype) -> Outputs:
    channels = case.config["in_channels"]
    spec: LayerSpec = TemporalConvUpsampleSpec(channels=channels)
    if case.data["published_class"].startswith("TemporalDownsample"):
        older = "(revisions before 2024-11-30)" in case.data["published_class"]
        spec = TemporalConvSpec(channels=channels, stride=2, ahead=2 if older else None)
    return unit(case, dtype, spec, channels, time_names("conv.", "own."))


def norm(case: Case, dtype: torch.dtype) -> Outputs:
    spec = ClipGroupNormSpec(groups=case.config["num_groups"])
    return unit(case, dtype, spec, case.config["in_channels"], norm_names("", "own."))


def sample(case: Case, dtype: torch.dtype) -> Outputs:
    told = re.search(r"(\d+) \* logvar", case.data["call"])
    assert told is not None
    moments = torch.cat([case.input("mean", dtype), int(told[1]) * case.input("logvar", dtype)], 1)
    posterior = tae().posterior.posterior(moments, Fit(1, 1, 1))
    assert torch.equal(posterior.logvar, moments.chunk(2, 1)[1])
    return {"output": posterior.sample(noise=case.input("noise", dtype))}


def initial_values(case: Case, dtype: torch.dtype) -> Outputs:
    channels = case.config["channels"]
    layers = {
        "conv25_k3": conv25d(channels),
        "conv25_k1": conv25d(channels, kernel=1),
        "down_time": TemporalConvSpec(channels=channels, stride=2),
        "up_time": TemporalConvUpsampleSpec(channels=channels),
    }
    fresh = {
        f"own.{name}.{key}": value
        for name, layer in layers.items()
        for key, value in layer.build(Signal(channels, group=2)).to(dtype).state_dict().items()
        if "space" not in key
    }
    made = inflate(TAE, {}, fresh)
    mean = inflate([Inflation("*", None, "mean")], {}, {"down": fresh["own.down_time.weight"]})["down"]
    weights = {
        "conv25_k3": made["own.conv25_k3.time.weight"],
        "conv25_k1": made["own.conv25_k1.time.weight"],
        "down": made["own.down_time.weight"],
        "up": made["own.up_time.weight"],
        "down_mean": mean,
    }
    out = {name: value.reshape(case.data["outputs"][name]) for name, value in weights.items()}
    return {**out, "bias": torch.stack([made["own.conv25_k3.time.bias"], made["own.down_time.bias"]])}


def blended(case: Case, dtype: torch.dtype) -> Outputs:
    """Tiles of a clip joined by their mean."""
    size, shared = case.config["slice_len"], case.config["overlap_len"]
    rule = TimeTiles(window=size, overlap=shared, shared=shared, join="mean")
    return {"output": joined(case.input("slices", dtype).split(size, 2), rule)}


def stored_types(case: Case, dtype: torch.dtype) -> Outputs:
    tensors = read_ckpt(parity.stored_file("tae", case.data["checkpoint"]))
    for name, kind in case.data["types"].items():
        assert str(tensors[name].dtype) == f"torch.{kind.lower()}"
    return {name: tensor.double() for name, tensor in tensors.items()}


HANDLERS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "TemporalAutoencoder": run_model,
    "SD3d5_VAE": image_model,
    "Conv2_5d": convolution,
    "ResnetBlock": resnet_block,
    "SpatialAttnBlock": attention,
    "SpatialAttnBlockV2": attention,
    "TemporalAttnBlock": attention,
    "SpatialDownsample": spatial,
    "SpatialUpsample": spatial,
    "TemporalDownsample": temporal,
    "TemporalDownsample (revisions before 2024-11-30)": temporal,
    "TemporalUpsample": temporal,
    "Normalize": norm,
    "TemporalAutoencoder.sample": sample,
    "Conv2_5d, TemporalDownsample, TemporalUpsample": initial_values,
    "TemporalAutoencoder.blend_slices": blended,
    "checkpoint file": stored_types,
}
