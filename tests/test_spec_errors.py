"""Every SpecError in the package has a bad spec here that meets it; a new one fails until it has one."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest
import torch
from torch import nn

import vvae
from tests.test_renewed_content import WRONG as RENEWED
from tests.test_renewed_content import spec as renewed_content
from vvae import Affine, ClipNorm, FrameLayerSpec, Framing, PosteriorSpec, Signal, SpecError, VideoAutoencoderSpec
from vvae.arch import image_vae, iv_vae, od_vae, od_vae_streaming, open_sora, open_sora_causal, reducio, tae, wan
from vvae.arch.image_vae import published_fields as image_vae_fields
from vvae.arch.image_vae import renames
from vvae.arch.inflate import one_half
from vvae.arch.od_vae_names import published_fields as od_vae_fields
from vvae.arch.open_sora import published_fields as open_sora_fields
from vvae.arch.open_sora import renames as open_sora_names
from vvae.arch.reducio_names import published_fields as reducio_fields
from vvae.arch.tae import published_fields as tae_fields
from vvae.arch.wan import published_fields as wan_fields
from vvae.arch.wan import renames as wan_names
from vvae.content import ContentSpec
from vvae.layers import (
    AfterLeadSpec,
    Average3dSpec,
    BetweenKeyframesSpec,
    CausalConv3dSpec,
    CausalDownsample3dSpec,
    ChannelInterleaveSpec,
    ChannelRMSNormSpec,
    ChannelToTimeSpec,
    ClampSpec,
    ContentAttentionSpec,
    Conv3dSpec,
    DepthToSpaceSpec,
    Downsample3dSpec,
    FillFrontSpec,
    FrameAttentionSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    GroupCausalConv3dSpec,
    KeyframeBranchesSpec,
    LeadPassesBySpec,
    LearnedMixSpec,
    LoneFramesSpec,
    LookAheadConvSpec,
    MisfoldedAttentionSpec,
    PosteriorDrawSpec,
    ResidualSpec,
    SiLUSpec,
    SpatialDownsampleSpec,
    SpatialUpsampleSpec,
    TemporalConvSpec,
    TemporalConvUpsampleSpec,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
    TimePositionsSpec,
    Upsample3dSpec,
    WithContentSpec,
    chain,
    opaque,
    parallel,
    per_part,
)
from vvae.spec import LayerSpec, layer_from_json

PACKAGE = Path(vvae.__file__).parent
ELSEWHERE = ("published", "training", "models", "tiling")  # tested beside their own code
Site = tuple[str, str, int]
"""File, function, and the how-many-eth `raise SpecError` of that function."""


def raises(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Raise]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        name = f"{inside}.{node.name}".lstrip(".") if named else inside  # type: ignore[attr-defined]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "SpecError":
            yield name, node
        yield from raises(node, name)


def sites() -> dict[Site, tuple[str, range]]:
    """Every site, with its file and lines."""
    found: dict[Site, tuple[str, range]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE)
        if place.parts[0] in ELSEWHERE:
            continue
        for function, node in raises(ast.parse(file.read_text())):
            index = sum(1 for known in found if known[:2] == (str(place), function))
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[str(place), function, index] = (str(file), lines)
    return found


def lines_run(call: Callable[[], object]) -> tuple[SpecError, set[tuple[str, int]]]:
    """The SpecError that a call raises, and every line of the package that ran."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(SpecError) as caught:
            call()
    finally:
        sys.settrace(before)
    return caught.value, seen


# --------------------------------------------------------------------------- specs that nobody else has


class RaggedSpec(FrameLayerSpec):
    """Drops a frame of clips that are not whole groups, without a word of it in its trace."""

    kind: Literal["tests.ragged"] = "tests.ragged"

    def trace(self, signal: Signal) -> Signal:
        return signal

    def frames(self, signal: Signal, frames: int) -> int:
        return frames // 2 * 2


class NoisySpec(FrameLayerSpec):
    """Wants noise."""

    kind: Literal["tests.noisy"] = "tests.noisy"

    def trace(self, signal: Signal) -> Signal:
        return signal

    def draws(self, signal: Signal) -> dict[str, Signal]:
        return {"": signal}


