"""The image VAE against what its two published implementations returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from tests import parity
from tests.parity import Case
from vvae.arch import image_vae
from vvae.arch.image_vae import (
    NAMINGS,
    attention_names,
    block,
    block_names,
    blocks,
    level_names,
    middle,
    published_fields,
    renames,
)
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import SpecError
from vvae.framing import Fit
from vvae.gaussian import PosteriorSpec
from vvae.layers import (
    ChainSpec,
    FrameGroupNormSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    attention_block,
)
from vvae.published.renames import to_published
from vvae.published.table import Rename
from vvae.signal import Signal
from vvae.spec import LayerSpec

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
DIFFUSERS, COMPVIS = NAMINGS["diffusers"], NAMINGS["compvis"]


@DTYPES
@pytest.mark.parametrize("case", parity.cases("image_vae"))
def test_parity(case: Case, dtype: torch.dtype) -> None:
    run = HANDLERS.get(case.data["published_class"].partition(" (")[0])
    assert run is not None, f"not understood: {case.data['published_class']}"
    case.check(run(case, dtype), dtype)


def image(case: Case, name: str, dtype: torch.dtype) -> Tensor:
    """The input of that name behind the case's own, as clips of one frame."""
    full = next(given for given in case.data["inputs"] if given.rpartition(".")[2] == name)
    return case.input(full, dtype).unsqueeze(2)


def images(outputs: Outputs) -> Outputs:
    return {name: out.squeeze(2) if out.ndim == 5 else out for name, out in outputs.items()}


# --------------------------------------------------------------------------- whole models


def model_of(case: Case, dtype: torch.dtype) -> VideoAutoencoder:
    model = image_vae(**published_fields(case.config)).build()
    naming = "compvis" if "ddconfig" in case.config else "diffusers"
    parity.load(model, renames(model.spec, naming), case.weights(), dtype)
    return model


def run_model(case: Case, dtype: torch.dtype) -> Outputs:
    for start, run in MODEL_CALLS.items():
        if case.call.startswith(start):
            return images(run(case, dtype))
    raise AssertionError(f"not understood: {case.call}")


def round_trip(case: Case, dtype: torch.dtype) -> Outputs:
    model, x = model_of(case, dtype), image(case, "x", dtype)
    with torch.no_grad():
        posterior = model.encode(x, framing="published")
        return {
            "moments": model.encoder(x),
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "reconstruction": model.decode(posterior),
            "decoded": model.decode(image(case, "z", dtype)),
        }


def sampled(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    with torch.no_grad():
        posterior = model.encode(image(case, "x", dtype), framing="published")
        z = posterior.sample(noise=image(case, "noise", dtype))
        return {"z": z, "output": model.decode(z), "output_mode": model.decode(posterior), "kl": posterior.kl()}


def gradients(case: Case, dtype: torch.dtype) -> Outputs:
    model = model_of(case, dtype)
    x = image(case, "x", dtype).requires_grad_()
    total = (model.decode(model.encode(x, framing="published")) * image(case, "cotangent", dtype)).sum()
    total.backward()
    assert x.grad is not None
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    published = to_published(renames(model.spec), grads)
    wanted = [name.removeprefix("grad.") for name in case.data["outputs"] if name.startswith("grad.")]
    return {"scalar": total, "grad_input": x.grad, **{f"grad.{name}": published[name] for name in wanted}}


MODEL_CALLS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "encode(x).latent_dist -> moments (parameters)": round_trip,
    "encode(x) -> posterior; decode(mode)": round_trip,
    "encode(x).latent_dist.sample() with the normal draw": sampled,
    "s = sum(decode(encode(x).mode()) * cotangent)": gradients,
}


# --------------------------------------------------------------------------- single layers


def unit(case: Case, dtype: torch.dtype, spec: LayerSpec, channels: int, *table: Rename) -> Outputs:
    module = parity.load(spec.build(Signal(channels)), table, case.weights(), dtype)
    with torch.no_grad():
        return images({"output": module(image(case, "x", dtype))})


