"""Specs as data: frozen, validated, equal after a trip through JSON, changed by path."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from vvae import Affine, ClipNorm, FrameLayerSpec, Framing, PosteriorSpec, Signal, SpecError, VideoAutoencoderSpec
from vvae.arch import iv_vae
from vvae.layers import (
    ChainSpec,
    FrameConv2d,
    FrameConv2dSpec,
    GroupCausalConv3dSpec,
    LookAheadConvSpec,
    PerFrame,
    ResidualSpec,
    SiLUSpec,
    TanhSpec,
    chain,
    opaque,
    parallel,
    residual_block,
)
from vvae.reach import whole_clip
from vvae.spec import LayerSpec, Spec, layer_from_json
from vvae.verify import check_reach, check_spec_json, random_clip

CONV = FrameConv2dSpec(channels=4)
VARIANTS = [None, *iv_vae.variants]  # type: ignore[attr-defined]


def small(**fields: Any) -> VideoAutoencoderSpec:
    """Encoder and decoder of one convolution each."""
    layers: dict[str, Any] = {
        "encoder": chain(conv=FrameConv2dSpec(channels=4)),
        "decoder": FrameConv2dSpec(channels=3),
    }
    return VideoAutoencoderSpec(**{"name": "small", "framing": Framing(), **layers, **fields})


def message(call: Any, *args: Any, **fields: Any) -> str:
    """The one line that a bad spec is refused with."""
    with pytest.raises(SpecError) as caught:
        call(*args, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --------------------------------------------------------------------------- frozen data


def test_spec_fields_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CONV.channels = 5  # type: ignore[misc]


def test_spec_layers_by_name_are_frozen() -> None:
    layers = chain(conv=CONV).layers
    for change in (
        lambda: layers.update(act=SiLUSpec()),
        lambda: layers.pop("conv"),
        lambda: layers.__setitem__("conv", SiLUSpec()),
        lambda: layers.__delitem__("conv"),
        layers.clear,
    ):
        with pytest.raises(TypeError, match="replace_at"):
            change()
    assert list(layers) == ["conv"]


def test_spec_equality_knows_the_order_of_layers() -> None:
    one, other = chain(conv=CONV, act=SiLUSpec()), chain(act=SiLUSpec(), conv=CONV)
    assert one != other
    assert one == chain(conv=CONV, act=SiLUSpec())
    assert hash(one) == hash(chain(conv=CONV, act=SiLUSpec()))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda spec: pickle.loads(pickle.dumps(spec))])
def test_spec_copies_are_equal(make: Any) -> None:
    spec = iv_vae(width=4)
    again = make(spec)
    assert again == spec
    assert again.digest == spec.digest


def test_spec_that_was_traced_equals_a_fresh_one() -> None:
    used, fresh = chain(conv=CONV), chain(conv=CONV)
    used.trace(Signal(3))
    assert used == fresh
    assert used.to_json() == fresh.to_json()


def test_spec_of_a_deep_tree_traces_each_layer_once() -> None:
    class CountingSpec(FrameLayerSpec):
        kind: Literal["tests.counting"] = "tests.counting"

        def trace(self, signal: Signal) -> Signal:
            calls.append(signal)
            return signal

    calls: list[Signal] = []
    spec: LayerSpec = CountingSpec()
    for _ in range(8):
        spec = ResidualSpec(layers={"inner": chain(deeper=spec)})
    spec.trace(Signal(4))
    assert len(calls) <= 8


# --------------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: FrameConv2dSpec(chanels=4), "channels"),
        (lambda: FrameConv2dSpec(channels=4, knernel=3), "kernel"),
        (lambda: Framing(leed=1), "lead"),
        (lambda: small(posterier=PosteriorSpec()), "posterior"),
    ],
)
def test_spec_unknown_keys_are_refused_with_the_nearest(make: Any, told: str) -> None:
    assert told in message(make).partition("near it: ")[2]


@pytest.mark.parametrize(
    "make",
    [
        FrameConv2dSpec,
        lambda: FrameConv2dSpec(channels=0),
        lambda: FrameConv2dSpec(channels=iv_vae()),
        lambda: GroupCausalConv3dSpec(channels=4, kernel=(3, 3)),
        lambda: GroupCausalConv3dSpec(channels=4, before="reflect"),
        lambda: ChainSpec(layers=iv_vae().encoder),
        lambda: ChainSpec(layers={"conv": 3}),
        lambda: parallel(),
        lambda: Framing(group=0),
        lambda: Affine(scale=float("inf")),
        lambda: small(encoder=None),
        lambda: layer_from_json("{"),
        lambda: layer_from_json("[]"),
        lambda: VideoAutoencoderSpec.from_json(""),
    ],
)
def test_spec_bad_values_are_one_line_of_spec_error(make: Any) -> None:
    assert len(message(make)) < 300


def test_spec_error_in_json_is_led_by_the_dotted_path() -> None:
    data = json.loads(iv_vae(width=4).to_json())
    data["encoder"]["layers"]["level0"]["layers"]["block0"]["layers"]["conv_a"]["branches"]["motion"]["channels"] = -1
    told = message(VideoAutoencoderSpec.from_json, json.dumps(data))
    assert told.startswith("encoder.level0.block0.conv_a.motion: channels: ")
    assert "-1" in told


@pytest.mark.parametrize("kind", ["group_casual_conv3d", ["chain"], None, 3])
def test_spec_unknown_kind_lists_the_nearest(kind: object) -> None:
    text = json.dumps({"kind": "chain", "layers": {"conv": {"kind": kind, "channels": 4}}})
    told = message(layer_from_json, text)
    assert told.startswith("conv: kind ")
    assert "near it: " in told
    assert "import the module that defines it" in told
    if kind == "group_casual_conv3d":
        assert "group_causal_conv3d" in told.partition("near it: ")[2]


def test_spec_kind_defined_twice_is_an_error() -> None:
    def again() -> None:
        class OtherSpec(FrameLayerSpec):
            kind: Literal["frame_conv2d"] = "frame_conv2d"

    assert "vvae.layers.conv.FrameConv2dSpec" in message(again)
    assert LayerSpec.kinds["frame_conv2d"] is FrameConv2dSpec


def test_spec_subclass_without_a_kind_of_its_own_is_an_error() -> None:
    def inherits() -> None:
        class MyConvSpec(FrameConv2dSpec):
            pass

    assert "choose another name" in message(inherits)


def test_spec_kind_defined_again_by_the_same_class_is_taken() -> None:
    def define() -> type[LayerSpec]:
        class ReloadedSpec(FrameLayerSpec):
            kind: Literal["tests.reloaded"] = "tests.reloaded"

        return ReloadedSpec

    define()
    second = define()
    assert LayerSpec.kinds["tests.reloaded"] is second


# --------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("grouping", ["derived", "published"])
def test_spec_of_iv_vae_survives_json(variant: str | None, grouping: Literal["derived", "published"]) -> None:
    check_spec_json(iv_vae(variant, grouping=grouping))


@pytest.mark.parametrize(
    "fields",
    [
        {"latent": ClipNorm(eps=1e-4)},
        {"latent": Affine(shift=(0.1, -0.2), scale=1 / 3)},
        {"posterior": PosteriorSpec(limits=(-30.0, 20.0), limits_of="sample")},
    ],
)
def test_spec_of_a_model_survives_json(fields: dict[str, Any]) -> None:
    check_spec_json(small(**fields))


def test_spec_of_a_newer_format_is_refused_by_version() -> None:
    data = json.loads(small().to_json())
    newer = {**data, "format": data["format"] + 1, "new_field": 1, "encoder": {"kind": "invented_later"}}
    told = message(VideoAutoencoderSpec.from_json, json.dumps(newer))
    assert f"format {data['format'] + 1}" in told
    assert f"reads format {data['format']}" in told


# --------------------------------------------------------------------------- changes


def test_replace_validates_and_leaves_the_rest() -> None:
    spec = small()
    other = spec.replace(name="other", latent=Affine(scale=2.0))
    assert (other.name, other.latent, other.encoder) == ("other", Affine(scale=2.0), spec.encoder)
    assert spec == small()
    assert message(spec.replace, decoder=FrameConv2dSpec(channels=5)).startswith("decoder: ")
    assert "near it" in message(spec.replace, nam="other")


def by_path(spec: Spec, at: str = "") -> dict[str, str]:
    """Every layer's own line, by its path."""
    found = {at: repr(spec).splitlines()[0]}
    for name, child in spec.children().items():
        found.update(by_path(child, f"{at}.{name}".lstrip(".")))
    return found