class UnwritableSpec(FrameLayerSpec):
    """Holds something that JSON does not know."""

    kind: Literal["tests.unwritable"] = "tests.unwritable"
    call: Callable[[], None]


def _second_of_a_kind() -> None:
    class _Silent(FrameLayerSpec):
        kind: Literal["silu"] = "silu"


# --------------------------------------------------------------------------- one bad spec for each site

SILU = SiLUSpec()
CONV, WIDER = FrameConv2dSpec(channels=4), FrameConv2dSpec(channels=5)
PIXELS = Signal(4, lead=1, group=4)
NETWORK = {"ch": 4, "ch_in": 4, "ch_mult": [1], "num_res_blocks": 1, "in_channels": 3, "z_channels": 4, "f_t": 0}
FUSED = {"ch_fuse": [-1], "fuse_mid": False, "pos_embed_mode": "t", "temp_res": 4, "resolution": 4}
REDUCIO = {
    "ddconfig": {**NETWORK, **FUSED, "upsample_first": True, "fuse_type": "attn"},
    "ddconfig_2d": NETWORK,
    "embed_dim": 4,
}
COMPOSE, CONVS, KEYFRAME, SPACE = "layers/compose.py", "layers/conv.py", "layers/keyframe.py", "layers/space.py"

WIRING: dict[Site, tuple[LayerSpec, Signal]] = {
    ("layers/attention.py", "_AttentionSpec.trace", 0): (FrameAttentionSpec(heads=3), PIXELS),
    ("layers/content.py", "feature", 0): (ContentAttentionSpec(content="image"), PIXELS),
    ("layers/content.py", "TimePositionsSpec.trace", 0): (TimePositionsSpec(length=4), PIXELS),
    ("layers/content.py", "WithContentSpec.trace", 0): (WithContentSpec(layers={"wider": WIDER}), PIXELS),
    ("layers/conv3d.py", "Conv3dSpec.trace", 0): (Conv3dSpec(channels=4, kernel=(3, 2, 3)), PIXELS),
    ("layers/resample3d.py", "_ShrinkSpec.trace", 0): (Downsample3dSpec(channels=4), PIXELS),
    ("layers/resample3d.py", "Downsample3dSpec.trace", 0): (Downsample3dSpec(channels=4, kernel=1), PIXELS),
    ("layers/resample3d.py", "Upsample3dSpec.trace", 0): (Upsample3dSpec(channels=4, kernel=2), PIXELS),
    ("layers/resample3d.py", "Upsample3dSpec.trace", 1): (Upsample3dSpec(channels=4), PIXELS),
    (COMPOSE, "CompositeSpec.trace_children", 0): (chain(training=SILU), PIXELS),
    (COMPOSE, "_agree", 0): (ResidualSpec(layers={"conv": FrameConv2dSpec(channels=5)}), PIXELS),
    (COMPOSE, "ResidualSpec.trace", 0): (ResidualSpec(layers={"shortcut": SILU}), PIXELS),
    (COMPOSE, "PerPartSpec.inputs", 0): (per_part(a=SILU, b=SILU, c=SILU), PIXELS),
    (COMPOSE, "AfterLeadSpec.trace", 0): (AfterLeadSpec(layers={"lead": SILU}), PIXELS),
    (COMPOSE, "AfterLeadSpec.trace", 1): (AfterLeadSpec(layers={}, on_lead=TemporalRepeatSpec()), PIXELS),
    ("layers/lone.py", "LoneFramesSpec.trace", 0): (LoneFramesSpec(layers={"draw": NoisySpec()}), PIXELS),
    ("layers/lone.py", "LoneFramesSpec.trace", 1): (LoneFramesSpec(layers={"at_once": SILU}), PIXELS),
    ("layers/lone.py", "LoneFramesSpec.trace", 2): (LoneFramesSpec(layers={"inner": BetweenKeyframesSpec()}), PIXELS),
    (CONVS, "FrameConv2dSpec.trace", 0): (FrameConv2dSpec(channels=4, kernel=2), PIXELS),
    (CONVS, "CausalConv3dSpec.trace", 0): (CausalConv3dSpec(channels=4, kernel=(3, 2, 3)), PIXELS),
    (CONVS, "CausalConv3dSpec.trace", 1): (CausalConv3dSpec(channels=4, stride=3), PIXELS),
    (CONVS, "GroupCausalConv3dSpec.trace", 0): (GroupCausalConv3dSpec(channels=4), Signal(4, lead=2, group=4)),
    (CONVS, "GroupCausalConv3dSpec.trace", 1): (GroupCausalConv3dSpec(channels=4, group=3), PIXELS),
    (CONVS, "GroupCausalConv3dSpec.trace", 2): (GroupCausalConv3dSpec(channels=4, skip=4), PIXELS),
    (CONVS, "GroupCausalConv3dSpec.trace", 3): (GroupCausalConv3dSpec(channels=4, kernel=2), PIXELS),
    ("layers/causal_resample.py", "CausalDownsample3dSpec.trace", 0): (
        CausalDownsample3dSpec(channels=4, kernel=1),
        PIXELS,
    ),
    ("layers/misfolded.py", "MisfoldedAttentionSpec.trace", 0): (MisfoldedAttentionSpec(heads=3), PIXELS),
    ("layers/mix.py", "LearnedMixSpec.trace", 0): (LearnedMixSpec(branches={"a": SILU}), PIXELS),
    ("layers/mix.py", "LearnedMixSpec.trace", 1): (LearnedMixSpec(branches={"a": SILU, "factor": SILU}), PIXELS),
    ("layers/mix.py", "LearnedMixSpec.trace", 2): (
        LearnedMixSpec(branches={"a": SILU, "b": chain(conv=WIDER)}),
        PIXELS,
    ),
    (KEYFRAME, "BetweenKeyframesSpec.trace", 0): (BetweenKeyframesSpec(), Signal(4)),
    (KEYFRAME, "KeyframeBranchesSpec.trace", 0): (KeyframeBranchesSpec(keyframe=SILU, between=SILU), Signal(4)),
    (KEYFRAME, "KeyframeBranchesSpec.trace", 1): (KeyframeBranchesSpec(keyframe=SILU, between=SILU), PIXELS),
    ("layers/lead.py", "LeadPassesBySpec.trace", 0): (LeadPassesBySpec(layers={"lead": SILU}), PIXELS),
    ("layers/lead.py", "LeadPassesBySpec.trace", 1): (LeadPassesBySpec(layers={"conv": WIDER}), PIXELS),
    ("layers/look_ahead.py", "LookAheadConvSpec.trace", 0): (LookAheadConvSpec(channels=4), Signal(3, lead=2)),
    ("layers/front.py", "_FrontSpec.trace", 0): (FillFrontSpec(), PIXELS),
    ("layers/latent.py", "PosteriorDrawSpec.trace", 0): (PosteriorDrawSpec(), Signal(3)),
    ("layers/norm.py", "ChannelRMSNormSpec.trace", 0): (ChannelRMSNormSpec(parts=3), PIXELS),
    ("layers/norm.py", "_GroupNormSpec.trace", 0): (FrameGroupNormSpec(groups=3), PIXELS),
    ("layers/conv25.py", "TemporalConvSpec.trace", 0): (TemporalConvSpec(channels=4, kernel=1), PIXELS),
    ("layers/conv25.py", "TemporalConvSpec.trace", 1): (TemporalConvSpec(channels=4, ahead=3), PIXELS),
    ("layers/conv25.py", "TemporalConvSpec.trace", 2): (TemporalConvSpec(channels=4, stride=2), PIXELS),
    ("layers/ragged_time.py", "TemporalConvUpsampleSpec.trace", 0): (
        TemporalConvUpsampleSpec(channels=4, kernel=2),
        Signal(4),
    ),
    ("layers/ragged_time.py", "TemporalConvUpsampleSpec.trace", 1): (TemporalConvUpsampleSpec(channels=4), PIXELS),
    (SPACE, "SpatialDownsampleSpec.trace", 0): (SpatialDownsampleSpec(channels=4, kernel=1), PIXELS),
    (SPACE, "SpatialUpsampleSpec.trace", 0): (SpatialUpsampleSpec(channels=4, kernel=2), PIXELS),
    (SPACE, "DepthToSpaceSpec.trace", 0): (DepthToSpaceSpec(factor=3), PIXELS),
    (SPACE, "ChannelInterleaveSpec.trace", 0): (ChannelInterleaveSpec(outer=3, inner=1), PIXELS),
    ("layers/time.py", "_TimeSpec._fewer", 0): (TemporalSubsampleSpec(), PIXELS),
    ("layers/time.py", "_TimeSpec._more", 0): (TemporalRepeatSpec(), PIXELS),
    ("layers/time.py", "ChannelToTimeSpec.trace", 0): (ChannelToTimeSpec(factor=3), PIXELS),
}
"""Specs that cannot stand behind a signal."""


