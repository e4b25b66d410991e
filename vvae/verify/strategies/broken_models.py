"""Whole models, values and names that cannot be: each is a sound drawn one in which one thing was broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from pydantic import create_model
from torch import nn

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.content import ContentSpec
from vvae.framing import Framing
from vvae.gaussian import PosteriorSpec
from vvae.layers import (
    AfterLeadSpec,
    Average3dSpec,
    CausalConv3dSpec,
    ClampSpec,
    ClipGroupNormSpec,
    ContentAttentionSpec,
    FrameConv2dSpec,
    GroupCausalConv3dSpec,
    LookAheadConvSpec,
    PosteriorDrawSpec,
    ResidualSpec,
    SpatialRepeatSpec,
    TemporalConvSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    chain,
    opaque,
    parallel,
)
from vvae.scaling import Affine, ClipNorm
from vvae.signal import Signal
from vvae.spec import FrameLayerSpec, LayerSpec, layer_from_json
from vvae.verify.strategies.broken_layers import SILU, sound
from vvae.verify.strategies.layers import LEAVES
from vvae.verify.strategies.models import model_specs


@dataclass(frozen=True)
class Broken:
    """A call that is refused by an error that the regular expression `says` is found in."""

    says: str
    call: Callable[[], object]

    def meet(self) -> object:
        """Raises the SpecError."""
        return self.call()


class Unwritable(FrameLayerSpec):
    """A layer that holds something that JSON does not know; its kind is no name that JSON could be read by."""

    kind: str = "unwritable"
    call: Callable[[], None]


def broken(
    says: str, make: Callable[..., object], *given: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Broken]:
    """`make` called with what is drawn."""
    drawn = st.tuples(st.tuples(*given), st.fixed_dictionaries(fields))
    return drawn.map(lambda both: Broken(says, partial(make, *both[0], **both[1])))


def _replaced(says: str, spoil: Callable[..., dict[str, Any]], *given: st.SearchStrategy[Any], **asked: bool) -> Any:
    """A sound model with other fields, which `spoil` makes of it and of what is drawn beside it."""

    def made(spec: VideoAutoencoderSpec, *drawn: Any) -> Broken:
        return Broken(says, partial(spec.replace, **spoil(spec, *drawn)))

    return st.builds(made, model_specs(**asked), *given)


def _behind(spec: VideoAutoencoderSpec, part: Literal["encoder", "decoder"], layer: LayerSpec) -> dict[str, Any]:
    """One more layer behind a part of the model."""
    return {part: chain(first=getattr(spec, part), last=layer)}


_MODELS: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "format_of_another_version": _replaced(
            "spec of format", lambda spec, number: {"format": number}, st.integers(2, 9)
        ),
        "latents_finer_than_pixels": _replaced(
            "whole number",
            lambda spec: _behind(spec, "encoder", SpatialRepeatSpec(factor=2 * int(spec.latents.stride))),
            content=False,
        ),
        "moments_not_mean_and_logvar": _replaced(
            "must give an even number",
            lambda spec, half: _behind(spec, "encoder", FrameConv2dSpec(channels=2 * half + 1)),
            st.integers(0, 2),
        ),
        "decoder_not_giving_the_pixels": _replaced(
            "but the pixels are",
            lambda spec, more: _behind(spec, "decoder", FrameConv2dSpec(channels=spec.pixels.channels + more)),
            st.integers(1, 3),
        ),
        "content_that_nothing_reads": _replaced(
            "no layer of the decoder reads",
            lambda spec, name: {"content": ContentSpec(stages={name: FrameConv2dSpec(channels=2)})},
            st.sampled_from(["image", "coarse"]),
            content=False,
        ),
        "scaling_of_other_channels": _replaced(
            "give one each",
            lambda spec, more: {"latent": Affine(shift=(0.0,) * (spec.latents.channels + more))},
            st.integers(1, 3),
        ),
        "scaling_that_cannot_be_undone": _replaced(
            "cannot be undone",
            lambda spec, each: {"latent": Affine(scale=(0.0,) * spec.latents.channels if each else 0.0)},
            st.booleans(),
        ),
        "layer_at_an_unknown_path": broken(
            "no layer there",
            lambda spec, path: spec.replace_at(path, SILU),
            model_specs(),
            st.sampled_from(["encoder.other", "other", "decoder.pixels.mix.deeper"]),
        ),
        "layer_that_is_none": broken(
            "is no layer",
            lambda spec, what: spec.replace_at("encoder", what),
            model_specs(),
            st.sampled_from(["silu", 3]),
        ),
    }
)


def _halves(lead: int, group: int, **fields: Any) -> VideoAutoencoderSpec:
    """A small model of which a clip must be whole groups; content is read where it has some."""
    more = AfterLeadSpec(layers={"repeat": TemporalRepeatSpec(factor=group)})
    fewer = AfterLeadSpec(layers={"fewer": TemporalDownsampleSpec(channels=4, factor=group)}, on_lead=_mix(4))
    look: dict[str, LayerSpec] = {}
    if fields.get("content"):
        look = {"look": ResidualSpec(layers={"at": ContentAttentionSpec(content="image", heads=1, head_width=2)})}
    parts = {"encoder": chain(fewer=fewer), "decoder": chain(**look, more=more, out=_mix(3))}
    return VideoAutoencoderSpec(**{"name": "halves", **parts, "framing": Framing(lead=lead, group=group), **fields})


def _mix(channels: int) -> LayerSpec:
    return CausalConv3dSpec(channels=channels, kernel=1)


def _in_pieces(lead: int, group: int, rest: int) -> VideoAutoencoderSpec:
    return _halves(lead, group, framing=Framing(lead=lead, group=group, piece=lead + group + rest % (group - 1) + 1))


def _renewed(group: int, frames: int = 0, **fields: Any) -> VideoAutoencoderSpec:
    """The small model with a content image for every two groups, or so many frames."""
    content = ContentSpec(stages={"image": FrameConv2dSpec(channels=2)}, every=frames or 2 * group)
    return _halves(0, group, **{"content": content, **fields})


def _renewed_decoder(group: int, layer: LayerSpec) -> VideoAutoencoderSpec:
    spec = _renewed(group)
    return spec.replace(decoder=chain(layer=layer, rest=spec.decoder))


def _renewed_encoder(group: int, layer: LayerSpec) -> VideoAutoencoderSpec:
    spec = _renewed(group)
    return spec.replace(encoder=chain(layer=layer, rest=spec.encoder))


_GROUPS = st.integers(2, 4)
_STREAMS: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "pieces_that_do_not_pass": broken(
            "do not pass as they are", _in_pieces, st.integers(0, 1), _GROUPS, st.integers(0, 5)
        ),
        "frames_that_do_not_come_back": broken(
            "comes back whole", lambda group, n: _floored(group)._pass(group * n + 1), _GROUPS, st.integers(1, 3)
        ),
        "renewed_in_pieces": broken(
            "have an image each", lambda group: _renewed(group, framing=Framing(group=group, piece=2 * group)), _GROUPS
        ),
        "renewed_in_half_groups": broken(
            "cannot be renewed every",
            lambda group, n: _renewed(group, frames=n * group + 1),
            _GROUPS,
            st.integers(1, 2),
        ),
        "renewed_from_the_front": broken(
            "is completed in front",
            lambda group: _renewed(group, framing=Framing(group=group, surplus="front")),
            _GROUPS,
        ),
        "renewed_under_a_norm_of_latents": broken(
            "clip_norm is over all latents", lambda group: _renewed(group, latent=ClipNorm()), _GROUPS
        ),
        "renewed_under_a_norm_of_the_clip": broken(
            "the decoder must stream",
            _renewed_decoder,
            _GROUPS,
            st.sampled_from([ClipGroupNormSpec(groups=1), TemporalConvSpec(channels=2)]),
        ),
        "renewed_while_the_encoder_waits": broken(
            "waits for later frames",
            _renewed_encoder,
            _GROUPS,
            st.builds(LookAheadConvSpec, channels=st.just(3), ahead=st.sampled_from([1, 2])),
        ),
    }
)


def _floored(group: int) -> VideoAutoencoderSpec:
    """A model that drops what is left over of a group."""
    fewer = chain(fewer=Average3dSpec(time=group, space=1), moments=_mix(2))
    decoder = chain(more=TemporalRepeatSpec(factor=group), out=_mix(3))
    return VideoAutoencoderSpec(name="floored", encoder=fewer, decoder=decoder, framing=Framing(group=group))


_DISORDER = st.sampled_from([(3.0, -3.0), (0.5, 0.5), (20.0, -30.0)])
_VALUES: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "limits_of_a_posterior_in_no_order": broken("in no order", PosteriorSpec, limits=_DISORDER),
        "limits_of_a_draw_in_no_order": broken("in no order", PosteriorDrawSpec, limits=_DISORDER),
        "limits_of_a_clamp_in_no_order": broken(
            "leave nothing between", lambda limits: ClampSpec(least=limits[0], greatest=limits[1]), _DISORDER
        ),
        "normed_latents_restored": broken(
            "has no inverse", lambda frames: ClipNorm().restore(torch.zeros(1, 2, frames, 2, 2)), st.integers(1, 3)
        ),
        "content_of_several_frames": broken(
            "must give one for one",
            lambda factor: ContentSpec(stages={"a": TemporalRepeatSpec(factor=factor)}).trace(Signal(3)),
            st.integers(2, 4),
        ),
        "frames_of_a_broken_group": broken(
            "give whole groups",
            lambda group, n: GroupCausalConv3dSpec(channels=2).frames(Signal(2, 1, group), n * group),
            _GROUPS,
            st.integers(0, 3),
        ),
        "frames_beside_the_positions": broken(
            "takes no other length",
            lambda drawn, more: drawn[0].frames(drawn[1], drawn[0].length + more),
            sound("time_positions"),
            st.integers(1, 3),
        ),
        "frames_fewer_than_a_stride": broken(
            "give at least", lambda time: Average3dSpec(time=time).frames(Signal(3, group=time), time - 1), _GROUPS
        ),
        "frames_that_branches_disagree_on": broken(
            "must give equally many frames",
            lambda group, n: parallel(
                up=TemporalConvSpec(channels=2, stride=group), down=Average3dSpec(time=group, space=1)
            ).frames(Signal(4, group=group), n * group + 1),
            _GROUPS,
            st.integers(1, 3),
        ),
    }
)


def _second_of_a_kind(kind: str) -> object:
    return create_model("Second", __base__=FrameLayerSpec, kind=(Literal[kind], kind))  # type: ignore[arg-type]


_KINDS = st.sampled_from(sorted(LEAVES))
_FILES: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "module_without_a_spec_saved": broken(
            "has no spec, so it cannot be saved",
            lambda module, inside: (chain(inside=opaque(module, 3)) if inside else opaque(module, 3)).to_json(),
            st.sampled_from([nn.Identity(), nn.Conv3d(3, 3, 1)]),
            st.booleans(),
        ),
        "field_that_json_does_not_know": broken(
            "holds plain data only", lambda: Unwritable(call=lambda: None).to_json()
        ),
        "kind_defined_twice": broken("is defined by", _second_of_a_kind, _KINDS),
        "kind_misspelled": broken(
            "is unknown; near it", lambda kind: layer_from_json(f'{{"kind": "{kind}x"}}'), _KINDS
        ),
    }
)

BROKEN_MODELS: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType({**_MODELS, **_STREAMS, **_VALUES, **_FILES})
"""By what is broken, models, values and texts."""