def test_replace_at_changes_one_layer_alone() -> None:
    path = "decoder.level1.block0.conv_a"
    spec = iv_vae(width=4)
    before, after = by_path(spec), by_path(spec.replace_at(path, FrameConv2dSpec(channels=32)))
    assert before[path] == "parallel"
    assert after.pop(path) == "frame_conv2d(channels=32)"
    assert after == {where: line for where, line in before.items() if not where.startswith(path)}
    assert spec == iv_vae(width=4)


def test_replace_at_changes_fields_of_the_layer_there() -> None:
    spec = iv_vae(width=4).replace_at("encoder.level0.block0.conv_a.motion", group=2)
    assert "group=2" in str(spec)
    assert str(spec).count("group=2") == 1


def test_replace_at_validates_the_whole() -> None:
    spec = iv_vae(width=4)
    told = message(spec.replace_at, "decoder.level1.block0.conv_a", FrameConv2dSpec(channels=31))
    assert told.startswith("decoder.level1.block0.")
    told = message(spec.replace_at, "decoder.level1.block0.conv_a.motion", channels=0)
    assert told.startswith("decoder.level1.block0.conv_a.motion: channels: ")


def test_replace_each_changes_every_layer_of_a_class_and_no_other() -> None:
    spec = iv_vae(width=4)
    other = spec.replace_each(FrameConv2dSpec, lambda conv: conv.replace(bias=False))
    wanted = {
        path: line.replace(")", ", bias=False)") if line.startswith("frame_conv2d") else line
        for path, line in by_path(spec).items()
    }
    assert by_path(other) == wanted != by_path(spec)
    assert spec.replace_each(TanhSpec, lambda act: SiLUSpec()) == spec == iv_vae(width=4)