def autoencoder(encoder: LayerSpec, decoder: LayerSpec = CONV, **fields: Any) -> VideoAutoencoderSpec:
    return VideoAutoencoderSpec(
        name="bad", encoder=encoder, decoder=decoder, framing=Framing(lead=1, group=4), **fields
    )


def iv_vae_in_pieces(frames: int) -> VideoAutoencoderSpec:
    spec = iv_vae("z4_dim64")
    return spec.replace(framing=spec.framing.replace(piece=frames))


def renewed(what: str) -> VideoAutoencoderSpec:
    """A spec whose content is renewed every few frames, wrong in one place."""
    return renewed_content(**RENEWED[what][0])


THREE = FrameConv2dSpec(channels=3)
LOSING = chain(losing=RaggedSpec(), conv=THREE)
TWICE_AT_LEVEL_1 = {"encoder_spatial_downsample": ["", "Spatial2xTime2x3DDownsample", "", ""]}
UP_TO_LEVEL_9 = od_vae.variants["v1_2"]["encoder"].replace(attention=(9,))

CALLS: dict[Site, Callable[[], object]] = {
    ("arch/image_vae.py", "ImageVAEFields._fit_each_other", 0): partial(image_vae, encoder_attention=(4,)),
    ("arch/image_vae.py", "ImageVAEFields._fit_each_other", 1): partial(image_vae, "sd3", inner_channels=4),
    ("arch/iv_vae.py", "IVVAEFields._fit_each_other", 0): partial(iv_vae, latent_channels=3),
    ("arch/iv_vae.py", "IVVAEFields._fit_each_other", 1): partial(iv_vae, temporal=(True,)),
    ("arch/iv_vae.py", "IVVAEFields._fit_each_other", 2): partial(iv_vae, encoder_attention=(7,)),
    ("arch/iv_vae.py", "IVVAEFields._fit_each_other", 3): partial(
        iv_vae, width=1, multipliers=(1, 1), temporal=(True,)
    ),
    ("arch/open_sora.py", "OpenSoraFields._fit_each_other", 0): partial(open_sora, temporal=(True,)),
    ("arch/open_sora.py", "renames", 0): partial(open_sora_names, open_sora(), "temporal"),
    ("arch/od_vae.py", "ODVAEFields._fit_each_other", 0): partial(od_vae, multipliers=(1, 2, 4)),
    ("arch/od_vae.py", "ODVAEFields._fit_each_other", 1): partial(od_vae, "v1_1", encoder_time=("joint",) * 4),
    ("arch/od_vae.py", "ODVAEFields._fit_each_other", 2): partial(od_vae, encoder=UP_TO_LEVEL_9),
    ("arch/od_vae.py", "ODVAEFields._fit_each_other", 3): partial(od_vae, inner_channels=8, moments_conv=False),
    ("arch/od_vae.py", "od_vae_streaming", 0): partial(od_vae_streaming, encoder_attend="time"),
    ("arch/od_vae_names.py", "_half", 0): partial(od_vae_fields, TWICE_AT_LEVEL_1),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._version", 0): partial(autoencoder, CONV, format=2, unheard_of=1),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._wiring", 0): partial(autoencoder, SpatialUpsampleSpec(channels=4)),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._wiring", 1): partial(autoencoder, CONV),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._wiring", 2): partial(
        autoencoder, CONV, THREE, content=ContentSpec(stages={"image": CONV})
    ),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._wiring", 3): partial(iv_vae_in_pieces, 3),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._check_renewal", 0): partial(renewed, "pieces"),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._check_renewal", 1): partial(renewed, "half_groups"),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._check_renewal", 2): partial(renewed, "clip_norm"),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._check_renewal", 3): partial(renewed, "whole_clip_norm"),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._check_renewal", 4): partial(renewed, "look_ahead"),
    ("autoencoder_spec.py", "VideoAutoencoderSpec._pass", 0): lambda: autoencoder(CONV, LOSING)._pass(5),
    ("arch/image_vae.py", "_compvis_fields", 0): partial(
        image_vae_fields, {"ddconfig": {"give_pre_end": True}, "embed_dim": 4}
    ),
    ("arch/inflate.py", "one_half", 0): partial(one_half, od_vae("v1_2")),
    ("arch/inflate.py", "_half", 0): lambda: one_half(
        iv_vae("z4_dim64").replace_at("encoder.conv_in", LoneFramesSpec(layers={"conv": FrameConv2dSpec(channels=128)}))
    ),
    ("arch/tae.py", "TAEFields._fit_each_other", 0): partial(tae, temporal_down=(4,)),
    ("arch/tae.py", "TAEFields._fit_each_other", 1): partial(tae, temporal_down=(0, 1)),
    ("arch/tae.py", "TAEFields._fit_each_other", 2): partial(tae, blocks=0),
    ("arch/wan.py", "WanFields._fit_each_other", 0): partial(wan, multipliers=(1, 2)),
    ("arch/wan.py", "scaling", 0): partial(wan_fields, {"latents_std": [1.0, 0.0]}),
    ("arch/wan.py", "published_fields", 0): partial(wan_fields, {"is_residual": True}),
    ("gaussian.py", "PosteriorSpec.channels", 0): partial(autoencoder, FrameConv2dSpec(channels=5)),
    ("scaling.py", "Affine.check", 0): partial(autoencoder, CONV, latent=Affine(shift=(0.0, 0.0, 0.0))),
    ("scaling.py", "Affine.check", 1): partial(autoencoder, FrameConv2dSpec(channels=6), latent=Affine(scale=0.0)),
    ("gaussian.py", "PosteriorSpec._ordered", 0): partial(PosteriorSpec, limits=(3.0, -3.0)),
    ("scaling.py", "ClipNorm.restore", 0): partial(ClipNorm().restore, torch.zeros(1, 2, 1, 2, 2)),
    ("content.py", "ContentSpec.trace", 0): partial(ContentSpec(stages={"a": TemporalRepeatSpec()}).trace, Signal(3)),
    ("layers/content.py", "TimePositionsSpec.frames", 0): partial(TimePositionsSpec(length=4).frames, Signal(3), 5),
    ("layers/resample3d.py", "_ShrinkSpec.frames", 0): partial(Average3dSpec().frames, Signal(3, group=2), 1),
    ("arch/reducio.py", "ReducioVAEFields._fit_each_other", 0): partial(reducio, fuse=(None, 1)),
    ("arch/reducio.py", "ReducioVAEFields._fit_each_other", 1): partial(reducio, time_halvings=6),
    ("arch/reducio.py", "ReducioVAEFields._fit_each_other", 2): partial(reducio, fuse=(None,) * 5 + (5,)),
    ("arch/reducio_names.py", "_fusion_of", 0): partial(
        reducio_fields, {**REDUCIO, "ddconfig": {**REDUCIO["ddconfig"], "fuse_type": "atn"}}
    ),
    (COMPOSE, "_agree_in_frames", 0): partial(parallel(a=RaggedSpec(), b=SILU).frames, Signal(4, group=2), 3),
    ("layers/activation.py", "ClampSpec._ordered", 0): partial(ClampSpec, least=1.0),
    ("layers/latent.py", "PosteriorDrawSpec._ordered", 0): partial(PosteriorDrawSpec, limits=(3.0, -3.0)),
    ("layers/opaque.py", "OpaqueSpec.to_json", 0): opaque(nn.Conv3d(3, 3, 1), 3).to_json,
    ("spec.py", "one_of", 0): partial(iv_vae, "z16_dim65"),
    ("spec.py", "Spec.to_json", 0): UnwritableSpec(call=_second_of_a_kind).to_json,
    ("spec.py", "Spec.replace_at", 0): partial(iv_vae().replace_at, "encoder.level9", SILU),
    ("spec.py", "Spec.replace_at", 1): partial(iv_vae().replace_at, "encoder.level0", "silu"),
    ("spec.py", "LayerSpec.__pydantic_init_subclass__", 0): _second_of_a_kind,
    ("spec.py", "LayerSpec.whole_groups", 0): partial(GroupCausalConv3dSpec(channels=4).frames, PIXELS, 3),
    ("spec.py", "_resolve", 0): partial(layer_from_json, '{"kind": "chian", "layers": {}}'),
}
"""What else goes wrong."""

