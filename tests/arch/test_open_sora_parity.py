"""Open-Sora 1.2's video VAE against what its published code returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests import parity
from tests.parity import Case
from vvae.arch import open_sora
from vvae.arch.image_vae import ACTIVATIONS, LIMITS
from vvae.arch.open_sora import EPS, block, block_names, published_fields, renames
from vvae.autoencoder import VideoAutoencoder
from vvae.context import WholeClip
from vvae.framing import Fit
from vvae.gaussian import PosteriorSpec
from vvae.layers import CausalConv3dSpec, ChainSpec, ChannelToTimeSpec, ClipGroupNormSpec, residual_block
from vvae.layers.layer import unfold_frames
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename
from vvae.scaling import Affine
from vvae.signal import Signal

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
DRAW = "encoder.spatial.draw"


@DTYPES
@pytest.mark.parametrize("case", parity.cases("open_sora"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"].partition(" (")[0])
    assert run is not None, f"not understood: {case.data['published_class']}"
    case.check(run(case, dtype), dtype)


def given(case: Case, name: str, dtype: torch.dtype) -> Tensor:
    """The input of that name, behind the case's own or whatever else stands before it."""
    return case.input(next(full for full in case.data["inputs"] if f".{full}".endswith(f".{name}")), dtype)


def has(case: Case, name: str) -> bool:
    return any(f".{full}".endswith(f".{name}") for full in case.data["inputs"])


def weights(case: Case) -> dict[str, Tensor]:
    """By published name, numbers that the case keeps included."""
    kept = {name: torch.tensor(value, dtype=torch.float64) for name, value in case.data.get("kept", {}).items()}
    return {**case.weights(by_rule=True), **kept}


# --------------------------------------------------------------------------- whole models


def model_of(case: Case, dtype: torch.dtype) -> VideoAutoencoder:
    model = open_sora(**published_fields(case.config)).build()
    parity.load(model, renames(model.spec), weights(case), dtype)
    keeps_constants(case, model)
    return model


def keeps_constants(case: Case, model: VideoAutoencoder) -> None:
    """Shift and scale of the spec are the numbers that the published checkpoint holds."""
    kept = case.data.get("kept", {})
    assert isinstance(model.scaling, Affine)
    for name, own in (("shift", model.scaling.shift), ("scale", model.scaling.scale)):
        if name in kept:
            published = numbers(kept[name])
            assert torch.equal(numbers(own), 1 / published if name == "scale" else published)


def numbers(value: float | Sequence[object]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64).flatten()


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    for start, run in MODEL_CALLS.items():
        if case.call.startswith(start):
            return run(case, dtype)
    raise AssertionError(f"not understood: {case.call}")


def temporal_round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), given(case, "x", dtype)
    with torch.no_grad():
        posterior = model.encode(x, framing="published")
        return {
            "moments": model.encoder(x),
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "reconstruction": model.decode(posterior),
            "decoded": model.decode(given(case, "z", dtype), frames=x.shape[2]),
        }


def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    return there_and_back(case, model_of(case, dtype), dtype)


@torch.no_grad()
def there_and_back(case: Case, model: VideoAutoencoder, dtype: torch.dtype) -> Outputs:
    x = given(case, "x", dtype)
    posterior = model.encode(x, framing="published")
    found = {"z": model.scaling.normalize(posterior.mode()), "reconstruction": model.decode(posterior)}
    if has(case, "z"):
        found["decoded"] = model.decode(model.scaling.restore(given(case, "z", dtype)), frames=x.shape[2])
    return {name: found[name] for name in case.data["outputs"]}


def sampled(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), given(case, "x", dtype)
    with torch.no_grad():
        posterior = model.encode(x, framing="published")
        z = posterior.sample(noise=given(case, "noise", dtype))
        return {
            "reconstruction": model.decode(z, frames=x.shape[2]),
            "z": z,
            "kl": posterior.kl(),
            "reconstruction_mode": model.decode(posterior),
            "z_mode": posterior.mode(),
        }


def temporal_parts(case: Case, dtype: torch.dtype) -> Outputs:
    """The published encoder and decoder without what stands around them."""
    model, z = model_of(case, dtype), given(case, "z", dtype)
    with torch.no_grad():
        moments = through(model.encoder, given(case, "x", dtype), without=("fill", "moments"))
        return {
            "encoder": moments,
            "encoder_t6": through(model.encoder, given(case, "x6", dtype), without=("fill", "moments")),
            "quant_conv": model.get_submodule("encoder.moments")(moments),
            "post_quant_conv": model.get_submodule("decoder.latent")(z),
            "decoder": through(model.decoder, z, without=("drop",)),
        }


def through(module: nn.Module, x: Tensor, without: tuple[str, ...]) -> Tensor:
    for name, layer in module.named_children():
        x = x if name in without else layer(x)
    return x