def test_replace_each_names_the_layer_that_cannot_be() -> None:
    told = message(iv_vae(width=4).replace_each, GroupCausalConv3dSpec, lambda conv: conv.replace(channels=0))
    assert told.startswith("encoder.conv_in.motion: channels")


def test_replace_at_an_unknown_path_names_the_nearest() -> None:
    told = message(iv_vae(width=4).replace_at, "decoder.level1.blok0.conv_a", CONV)
    assert told.startswith("decoder.level1.blok0: ")
    assert "block0" in told


@pytest.mark.parametrize("name", ["layers", "kind", "channels", "encoder"])
def test_replace_at_takes_layers_named_like_fields(name: str) -> None:
    spec = ChainSpec(layers={name: CONV}).replace_at(name, SiLUSpec())
    assert spec == ChainSpec(layers={name: SiLUSpec()})


# --------------------------------------------------------------------------- what a person reads


def test_spec_repr_is_a_readable_tree() -> None:
    block = residual_block(GroupCausalConv3dSpec(channels=4), norm=SiLUSpec(), shortcut=FrameConv2dSpec(channels=4))
    spec = small(
        encoder=chain(block=block, out=FrameConv2dSpec(channels=4, kernel=1)), framing=Framing(lead=1, group=4)
    )
    assert (
        repr(spec)
        == """\
VideoAutoencoderSpec(name='small', framing=Framing(lead=1, group=4))
  encoder: chain
    block: residual
      norm_a: silu
      act_a: silu
      conv_a: group_causal_conv3d(channels=4)
      norm_b: silu
      act_b: silu
      conv_b: group_causal_conv3d(channels=4)
      shortcut: frame_conv2d(channels=4)
    out: frame_conv2d(channels=4, kernel=1)
  decoder: frame_conv2d(channels=3)"""
    )


def test_spec_repr_has_one_line_for_each_layer() -> None:
    spec = chain(mlp=opaque(nn.Sequential(nn.Conv3d(3, 3, 1), nn.SiLU()), 3), conv=CONV)
    assert len(str(spec).splitlines()) == 3


# --------------------------------------------------------------------------- before and beside modules


def test_spec_is_checked_without_any_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a module was made")

    monkeypatch.setattr(nn.Module, "__init__", refuse)
    spec = iv_vae("z16_dim64")
    spec.encoder.trace(spec.pixels)
    spec.decoder.trace(spec.latents)
    spec.dependency(9)
    spec.stream_limit("decode")
    told = message(spec.replace_at, "encoder.level1.block0.conv_a.motion", group=3)
    assert told.startswith("encoder.level1.block0.conv_a.motion: groups of 3")
    with pytest.raises(AssertionError, match="a module was made"):
        spec.build()