SITES = sites()
REPAIR = re.compile(
    r"\b(must|takes?|give|use|choose|need(s|ed)?|near it|wrap|make|import|install|write|change|holds)\b"
)


def test_each_raise_of_a_spec_error_has_a_bad_spec() -> None:
    assert WIRING.keys() | CALLS.keys() == SITES.keys()


@pytest.mark.parametrize("site", sorted(SITES), ids=lambda site: "-".join(map(str, site)))
def test_bad_spec_meets_its_raise_and_is_told_what_to_do(site: Site) -> None:
    spec, signal = WIRING.get(site, (None, PIXELS))
    error, ran = lines_run(CALLS[site] if spec is None else partial(spec.trace, signal))
    file, lines = SITES[site]
    assert any((file, line) in ran for line in lines), f"another error came first: {error}"
    assert "\n" not in str(error)
    assert REPAIR.search(error.message), f"says nothing of what is legal or what to do: {error.message}"


UNKNOWN: tuple[Callable[[], object], ...] = (
    partial(image_vae, "sd4"),
    partial(renames, image_vae(), "ldm"),
    partial(iv_vae, "z16_dim65"),
    partial(open_sora_causal, "v1_3"),
    partial(open_sora_fields, {"activation_fn": "gelu"}),
    partial(od_vae, "v1_3"),
    partial(od_vae, layout="outer_3d"),
    partial(od_vae_fields, {"encoder_attention": "AttnBlock4D"}),
    partial(tae, "one"),
    partial(tae_fields, {"attn_type": "linear"}),
    partial(wan, "2.2"),
    partial(wan_names, wan(), "compvis"),
    partial(reducio, "ft8"),
)
"""Names that an architecture does not know: of a variant, a layout, a naming, an option of the published code."""