def gradients(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    x = given(case, "x", dtype).requires_grad_()
    total = (model.decode(model.encode(x, framing="published")) * given(case, "cotangent", dtype)).sum()
    total.backward()
    assert x.grad is not None
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    published = to_published(renames(model.spec), grads)
    wanted = [name.removeprefix("grad.") for name in case.data["outputs"] if name.startswith("grad.")]
    return {"scalar": total, "grad_input": x.grad, **{f"grad.{name}": published[name] for name in wanted}}


@torch.no_grad()
def decoded_for(case: Case, dtype: torch.dtype) -> Outputs:
    """Any number of frames for the same latents: piece by piece only how many are dropped in front depends on it."""
    model, z = model_of(case, dtype), given(case, "z", dtype)
    pieces = model.scaling.restore(z).split(model.spec.piece_positions or z.shape[2], 2)
    found = {}
    for name in case.data["outputs"]:
        left, clips = int(name.removeprefix("decoded_n").replace("m", "-")), []
        for piece in pieces:
            length = model.spec.framing.piece or left
            clips.append(model.decoder(piece, WholeClip(frames=min(length, left))))
            left -= length
        found[name] = torch.cat(clips, 2)
    return found


def noises(case: Case, dtype: torch.dtype, batch: int) -> tuple[dict[str, Tensor], Tensor]:
    """The noise of the frames by path, and that of the latents, piece after piece."""
    names = sorted(name for name in case.data["inputs"] if ".noise_temporal." in name)
    spatial = unfold_frames(given(case, "noise_spatial", dtype), batch)
    return {DRAW: spatial}, torch.cat([case.input(name, dtype) for name in names], 2)


def drawn(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), given(case, "x", dtype)
    spatial, temporal = noises(case, dtype, x.shape[0])
    with torch.no_grad():
        z = model.encode(x, noise=spatial, framing="published").sample(noise=temporal)
        return {"z": model.scaling.normalize(z), "reconstruction": model.decode(z, frames=x.shape[2])}


def between(case: Case, dtype: torch.dtype) -> Outputs:
    """What training reads between the parts; of the posterior what belongs to the last piece."""
    model, x = model_of(case, dtype), given(case, "x", dtype)
    spatial, temporal = noises(case, dtype, x.shape[0])
    with torch.no_grad(), part(model, "encoder.spatial") as latent, part(model, "decoder.temporal") as back:
        posterior = model.encode(x, noise=spatial, framing="published")
        z = posterior.sample(noise=temporal)
        video = model.decode(z, frames=x.shape[2])
    last = model.spec.pieces(x.shape[2])[-1].positions
    mean, logvar = (part[:, :, -last:] for part in (posterior.mean, posterior.logvar))
    return {
        "reconstruction": video,
        "latent_2d_reconstruction": torch.cat(back, 2),
        "z": z,
        "posterior_moments": torch.cat([mean, logvar], 1),
        "posterior_kl": type(posterior)(mean, logvar, posterior.fit).kl(),
        "latent_2d": torch.cat(latent, 2),
    }


@contextmanager
def part(model: VideoAutoencoder, path: str) -> Iterator[list[Tensor]]:
    """Everything that a part of the model gives meanwhile."""
    found: list[Tensor] = []
    hook = model.get_submodule(path).register_forward_hook(lambda _, __, out: found.append(out))
    yield found
    hook.remove()


def full_width(case: Case, dtype: torch.dtype) -> Outputs:
    """The release itself. Its weights are made one by one, so that they are held once."""
    known = parity.full_keys("open_sora")[case.data["full_keys"]]
    spec = open_sora(**published_fields({**known["config"], **case.config}))
    with torch.device("meta"):
        model = spec.build().to(dtype)
    model.to_empty(device="cpu")
    table = renames(spec)
    for own, tensor in model.state_dict().items():
        one = {own: tuple(tensor.shape)}
        names = {name: known["names"][name] for name in to_published(table, {own: tensor})}
        made = {name: torch.from_numpy(case.values.weight(name, tuple(shape))) for name, shape in names.items()}
        tensor.copy_(to_own(table, made, one)[0][own])
    keeps_constants(case, model)
    return there_and_back(case, model, dtype)


def latent_sizes(case: Case, dtype: torch.dtype) -> Outputs:
    """Frames of latents as the spec has them; height and width as a network that floors has them."""
    wanted = load_file(parity.FOLDER / case.arch / case.data["file"])["table"]
    specs = {m or 0: open_sora("v1_2", piece=m) for m in case.config["micro_frame_size"]}
    rows = []
    for m, frames, height, width, *_ in wanted.int().tolist():
        cell = int(specs[m].latents.stride)
        rows.append([m, frames, height, width, specs[m].latent_frames(frames), height // cell, width // cell])
    return {"table": torch.tensor(rows, dtype=dtype)}


MODEL_CALLS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "encode(x) -> posterior (moments, mean, logvar clamped); decode(mode, num_frames=T)": temporal_round_trip,
    "encode(x) -> z (normalised); decode(z, num_frames=#)": full_width,
    "encode(x) -> z (normalised by shift, scale); decode(z, num_frames=T)": round_trip,
    "encode(x) for # x # pixels": round_trip,
    "encode(x) with noise zero -> z * #.#": round_trip,
    "encode(x) with the named noise": drawn,
    "decode(z, num_frames=n)": decoded_for,
    "forward(x, sample_posterior=True)": sampled,
    "forward(x) with cal_loss=True and the named noise": between,
    "encoder(x) (no padding in time": temporal_parts,
    "s = sum(": gradients,
    "get_latent_size([T, H, W])": latent_sizes,
}


# --------------------------------------------------------------------------- single layers


def causal_conv(case: Case, dtype: torch.dtype) -> Outputs:
    """A stride in space keeps every so many-th output; other borders than zeros stand around the clip beforehand."""
    c, (wide, _, high, _, front, _) = case.config, case.data["time_causal_padding_w_h_t"]
    kernel = c["kernel_size"] if isinstance(c["kernel_size"], int) else tuple(c["kernel_size"])
    time, rows, columns = c.get("strides") or (c.get("stride", 1), 1, 1)
    spec = CausalConv3dSpec(
        channels=c["chan_out"],
        kernel=kernel,
        stride=time,
        dilation=c.get("dilation", 1),
        before="zero",
        bias=c.get("bias", True),
    )
    module = ChainSpec(layers={"own": spec}).build(Signal(c["chan_in"], group=time))
    parity.load(module, (Rename("conv.", "own."),), weights(case), dtype)
    x, mode = given(case, "x", dtype), c.get("pad_mode", "constant")
    with torch.no_grad():
        if mode == "constant":
            return {"output": module(x)[..., ::rows, ::columns]}
        assert (time, rows, columns) == (1, 1, 1), f"not understood: strides with {mode} borders"
        y = module(F.pad(x, case.data["time_causal_padding_w_h_t"], mode=mode))
        return {"output": y[:, :, front:, high : y.shape[3] - high, wide : y.shape[4] - wide]}


def residual(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    norm, act = ClipGroupNormSpec(groups=c["num_groups"], eps=EPS), ACTIVATIONS[c["activation_fn"]]
    spec = block(c["in_channels"], c["filters"], norm, act)
    table = tuple(block_names("", "own."))
    if c.get("use_conv_shortcut"):
        conv = CausalConv3dSpec(channels=c["filters"], before="zero", bias=False)
        spec = residual_block(conv, norm=norm, act=act, shortcut=conv)
        table = (Rename("conv3.conv.", "own.shortcut."), *table)
    module = ChainSpec(layers={"own": spec}).build(Signal(c["in_channels"]))
    parity.load(module, table, weights(case), dtype)
    with torch.no_grad():
        return {"output": module(given(case, "x", dtype))}


def channel_to_time(case: Case, dtype: torch.dtype) -> Outputs:
    x = given(case, "x", dtype)
    return {"output": ChannelToTimeSpec(factor=case.config["ts"]).build(Signal(x.shape[1]))(x)}


def gaussian(case: Case, dtype: torch.dtype) -> Outputs:
    spec, noise = PosteriorSpec(limits=LIMITS), given(case, "noise", dtype)
    one, other = (spec.posterior(given(case, name, dtype), Fit(1, 1, 1)) for name in ("parameters", "other"))
    return {
        "logvar": one.logvar,
        "std": one.std,
        "var": one.std**2,
        "sample": one.sample(noise=noise),
        "kl": one.kl(),
        "mode": one.mode(),
        "other_sample": other.sample(noise=noise),
        "other_kl": other.kl(),
        "kl_d_other": one.kl(other),
        "kl_other_d": other.kl(one),
        "nll_other": other.nll(given(case, "nll_sample", dtype)),
        # what the code calls a deterministic posterior is the mode: it spreads over nothing
        "deterministic_sample": other.mode(),
        "deterministic_std": torch.zeros_like(other.mean),
        "deterministic_kl": torch.zeros(1, dtype=dtype),
    }


HANDLERS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "VAE_Temporal": run_model,
    "VideoAutoencoderKL": run_model,
    "VideoAutoencoderPipeline": run_model,
    "OpenSoraVAE_V1_2": run_model,
    "CausalConv3d": causal_conv,
    "ResBlock": residual,
    "Decoder": channel_to_time,
    "DiagonalGaussianDistribution": gaussian,
}
