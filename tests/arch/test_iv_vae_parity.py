"""IV-VAE against what its published code returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from tests import parity
from tests.parity import Case
from vvae.arch import iv_vae
from vvae.arch.iv_vae import (
    ATTENTION,
    attention_names,
    block_names,
    clip_block,
    conv_names,
    downsample,
    frame_block,
    pointwise_names,
    published_fields,
    renames,
    resample_names,
    two_path,
    upsample,
)
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers import (
    ChainSpec,
    ChannelRMSNorm,
    FrameConv2d,
    FrameConv2dSpec,
    GroupCausalConv3d,
    KeyframeMerge,
    KeyframeSplit,
    LoneFramesSpec,
    atrous_head,
    attention_block,
)
from vvae.published.table import Rename
from vvae.signal import Signal
from vvae.spec import LayerSpec

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@DTYPES
@pytest.mark.parametrize("case", parity.cases("iv_vae"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"].split(" ")[0].rpartition(".")[2])
    assert run is not None, f"not understood: {case.data['published_class']}"
    case.check(run(case, dtype), dtype)


# --------------------------------------------------------------------------- whole models


def model_of(case: Case, dtype: torch.dtype) -> VideoAutoencoder:
    spec = iv_vae(**published_fields(case.config))
    model = spec.build()
    parity.load(model, renames(spec), case.weights(), dtype)
    return model


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    for start, run in MODEL_CALLS.items():
        if case.call.startswith(start):
            return run(case, dtype)
    raise AssertionError(f"not understood: {case.call}")


def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    with torch.no_grad():
        posterior = model.encode(case.input("video", dtype), framing="published")
        return {
            "moments": torch.cat([posterior.mean, posterior.logvar], 1),
            "latent": model.scaling.normalize(posterior.mode()),
            "reconstruction": model.decode(posterior),
        }


def decode(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    with torch.no_grad():
        return {"reconstruction": model.decode(model.scaling.restore(case.input("latent", dtype)))}


def sampled(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    with torch.no_grad():
        z = model.encode(case.input("video", dtype), framing="published").sample(noise=case.input("noise", dtype))
        return {"latent": model.scaling.normalize(z), "forward": model.decode(z)}


def gradients(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    video = case.input("video", dtype).requires_grad_()
    posterior = model.encode(video, framing="published")
    moments = torch.cat([posterior.mean, posterior.logvar], 1)
    result = moments if "moments" in case.call.partition(";")[0] else model.decode(posterior)
    (result * case.input("cotangent", dtype)).sum().backward()
    assert video.grad is not None
    table = renames(model.spec)
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    from vvae.published.renames import to_published

    published = to_published(table, grads)
    wanted = [name.removeprefix("grad.") for name in case.data["outputs"] if name.startswith("grad.")]
    return {"grad_input": video.grad, **{f"grad.{name}": published[name] for name in wanted}}


def moments_split(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    moments = model.encoder.get_submodule("moments")(case.input("features", dtype))
    return {"moments": moments}


def keyframe_merge(case: Case, dtype: torch.dtype) -> Outputs:
    pictures = case.input("pictures", dtype)
    key, _ = KeyframeSplit(group=4)(pictures[:, :3])
    _, between = KeyframeSplit(group=4)(pictures[:, 3:])
    return {"output": KeyframeMerge(group=4)((key, between))}


MODEL_CALLS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "moments = [mean, logvar] as `encode`": round_trip,
    "reconstruction = decode(latent)": decode,
    "latent = encode(video) with the gaussian draw": sampled,
    "scalar = sum(": gradients,
    "the encoder replaced by the constant": moments_split,
    "the decoder replaced by the constant": keyframe_merge,
}


# --------------------------------------------------------------------------- encoder and decoder, call by call


def part_of(case: Case, dtype: torch.dtype, part: str) -> tuple[nn.Module, list[str]]:
    """The published encoder or decoder (without the convolution at the latents), and its state paths in order."""
    spec = iv_vae(**published_fields(case.config))
    layers = {k: v for k, v in getattr(spec, part).layers.items() if k not in ("moments", "latent")}
    signal = spec.pixels if part == "encoder" else spec.latents
    table = renames(spec)
    if part == "decoder":  # the published one computes both heads everywhere
        layers["head"] = two_path(3)
        table = (*conv_names("decoder.head.2.", "decoder.head."), *table)
    model = nn.ModuleDict({part: ChainSpec(layers=layers).build(signal)})
    parity.load(model, table, case.weights(lambda name: name.startswith(part)), dtype)
    paths = [name for name, module in model[part].named_modules() if isinstance(module, GroupCausalConv3d)]
    return model[part], paths


def run_part(case: Case, dtype: torch.dtype) -> Outputs:
    part = "encoder" if "video" in case.data["inputs"] else "decoder"
    module, paths = part_of(case, dtype, part)
    x = case.input("video" if part == "encoder" else "features", dtype)
    group = 4 if part == "encoder" else 1
    with torch.no_grad():
        if "in ONE call" in case.call:
            return {"output": torch.cat([out for out, _ in parity.steps(module, [x[:, :, :1], x[:, :, 1:]])], 2)}
        chunks = [x[:, :, :1], *x[:, :, 1:].split(group, 2)]
        found: dict[str, Tensor] = {}
        for number, (out, state) in enumerate(parity.steps(module, chunks)):
            found[f"call{number}"] = out
            slots = {f"call{number}.cache{slot}": state[path][0] for slot, path in enumerate(paths)}
            found.update({name: kept for name, kept in slots.items() if name in case.data["outputs"]})
        return found


# --------------------------------------------------------------------------- single layers


def unit(case: Case, dtype: torch.dtype, spec: LayerSpec, signal: Signal, *table: Rename) -> nn.Module:
    return parity.load(spec.build(signal), table, case.weights(), dtype)


def with_cache(case: Case, dtype: torch.dtype, module: nn.Module, path: str) -> Outputs:
    """t1 = module(x1), t4 = module(x4, cache), ...: one frame is a lead, several follow the cached frame."""
    found: dict[str, Tensor] = {}
    for name in case.data["outputs"]:
        x = case.input(f"x{name[1:].partition('_')[0]}", dtype)
        before = {} if x.shape[2] == 1 else {path: (case.input("cache", dtype),)}
        found[name] = parity.steps(module, [x], before)[0][0]
    return found


def group_conv(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    if c["kernel"] == 1:
        row = Rename("weight", "weight", "view", shape=(0, 0, 1, 1, 1))
        pointwise = parity.load(
            FrameConv2d(c["in_dim"], c["out_dim"], 1), (row, Rename("bias", "bias")), case.weights(), dtype
        )
        return {"output": pointwise(case.input("x", dtype))}
    module = GroupCausalConv3d(c["in_dim"], c["out_dim"], c["kernel"], group=c["t_c"])
    parity.load(module, (Rename("*", "*"),), case.weights(), dtype)
    return with_cache(case, dtype, module, "")


def sep_conv3d(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    first = case.data["published_class"].endswith("First_Sep_Conv3d")
    signal = Signal(c["in_dim_2d"] if first else c["in_dim_2d"] + c["in_dim_3d"], lead=1, group=c["t_c"])
    names = pointwise_names if c["kernel"] == 1 else conv_names
    module = unit(case, dtype, two_path(c["out_dim_2d"], kernel=c["kernel"]), signal, *names("", ""))
    if c["kernel"] == 1:
        return {"output": module(case.input("x", dtype))}
    return with_cache(case, dtype, module, "motion")


def sep_conv2d(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    spec = FrameConv2dSpec(channels=c["out_dim_2d"] + c["out_dim_3d"], kernel=c["kernel"])
    module = unit(case, dtype, spec, Signal(c["in_dim_2d"] + c["in_dim_3d"]), *conv_names("", ""))
    return {"output": module(case.input("x", dtype))}


def pac(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    table = [row for row in renames(iv_vae()) if row.own and row.own.startswith("encoder.head.")]
    module = nn.ModuleDict(
        {"encoder": nn.ModuleDict({"head": atrous_head(2 * c["out_dim_2d"]).build(Signal(2 * c["in_dim_2d"]))})}
    )
    weights = {f"encoder.head.2.{name}": w for name, w in case.weights().items()}
    head = parity.load(module, tuple(table), weights, dtype).get_submodule("encoder.head")
    return {"output": head(case.input("x", dtype)), "output_small": head(case.input("x_small", dtype))}


def rms_norm(case: Case, dtype: torch.dtype) -> Outputs:
    c, x = case.config, case.input("x", dtype)
    parts = 2 if "dim_2d" in c else 1
    channels = c["dim_2d"] + c["dim_3d"] if parts == 2 else c["dim"]
    ones = (1,) * (len(next(iter(case.names.values()))) - 1)
    rows = [Rename("gamma", "weight", "view", shape=(0, *ones)), Rename("bias", "bias", "view", shape=(0, *ones))]
    module = parity.load(ChannelRMSNorm(channels, parts, bias=c.get("bias", False)), tuple(rows), case.weights(), dtype)
    last = not c.get("channel_first", True)
    clip = x.movedim(-1, 1) if last else x
    y = module(clip if clip.ndim == 5 else clip.unsqueeze(2))
    y = y if clip.ndim == 5 else y.squeeze(2)
    found = {"output": y.movedim(1, -1) if last else y}
    if "zero_input" in case.data["outputs"]:
        found["zero_input"] = module(torch.zeros(case.data["outputs"]["zero_input"], dtype=dtype))
    return found


def attention(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    if "dim" in c:
        weights = {f"Attention_2d.{name}": w for name, w in case.weights().items()}
        module: nn.Module = nn.ModuleDict({"keyframe": attention_block().build(Signal(c["dim"]))})
        parity.load(module, tuple(attention_names("", "")), weights, dtype)
        module = module.get_submodule("keyframe")
    else:
        module = unit(case, dtype, ATTENTION, Signal(c["dim_2d"] + c["dim_3d"]), *attention_names("", ""))
    return {"output": module(case.input("x", dtype))}


def residual_block(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    make = clip_block if "t_c" in c else frame_block
    signal = Signal(c["in_dim_2d"] + c["in_dim_3d"], lead=1, group=c.get("t_c", 1))
    module = unit(case, dtype, make(c["in_dim_2d"], c["out_dim_2d"]), signal, *block_names("", ""))
    if "t_c" not in c:
        return {"output": module(case.input("x", dtype))}
    found: dict[str, Tensor] = {}
    for n, (out, state) in enumerate(parity.steps(module, [case.input(name, dtype) for name in case.data["inputs"]])):
        found[f"call{n}"] = out
        found[f"call{n}.cache0"], found[f"call{n}.cache1"] = state["conv_a.motion"][0], state["conv_b.motion"][0]
    return found


def resample(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    down, in_time = c["mode"].startswith("down"), c["mode"].endswith("3d")
    spec = (downsample if down else upsample)(c["dim"], in_time)
    table = tuple(resample_names("", "down." if down else "up."))
    found: dict[str, Tensor] = {}
    for name in case.data["outputs"]:
        x = case.input(f"x{name[1:].partition('_')[0]}" + ("_odd" if name.endswith("_odd") else ""), dtype)
        lone = name.endswith("no_cache") or (x.shape[2] == 1 and not name.endswith("later"))
        if down and in_time and not lone:
            x = x[:, :, : x.shape[2] // 2 * 2]  # the published code drops a frame without a partner
        signal = Signal(x.shape[1], lead=0, group=2 if down else 1)
        layers = {"down" if down else "up": spec}
        module = (LoneFramesSpec if lone else ChainSpec)(layers=layers).build(signal)
        found[name] = parity.load(module, table, case.weights(), dtype)(x)
    return found


HANDLERS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "VAutoencoder3d": run_model,
    "Encoder3d": run_part,
    "Decoder3d": run_part,
    "Group_Causal_Conv3d": group_conv,
    "Sep_Conv3d": sep_conv3d,
    "First_Sep_Conv3d": sep_conv3d,
    "Sep_Conv2d": sep_conv2d,
    "PAC": pac,
    "RMS_norm": rms_norm,
    "Sep_RMS_norm": rms_norm,
    "AttentionBlock": attention,
    "Sep_AttentionBlock": attention,
    "Sep_ResidualBlock": residual_block,
    "Sep_ResidualBlock_2d": residual_block,
    "Resample": resample,
}


# --------------------------------------------------------------------------- the releases


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@pytest.mark.parametrize("variant", list(iv_vae.variants))
def test_release_names_load_strictly_and_export_bit_for_bit(variant: str) -> None:
    from vvae.published.renames import to_published

    shapes = parity.full_keys("iv_vae")[f"ivvae_{variant}"]["names"]
    released = {name: torch.randn(shape) for name, shape in shapes.items()}
    spec: VideoAutoencoderSpec = iv_vae(variant)
    with torch.device("meta"):
        model = spec.build()
    table = renames(spec)
    model = parity.load(model.to_empty(device="cpu"), table, released, torch.float32)
    exported = to_published(table, model.state_dict())
    assert {n: tuple(t.shape) for n, t in exported.items()} == {n: tuple(s) for n, s in shapes.items()}
    assert all(torch.equal(exported[name], released[name]) for name in released)