@pytest.mark.parametrize("call", UNKNOWN)
def test_an_unknown_name_stands_beside_those_near_it(call: Callable[[], object]) -> None:
    with pytest.raises(SpecError, match=r"^\w+( \w+)? '.*' is unknown; near it: \w"):
        call()


@pytest.mark.parametrize("site", sorted(WIRING), ids=lambda site: "-".join(map(str, site)))
def test_wiring_error_is_led_by_the_dotted_path(site: Site) -> None:
    spec, signal = WIRING[site]
    with pytest.raises(SpecError) as caught:
        chain(fine=SILU, outer=ResidualSpec(layers={"inner": parallel(bad=spec)})).trace(signal)
    assert str(caught.value).startswith("outer.inner.bad")
    assert caught.value.path[:3] == ("outer", "inner", "bad")


@pytest.mark.parametrize("site", sorted(WIRING), ids=lambda site: "-".join(map(str, site)))
def test_wiring_error_is_found_when_a_model_is_described(site: Site) -> None:
    spec, signal = WIRING[site]
    framing = Framing(channels=signal.channels, lead=signal.lead, group=signal.group)
    assert signal.stride == Fraction(1)
    with pytest.raises(SpecError, match=r"^encoder\.first\b"):
        VideoAutoencoderSpec(name="bad", encoder=chain(first=spec), decoder=CONV, framing=framing)