def test_spec_object_twice_gives_two_modules() -> None:
    module = chain(first=CONV, second=CONV).build(Signal(4))
    first, second = module.children()
    assert first is not second
    assert isinstance(first, FrameConv2d)
    assert not torch.equal(first.weight, second.weight)


def test_two_builds_share_nothing() -> None:
    spec = chain(outer=opaque(PerFrame(nn.Conv2d(4, 4, 1)), 4), conv=CONV)
    one, other = spec.build(Signal(4)), spec.build(Signal(4))
    shared = {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in other.parameters()}
    assert not shared


# --------------------------------------------------------------------------- modules without a spec


class ClipMean(nn.Module):
    """Adds the mean over time."""

    def forward(self, x: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        return x + x.mean(2, keepdim=True)


def test_opaque_module_stands_in_a_spec() -> None:
    spec = chain(conv=CONV, mean=opaque(ClipMean(), 4, reach=whole_clip), image=opaque(PerFrame(nn.Conv2d(4, 2, 1)), 2))
    signal = Signal(3)
    assert spec.trace(signal) == signal.with_channels(2)
    check_reach(spec.build(signal).double(), spec.reach(signal, 4), random_clip(signal, 4, 2, 2))
    assert spec.stream_limit(signal) == "mean: a module without a spec, not said to stream"


def test_opaque_module_that_streams_says_so() -> None:
    spec = chain(image=opaque(PerFrame(nn.Conv2d(4, 2, 1)), 2, streams=True))
    assert spec.stream_limit(Signal(4)) is None


def test_opaque_module_at_the_top_names_its_place_in_the_limit() -> None:
    spec = small(encoder=opaque(ClipMean(), 4, reach=whole_clip))
    assert spec.stream_limit("encode") == "encoder: a module without a spec, not said to stream"


def test_a_norm_over_all_latents_is_taken_of_whole_clips_alone() -> None:
    spec = small(latent=ClipNorm())
    assert spec.stream_limit("encode") is None
    assert spec.stream_limit("decode") == "latent: clip_norm is over all latents of the clip"
    assert small(latent=ClipNorm(), framing=Framing(piece=2)).stream_limit("decode") is None


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_waits_for_later_frames_cannot_stream_from_the_front(part: str) -> None:
    waits = {"encoder": LookAheadConvSpec(channels=4, ahead=1), "decoder": LookAheadConvSpec(channels=3, ahead=1)}
    spec = small(**{part: waits[part]})
    assert spec.stream_limit("encode") is spec.stream_limit("decode") is None
    spec = small(**{part: waits[part]}, framing=Framing(surplus="front"))
    limits = spec.stream_limit("encode") or "", spec.stream_limit("decode") or ""
    assert [limit.partition(":")[0] for limit in limits] == [part * (part == each) for each in ("encoder", "decoder")]


def test_opaque_module_cannot_be_saved(tmp_path: Any) -> None:
    spec = small(encoder=chain(conv=CONV, mean=opaque(ClipMean(), 4, reach=whole_clip)))
    assert message(spec.to_json).startswith("encoder.mean: ClipMean has no spec, so it cannot be saved")
    assert message(spec.build().save, tmp_path / "model.safetensors").startswith("encoder.mean: ")
    assert not list(tmp_path.iterdir())


def test_opaque_model_still_has_a_digest() -> None:
    assert np.array_equal(small(encoder=opaque(ClipMean(), 4)).dependency(3, "encode"), np.eye(3, dtype=bool))
    assert small(encoder=opaque(ClipMean(), 4)).digest != small().digest


# --------------------------------------------------------------------------- the package

EXTRAS = ("hypothesis", "pytest", "av", "typer", "rich", "matplotlib", "PIL", "skimage", "sklearn", "torchmetrics")


def test_package_imports_with_the_core_packages_alone() -> None:
    code = f"""
import sys
for name in {EXTRAS}:
    sys.modules[name] = None
import vvae
spec = vvae.arch.iv_vae(width=4)
vvae.VideoAutoencoderSpec.from_json(spec.to_json()).build()
import vvae.verify
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
