"""Reducio-VAE against what its published code returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import parity
from tests.parity import Case
from vvae.arch import reducio
from vvae.arch.reducio import (
    ReducioVAEFields,
    attend,
    block,
    clip_parts,
    content_attention,
    fusion,
    grow,
    image_parts,
    shrink,
)
from vvae.arch.reducio_names import (
    attention_names,
    block_names,
    content_attention_names,
    down_names,
    look_names,
    mix_names,
    published_fields,
    renames,
    sum_names,
    up_names,
)
from vvae.autoencoder import VideoAutoencoder
from vvae.content import ContentEncoder
from vvae.context import WholeClip
from vvae.framing import Fit
from vvae.gaussian import PosteriorSpec
from vvae.layers import (
    ChainSpec,
    ContentAttentionSpec,
    DepthToSpaceSpec,
    FrameConv2dSpec,
    SiLUSpec,
    SpatialAverageSpec,
    SpatialDownsampleSpec,
    WindowedContentAttentionSpec,
    chain,
)
from vvae.layers.blocks import attention_block, residual_block
from vvae.layers.content import sinusoids
from vvae.published.legacy.reducio import WindowedFrameAttentionSpec
from vvae.published.metrics import psnr, ssim
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename
from vvae.scaling import ClipNorm
from vvae.signal import Signal
from vvae.spec import LayerSpec

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
FIELDS = ReducioVAEFields()


@DTYPES
@pytest.mark.parametrize("case", parity.cases("reducio"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"])
    assert run is not None, f"not understood: {case.data['published_class']}"
    with torch.set_grad_enabled(case.call.startswith("gradients")):
        case.check(run(case, dtype), dtype)


# --------------------------------------------------------------------------- whole models


def model_of(case: Case, dtype: torch.dtype) -> VideoAutoencoder:
    model = reducio(**published_fields(case.config)).build()
    parity.load(model, renames(model.spec), case.weights(), dtype)
    return model


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    for start, run in MODEL_CALLS.items():
        if case.call.startswith(start):
            return run(case, dtype)
    raise AssertionError(f"not understood: {case.call}")


def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model, video = model_of(case, dtype), case.input("video", dtype)
    posterior = model.encode(video, framing="published")
    return {
        "reconstruction_given": decoded(case, dtype, model, case.input("content", dtype)),
        "moments": model.encoder(video),
        "mode": model.scaling.normalize(posterior.mode()),
        "reconstruction": model.decode(posterior),
    }


def decoded(case: Case, dtype: torch.dtype, model: VideoAutoencoder, content: Tensor | None) -> Tensor:
    return model.decode(case.input("latents", dtype), content=content)


def features(case: Case, dtype: torch.dtype) -> Outputs:
    """All of them: the model itself computes those that it reads."""
    model = model_of(case, dtype)
    whole = model.spec.content.build(model.spec.pixels, model.spec.content.stages)
    whole.to(dtype).load_state_dict(model.content.state_dict())
    return listed(whole, case.input("content", dtype))


def listed(encoder: ContentEncoder, image: Tensor) -> Outputs:
    return {f"feature_{i}": feature.squeeze(2) for i, feature in enumerate(encoder(image).values())}


def forward(case: Case, dtype: torch.dtype) -> Outputs:
    model, video = model_of(case, dtype), case.input("video", dtype)
    posterior = model.encode(video, framing="published")
    motion = model.scaling.normalize(posterior.sample(noise=case.input("noise", dtype)))
    reconstruction = model.decode(motion, content=posterior.content)
    return {"reconstruction": reconstruction, "moments": model.encoder(video), "motion": motion}


def gradients(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), case.input("video", dtype).requires_grad_()
    (model(x, framing="published") * case.input("cotangent", dtype)).sum().backward()
    assert x.grad is not None
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    published = to_published(renames(model.spec), grads)
    wanted = [name for name in case.data["outputs"] if name.startswith("grad:")]
    return {"grad_input": x.grad, **{name: published[name.removeprefix("grad:")] for name in wanted}}


MODEL_CALLS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "feats = encode_#d(content); reconstruction_given": round_trip,
    "encode_#d(content): list of feature maps": features,
    "forward(video) with the normal noise": forward,
    "encoder_#d then quant_conv": lambda case, dtype: {
        "moments": model_of(case, dtype).encoder(case.input("video", dtype))
    },
    "reconstruction = decode(latents, None)": lambda case, dtype: {
        "reconstruction": decoded(case, dtype, model_of(case, dtype), None)
    },
    "reconstruction = decode(latents, encode_#d(content))": lambda case, dtype: {
        "reconstruction": decoded(case, dtype, model_of(case, dtype), case.input("content", dtype))
    },
    "gradients of sum(reconstruction * in.cotangent)": gradients,
}


# --------------------------------------------------------------------------- parts of models


def below(table: tuple[Rename, ...], published: str, own: str) -> tuple[Rename, ...]:
    """The rows of one part of a model, without what stands before its names."""
    return tuple(_below(table, published, own))


def _below(table: tuple[Rename, ...], published: str, own: str) -> Iterator[Rename]:
    for row in table:
        if (row.own or own).startswith(own) and all(name.startswith(published) for name in row.sources):
            names = tuple(name.removeprefix(published) for name in row.sources)
            kept = None if row.own is None else row.own.removeprefix(own)
            yield replace(row, published=names if row.op == "cat" else names[0], own=kept)


def without(spec: LayerSpec, name: str) -> ChainSpec:
    assert isinstance(spec, ChainSpec)
    return ChainSpec(layers={key: layer for key, layer in spec.layers.items() if key != name})


def part_encoder(case: Case, dtype: torch.dtype) -> Outputs:
    config = {key: value for key, value in case.config.items() if key not in ("mode", "out_z")}
    x = case.input("x", dtype)
    if case.config["mode"] == "2d":
        image = {**config, "out_z": case.config["out_z"]}
        spec = reducio(**published_fields({"ddconfig": clip_beside(config), "ddconfig_2d": image, "embed_dim": 4}))
        assert spec.content is not None
        module: nn.Module = spec.content.build(spec.pixels, spec.content.stages)
        return listed(parity.load(module, below(renames(spec), "encoder_2d.", "content."), case.weights(), dtype), x)
    spec = reducio(**published_fields({"ddconfig": config, "ddconfig_2d": config, "embed_dim": 4}))
    module = without(spec.encoder, "moments").build(spec.pixels)
    parity.load(module, below(renames(spec), "encoder_3d.", "encoder."), case.weights(), dtype)
    return {"output": module(x)}


def clip_beside(image: Mapping[str, Any]) -> dict[str, Any]:
    """A network of clips that reads the last feature of the image encoder."""
    own = {"ch_in": image["ch"], "f_t": 1, "ch_fuse": [-1] * len(image["ch_mult"]), "temp_res": 2}
    fused = {"fuse_type": "attn", "fuse_mid": True, "fuse_mid_type": "attn"}
    return {**image, **own, **fused, "upsample_first": True, "pos_embed_mode": "t"}


def part_decoder(case: Case, dtype: torch.dtype) -> Outputs:
    given = dict(case.config)
    image = {key.removesuffix("_2d"): given.pop(key) for key in list(given) if key.endswith("_2d")}
    image = {**image, "num_res_blocks": given["num_res_blocks"]}
    spec = reducio(**published_fields({"ddconfig": given, "ddconfig_2d": image, "embed_dim": given["z_channels"]}))
    module = without(spec.decoder, "latent").build(spec.latents.with_channels(given["z_channels"]))
    parity.load(module, below(renames(spec), "decoder.", "decoder."), case.weights(), dtype)
    names = [*spec.latents.content]
    content = {name: case.input(f"feature_{i}", dtype).unsqueeze(2) for i, name in enumerate(names)}
    return {"output": module(case.input("latents", dtype), WholeClip(content=content))}


# --------------------------------------------------------------------------- single layers


def unit(case: Case, dtype: torch.dtype, spec: LayerSpec, signal: Signal, *table: Rename) -> Outputs:
    """Images are clips of one frame; the context is the content "context"."""
    module = parity.load(spec.build(signal), table, case.weights(), dtype)
    x, content = case.input("x", dtype), {}
    if "context" in case.data["inputs"]:
        content["context"] = case.input("context", dtype).unsqueeze(2)
    y = module(x.unsqueeze(2) if x.ndim == 4 else x, WholeClip(content=content))
    return {"output": y.squeeze(2) if x.ndim == 4 else y}


def inside(spec: LayerSpec) -> ChainSpec:
    """A layer under a name, for tables that say where it stands."""
    return ChainSpec(layers={"own": spec})


def resnet_block(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    clip, width_in, width = c["mode"] == "3d", c["in_channels"], c["out_channels"]
    parts = clip_parts(FIELDS) if clip else image_parts(FIELDS)
    spec = block(width_in, width, parts)
    table = list(block_names("", "own.", clip=clip))
    if c.get("conv_shortcut"):
        spec = residual_block(parts.conv(width), norm=parts.norm, shortcut=parts.conv(width))
        table = [Rename("conv_shortcut.", "own.shortcut."), *table]
    return unit(case, dtype, inside(spec), Signal(width_in), *table)


def halved_and_doubled(case: Case) -> tuple[int, int]:
    return (1 if case.config.get("keep_temp") else 2, 1 if case.config.get("keep_spatial") else 2)


def downsample(case: Case, dtype: torch.dtype) -> Outputs:
    c, (time, space) = case.config, halved_and_doubled(case)
    width, conv = c["in_channels"], c["with_conv"]
    if c["mode"] == "2d":
        spec: LayerSpec = SpatialDownsampleSpec(channels=width) if conv else SpatialAverageSpec()
        return unit(case, dtype, inside(spec), Signal(width), *down_names("", "own.", in_space=False))
    spec = shrink(width, time, space, conv=conv, causal=c["mode"] == "causal3d")
    return unit(case, dtype, inside(spec), Signal(width, group=4), *down_names("", "own.", in_space=time == 1))


def upsample(case: Case, dtype: torch.dtype) -> Outputs:
    c, (time, space) = case.config, halved_and_doubled(case)
    spec = grow(c.get("out_channels", c["in_channels"]), time, space, conv=c["with_conv"])
    return unit(case, dtype, inside(spec), Signal(c["in_channels"]), *up_names("", "own."))


def unshuffle(case: Case, dtype: torch.dtype) -> Outputs:
    c, (time, space) = case.config, halved_and_doubled(case)
    spec = grow(c["in_channels"], time, space, unshuffle=True)
    if c["mode"] == "2d":
        spec = chain(conv=FrameConv2dSpec(channels=4 * c["in_channels"]), space=DepthToSpaceSpec(factor=2))
    if c.get("use_act"):
        spec = chain(**spec.layers, act=SiLUSpec())  # type: ignore[attr-defined]
    return unit(case, dtype, inside(spec), Signal(c["in_channels"]), *up_names("", "own."))


def self_attention(case: Case, dtype: torch.dtype) -> Outputs:
    c, clip = case.config, case.config["mode"] == "3d"
    given = ReducioVAEFields(heads=c.get("num_heads", 8))
    parts = clip_parts(given) if clip else image_parts(given)
    spec = attend(parts)
    if "window_size" in c:
        window = WindowedFrameAttentionSpec(heads=given.heads, window=tuple(c["window_size"]))
        spec = attention_block(norm=parts.norm, attend=window)
    return unit(case, dtype, inside(spec), Signal(c["in_channels"]), *attention_names("", "own.", clip=clip))


def beside(case: Case, width: int) -> Signal:
    return Signal(width, content={"context": Signal(case.config["context_dim"])})


def cross_attention(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    fields = {"heads": c["heads"], "head_width": c["dim_head"], "bias": c.get("qkv_bias", False)}
    spec: LayerSpec = ContentAttentionSpec(content="context", **fields)
    if "window_size" in c:
        spec = WindowedContentAttentionSpec(content="context", **fields, window=tuple(c["window_size"]))
    found = unit(case, dtype, inside(spec), beside(case, c["query_dim"]), *look_names("", "own."))
    return {"output": found["output"].flatten(2).transpose(1, 2)}


def fused_attention(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    fields = {
        "positions": {"t": "frame", "thw": "pixel"}.get(c.get("pos_embed_mode", "t")),
        "content_norm": "group" if c.get("norm_type") == "group" else "channel",
        "gate": 0.0 if c.get("is_tanh_gating") else None,
        "fusion_shortcut": c.get("use_conv_shortcut", False),
    }
    sizes = (c["dim"], c["temp_res"], c["spatial_res"], c.get("d_head", 64))
    spec = ChainSpec(layers=content_attention(ReducioVAEFields(**fields), "context", *sizes))
    table = [*content_attention_names("", ""), Rename("norm.num_batches_tracked", None)]
    return unit(case, dtype, spec, beside(case, c["dim"]), *table)


def legacy_fusion(case: Case, dtype: torch.dtype) -> Outputs:
    """Without the skip: what stands inside the residual."""
    c, linear = case.config, case.data["published_class"] == "LinearFusion"
    how, names = ("linear", mix_names("", "")) if linear else ("add", sum_names("", ""))
    whole = fusion(FIELDS, how, "context", c["dim"], c["temp_dim"], 1)  # type: ignore[arg-type]
    spec: LayerSpec = whole if c.get("use_skip", True) else chain(**{how: ChainSpec(layers=whole.layers[how].layers)})  # type: ignore[attr-defined]
    return unit(case, dtype, spec, beside(case, c["dim"]), *names)


def gaussian(case: Case, dtype: torch.dtype) -> Outputs:
    limits, moments = (-30.0, 20.0), case.input("moments", dtype)
    if "moments = concat" in case.call:
        mean, logvar = moments.chunk(2, 1)
        wide = PosteriorSpec(limits=limits).posterior(torch.cat([mean, 40 * logvar], 1), Fit(1, 1, 1))
        return {"logvar": wide.logvar, "log_std": wide.std.log()}
    one, noise = PosteriorSpec(limits=limits).posterior(moments, Fit(1, 1, 1)), case.input("noise", dtype)
    return {
        "logvar": one.logvar,
        "std": one.std,
        "var": one.std**2,
        "mode": one.mode(),
        "sample": one.sample(noise=noise),
        "kl": one.kl(),
        "nll": one.nll(noise),
    }


def table(case: Case, dtype: torch.dtype) -> Outputs:
    return {
        "output": sinusoids(8, 12)[None],
        "odd": sinusoids(5, 7)[None],
        "stored": sinusoids(16, 64).float()[None],
    }


def metrics(case: Case, dtype: torch.dtype) -> Outputs:
    """The second clip is the first, a little darker and with noise."""
    found = {}
    for end in ("", "_big"):
        x, noise = case.input(f"x{end}", dtype), case.input(f"y{end}", dtype)
        source, result = (x + 1) / 2, (0.9 * x + 0.1 * noise + 1) / 2
        found |= {f"psnr{end}": psnr(source, result), f"ssim{end}": ssim(source, result)}
    return found


HANDLERS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "ReducioVAE": run_model,
    "Encoder": part_encoder,
    "FusionDecoder": part_decoder,
    "ResnetBlock": resnet_block,
    "Downsample": downsample,
    "Upsample": upsample,
    "UpsampleUnshuffle": unshuffle,
    "MemoryEfficientAttnBlock": self_attention,
    "CrossAttention": cross_attention,
    "BasicTransformerBlock": fused_attention,
    "LinearFusion": legacy_fusion,
    "AddFusion": legacy_fusion,
    "DiagonalGaussianDistribution": gaussian,
    "ReducioVAE.forward_video": lambda case, dtype: {"output": ClipNorm().normalize(case.input("x", dtype))},
    "get_sinusoid_encoding_table": table,
    "compute_psnr, compute_ssim": metrics,
}


# --------------------------------------------------------------------------- the releases

RELEASES = {f"reducio-{variant}-fs32-attn23": variant for variant in reducio.variants}


def released(release: str) -> dict[str, Tensor]:
    """Tensors of the names and shapes of a release, views of few values: a copy takes gigabytes."""
    values = torch.randn(2**24, generator=torch.Generator().manual_seed(0)).bfloat16()
    shapes = parity.full_keys("reducio")[release]["names"]
    return {
        name: values[start : start + torch.Size(shape).numel()].view(shape)
        for start, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@pytest.mark.parametrize("release", RELEASES)
def test_release_names_load_strictly_and_export_bit_for_bit(release: str) -> None:
    spec, tensors = reducio(RELEASES[release]), released(release)
    with torch.device("meta"):
        model = spec.build()
    own, extras = to_own(renames(spec), tensors, {name: v.shape for name, v in model.state_dict().items()})
    model.load_state_dict(own, assign=True)
    exported = to_published(renames(spec), model.state_dict(), extras)
    assert exported.keys() == tensors.keys()
    assert all(exported[name].shape == v.shape and torch.equal(exported[name], v) for name, v in tensors.items())


def test_extras_of_a_release_are_what_its_code_throws_away() -> None:
    spec = reducio("ft4")
    with torch.device("meta"):
        shapes = {name: v.shape for name, v in spec.build().state_dict().items()}
    _, extras = to_own(renames(spec), released("reducio-ft4-fs32-attn23"), shapes)
    assert {name.rpartition(".")[0] for name in extras} == {
        *(f"encoder_2d.mid.block_2.{part}" for part in ("norm1", "conv1", "norm2", "conv2")),
        "encoder_2d.norm_out",
    }


def test_every_release_is_a_variant_with_its_configuration() -> None:
    known = {name: release for name, release in parity.full_keys("reducio").items() if "names" in release}
    known = {name: release for name, release in known.items() if not name.startswith("loss")}
    assert known.keys() == RELEASES.keys()
    for release, variant in RELEASES.items():
        spec = reducio(variant)
        assert reducio(**published_fields(known[release]["config"]), name=spec.name) == spec
        with torch.device("meta"):
            tensors = spec.build().state_dict().values()
        extras = 4 * 512 + 2 * (512 * 512 * 9 + 512) + 2 * 512  # two norms and convolutions, and a norm
        assert sum(t.numel() for t in tensors) + extras == known[release]["parameters"]


@pytest.mark.parametrize("variant", list(reducio.variants))
def test_tables_of_positions_are_those_of_the_release(variant: str) -> None:
    """Loading a release does not change them; measured at small widths, which have the same lengths."""
    spec = reducio(variant, widths=(2, 4, 4, 8, 8, 8), groups=2, content_widths=(2, 4, 8, 8), heads=2)
    published = to_published(renames(spec), spec.build().state_dict())
    tables = {name: table for name, table in published.items() if name.endswith("pos_embed")}
    assert len(tables) == 3
    for table in tables.values():
        want = parity.kept_value("sinusoid table rounded to float32", list(table.shape))
        assert torch.equal(table.double(), want)