def inside(name: str, spec: LayerSpec) -> ChainSpec:
    """A layer under a name, for tables that say where it stands."""
    return ChainSpec(layers={name: spec})


def resnet_block(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    norm = FrameGroupNormSpec(groups=c.get("groups", 32), eps=c.get("eps", 1e-6))
    spec = inside("own", block(c["in_channels"], c["out_channels"], norm))
    return unit(case, dtype, spec, c["in_channels"], *block_names("", "own.", DIFFUSERS if "groups" in c else COMPVIS))


def attention(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    norm = FrameGroupNormSpec(groups=c.get("norm_num_groups", 32), eps=c.get("eps", 1e-6))
    spec = inside("own", attention_block(norm=norm, heads=c.get("heads", 1)))
    naming = DIFFUSERS if "query_dim" in c else COMPVIS
    return unit(case, dtype, spec, c.get("query_dim", c.get("in_channels")), *attention_names("", "own.", naming))


def mid_block(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    norm = FrameGroupNormSpec(groups=c["resnet_groups"], eps=c["resnet_eps"])
    spec = middle(c["in_channels"], norm, heads=c["in_channels"] // c["attention_head_dim"])
    table = [
        *block_names("resnets.0.", "block0.", DIFFUSERS),
        *attention_names("attentions.0.", "attend.", DIFFUSERS),
        *block_names("resnets.1.", "block1.", DIFFUSERS),
    ]
    return unit(case, dtype, spec, c["in_channels"], *table)


def level_block(case: Case, dtype: torch.dtype) -> Outputs:
    c, norm = case.config, FrameGroupNormSpec(groups=case.config["resnet_groups"])
    layers = blocks(c["num_layers"], c["in_channels"], c["out_channels"], norm)
    if c.get("add_downsample"):
        layers["down"] = SpatialDownsampleSpec(channels=c["out_channels"])
    if c.get("add_upsample"):
        layers["up"] = SpatialUpsampleSpec(channels=c["out_channels"])
    table = level_names("", "own.", DIFFUSERS)
    return unit(case, dtype, inside("own", ChainSpec(layers=layers)), c["in_channels"], *table)


def resample(case: Case, dtype: torch.dtype) -> Outputs:
    c = case.config
    make = SpatialDownsampleSpec if case.data["published_class"].endswith("Downsample2D") else SpatialUpsampleSpec
    return unit(case, dtype, inside("own", make(channels=c["out_channels"])), c["channels"], Rename("conv.", "own."))


def gaussian(case: Case, dtype: torch.dtype) -> Outputs:
    spec = PosteriorSpec(limits=(-30.0, 20.0))
    one, other = (spec.posterior(image(case, name, dtype), Fit(1, 1, 1)) for name in ("parameters", "other"))
    noise = image(case, "noise", dtype)
    return images(
        {
            "logvar": one.logvar,
            "std": one.std,
            "sample": one.sample(noise=noise),
            "other_sample": other.sample(noise=noise),
            "kl": one.kl(),
            "other_kl": other.kl(),
            "kl_other_d": other.kl(one),
            "nll_other": other.nll(image(case, "nll_sample", dtype)),
        }
    )


HANDLERS: Mapping[str, Callable[[Case, torch.dtype], Outputs]] = {
    "diffusers AutoencoderKL": run_model,
    "CompVis latent-diffusion AutoencoderKL": run_model,
    "diffusers ResnetBlock2D": resnet_block,
    "CompVis ResnetBlock": resnet_block,
    "diffusers Attention": attention,
    "CompVis AttnBlock": attention,
    "diffusers UNetMidBlock2D": mid_block,
    "diffusers DownEncoderBlock2D": level_block,
    "diffusers UpDecoderBlock2D": level_block,
    "diffusers Downsample2D": resample,
    "diffusers Upsample2D": resample,
    "diffusers DiagonalGaussianDistribution": gaussian,
}


# --------------------------------------------------------------------------- the releases

RELEASES = {
    "sd1_5": ("sd", "diffusers"),
    "sd1_5_ldm": ("sd", "compvis"),
    "sdxl": ("sdxl", "diffusers"),
    "sdxl_ldm": ("sdxl", "compvis"),
    "sd3": ("sd3", "diffusers"),
    "sd3_ldm": ("sd3", "compvis"),
}


def strict_round_trip(variant: str, naming: str, released: Mapping[str, Tensor]) -> None:
    """Published tensors into the model by name and shape, and out again, bit for bit."""
    spec = image_vae(variant)
    with torch.device("meta"):
        model: nn.Module = spec.build()
    table = renames(spec, naming)
    model = parity.load(model.to_empty(device="cpu"), table, released, torch.float32)
    exported = to_published(table, model.state_dict())
    assert {n: tuple(t.shape) for n, t in exported.items()} == {n: tuple(t.shape) for n, t in released.items()}
    assert all(torch.equal(exported[name], released[name]) for name in released)


@pytest.mark.thorough  # full size; names, shapes and places of all releases: tests/models/test_full_keys.py
@pytest.mark.parametrize("release", RELEASES)
def test_release_names_load_strictly_and_export_bit_for_bit(release: str) -> None:
    known = parity.full_keys("image_vae")[release]
    strict_round_trip(*RELEASES[release], {name: torch.randn(shape) for name, shape in known["names"].items()})


def test_every_release_is_a_variant_with_its_constants() -> None:
    known = parity.full_keys("image_vae")
    assert known.keys() == RELEASES.keys()
    assert {variant for variant, _ in RELEASES.values()} == image_vae.variants.keys()
    for release, (variant, naming) in RELEASES.items():
        spec, config = image_vae(variant), known[release]["config"]
        if naming == "diffusers":
            assert image_vae(**published_fields(config), name=spec.name) == spec
        assert sum(p.numel() for p in _on_meta(spec).parameters()) == known[release]["parameters"]


def test_old_attention_names_of_diffusers_load_strictly() -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    shapes = dict(parity.full_keys("image_vae")["sd1_5"]["names"])
    for new, name in old.items():
        shapes = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): s for key, s in shapes.items()}
    assert sum("proj_attn" in key for key in shapes) == 4
    strict_round_trip("sd", "diffusers_old", {name: torch.randn(shape) for name, shape in shapes.items()})


def test_both_namings_place_one_tensor_at_one_place() -> None:
    """With one checkpoint under three names the model is the same, attention weights with and without axes of 1."""
    spec = image_vae(widths=(4, 8), blocks=1, groups=2, latent_channels=2)
    weights = spec.build().state_dict()
    for naming in NAMINGS:
        again = spec.build()
        parity.load(again, renames(spec, naming), to_published(renames(spec, naming), weights), torch.float32)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())


def test_attention_at_a_level_has_no_name_in_diffusers() -> None:
    spec = image_vae(widths=(4, 8), blocks=1, groups=2, encoder_attention=(1,), decoder_attention=(0,))
    assert to_published(renames(spec, "compvis"), spec.build().state_dict())
    with pytest.raises(SpecError, match=r"encoder\.level1\.attend0"):
        to_published(renames(spec, "diffusers"), spec.build().state_dict())


def _on_meta(spec: object) -> nn.Module:
    with torch.device("meta"):
        return spec.build()  # type: ignore[attr-defined,no-any-return]


# --------------------------------------------------------------------------- a clip is frames


@torch.no_grad()
def test_a_clip_is_its_frames_each_by_itself() -> None:
    model = image_vae(widths=(4, 8), blocks=1, groups=2, latent_channels=2).build().double()
    clip = torch.rand(2, 3, 5, 6, 10, dtype=torch.float64) * 2 - 1
    whole = model(clip)
    for t in range(5):
        torch.testing.assert_close(whole[:, :, t : t + 1], model(clip[:, :, t : t + 1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", list(image_vae.variants))
def test_no_frame_of_a_release_sees_another(variant: str) -> None:
    spec = image_vae(variant)
    assert (spec.dependency(7) == torch.eye(7, dtype=torch.bool).numpy()).all()
    assert spec.latent_shape(7, 27, 37) == (spec.latents.channels, 7, 4, 5)
    assert spec.stream_limit("encode") is None
    assert spec.stream_limit("decode") is None
