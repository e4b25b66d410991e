"""Clips in tiles, by the rules of the releases, against what the published code returned."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import parity
from tests.arch import test_image_vae_parity as image
from tests.arch import test_od_vae_parity as od
from tests.arch import test_reducio_parity as reducio
from tests.arch import test_tae_parity as tae
from tests.parity import Case
from vvae.arch.image_vae import tiling_rule as image_rule
from vvae.arch.od_vae import tiling_rule as od_tiling_rule
from vvae.arch.reducio import tiling_rule as reducio_rule
from vvae.arch.tae import tiling_rule as tae_rule
from vvae.tiling import PublishedTiling, Tiles, TilingRule, published

Outputs = Mapping[str, Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@DTYPES
@pytest.mark.parametrize("case", [case for arch in parity.TILED for case in parity.cases(arch, about="tiles")])
def test_parity_in_tiles(case: Case, dtype: torch.dtype) -> None:
    for start, run in CALLS[case.arch].items():
        if case.call.startswith(start):
            with torch.no_grad():
                case.check(run(case, dtype), dtype)
            return
    raise AssertionError(f"not understood: {case.call}")


# --------------------------------------------------------------------------- image VAE


def image_tiles(case: Case, dtype: torch.dtype) -> Outputs:
    model, x, z = image.model_of(case, dtype), image.image(case, "x", dtype), image.image(case, "z", dtype)
    sizes = [case.data[f"tile_{name}"] for name in ("sample_min_size", "latent_min_size", "overlap_factor")]
    tiled = published(model, image_rule(*sizes))
    return image.images(
        {
            "moments": tiled.moments(x, framing="published"),
            "decoded": tiled.decode(z),
            "moments_untiled": model.encoder(x),
            "decoded_untiled": model.decode(z),
        }
    )


def image_slices(case: Case, dtype: torch.dtype) -> Outputs:
    """The published switch runs the elements of a batch one by one; so does this."""
    model = image.model_of(case, dtype)
    moments = [model.encoder(x) for x in image.image(case, "x", dtype).split(1)]
    decoded = [model.decode(z) for z in image.image(case, "z", dtype).split(1)]
    return image.images({"moments": torch.cat(moments), "decoded": torch.cat(decoded)})


# --------------------------------------------------------------------------- OD-VAE

OD_SIZES: Mapping[str, Mapping[str, Any]] = {
    "v1.0.0": {"overlap": 0.25},
    "v1.1.0": {"overlap": 0.25, "frames": 65, "positions": 17},
    "v1.2.0": {"overlap": 0.125, "frames": 33, "positions": 16},
    "main": {"sample": 512000, "latent": 64, "frames": 33, "positions": 5, "shared": 2},
}
"""The sizes of each class where a case does not set them. main is no release."""
OD_ATTRIBUTES = {
    "tile_sample_min_size": "sample",
    "tile_latent_min_size": "latent",
    "tile_overlap_factor": "overlap",
    "tile_sample_min_size_t": "frames",
    "tile_latent_min_size_t": "positions",
    "tile_overlap_t": "shared",
}


def od_rule(case: Case) -> TilingRule:
    release = case.data["release"]
    given = {OD_ATTRIBUTES[name]: size for name, size in case.data["attributes"].items() if name != "use_tiling"}
    if release == "v1.0.0":  # its class has no chunks
        given = {name: size for name, size in given.items() if name not in ("frames", "positions")}
    rule = od_tiling_rule(**{**OD_SIZES[release], **given})
    if not case.call.startswith("tiled_"):
        return rule
    # what is called here cuts in space alone, and whatever the size
    return TilingRule(encode=Tiles(space=rule.encode.space), decode=Tiles(space=rule.decode.space))


def od_tiles(case: Case, dtype: torch.dtype) -> PublishedTiling:
    return published(od.model_of(case, dtype), od_rule(case), as_published=True)


def od_encode(case: Case, dtype: torch.dtype) -> Outputs:
    tiled = od_tiles(case, dtype)
    given = {name.partition("_")[2]: case.input(name, dtype) for name in case.data["inputs"]}
    return {f"moments_{name}": tiled.moments(x, framing="published") for name, x in given.items()}


def od_decode(case: Case, dtype: torch.dtype) -> Outputs:
    tiled = od_tiles(case, dtype)
    given = {name.partition("_")[2]: case.input(name, dtype) for name in case.data["inputs"]}
    return {f"reconstruction_{name}": tiled.decode(z) for name, z in given.items()}


# --------------------------------------------------------------------------- Reducio


def reducio_tiles(case: Case, dtype: torch.dtype) -> PublishedTiling:
    model, sample = reducio.model_of(case, dtype), case.config["tile_sample_min_size"]
    rule = reducio_rule(sample, sample // model.spec.cell, case.config["tile_overlap_factor"])
    return published(model, rule, as_published=True)


def reducio_parts(case: Case, dtype: torch.dtype) -> Outputs:
    tiled = reducio_tiles(case, dtype)
    features = tiled.content(case.input("content", dtype))
    names = list(tiled.model.spec.content.stages)
    wanted = [name for name in case.data["outputs"] if name.startswith("feature_")]
    places = {
        name: [int(number) for number in re.fullmatch(r"feature_(\d)(\d)_(\d)", name).groups()] for name in wanted
    }
    return {
        "moments": tiled.moments(case.input("video", dtype), framing="published"),
        "reconstruction": tiled.decode(case.input("latents", dtype), content=features),
        **{name: features[row][column][names[k]].squeeze(2) for name, (row, column, k) in places.items()},
    }


def reducio_forward(case: Case, dtype: torch.dtype) -> Outputs:
    """Tiles only what is higher than one of them, however wide."""
    tiled, x = reducio_tiles(case, dtype), case.input("video", dtype)
    way = tiled if x.shape[3] > tiled.rule.encode.space.window else tiled.model
    posterior = way.encode(x, framing="published")
    motion = tiled.model.scaling.normalize(posterior.sample(noise=case.input("noise", dtype)))
    return {
        "moments": torch.cat([posterior.mean, posterior.logvar], 1),
        "motion": motion,
        "reconstruction": way.decode(motion, content=posterior.content),
    }


# --------------------------------------------------------------------------- TAE


def tae_tiles(case: Case, dtype: torch.dtype) -> PublishedTiling:
    given = {name.removesuffix("_tile"): size for name, size in case.data["constructor"].items() if name != "use_tile"}
    return published(tae.model_of(case, dtype), tae_rule(**{n.removeprefix("decode_"): s for n, s in given.items()}))


def tae_decode(case: Case, dtype: torch.dtype) -> Outputs:
    frames = re.search(r"target_num_frames=(\d+)", case.data["call"])
    z = case.input("latent", dtype)
    return {"output": tae_tiles(case, dtype).decode(z, frames=int(frames[1]) if frames else None)}


def tae_encode(case: Case, dtype: torch.dtype) -> Outputs:
    posterior = tae_tiles(case, dtype).encode(case.input("video", dtype), framing="published")
    return {"mean": posterior.mean, "logvar": posterior.logvar}


def tae_forward(case: Case, dtype: torch.dtype) -> Outputs:
    tiled, x = tae_tiles(case, dtype), case.input("video", dtype)
    posterior = tiled.encode(x, framing="published")
    z = posterior.sample(noise=case.input("noise", dtype))
    reconstruction = tiled.decode(z, frames=x.shape[2])
    return {"reconstruction": reconstruction, "z": z, "mean": posterior.mean, "logvar": posterior.logvar}


CALLS: Mapping[str, Mapping[str, Callable[[Case, torch.dtype], Outputs]]] = {
    "image_vae": {"enable_tiling()": image_tiles, "enable_slicing()": image_slices},
    "od_vae": {"encode": od_encode, "tiled_encode#d": od_encode, "decode": od_decode, "tiled_decode#d": od_decode},
    "reducio": {"tiled: posterior": reducio_parts, "forward(video)": reducio_forward},
    "tae": {"decode(z": tae_decode, "encode(x)": tae_encode, "construct(x)": tae_forward},
}
