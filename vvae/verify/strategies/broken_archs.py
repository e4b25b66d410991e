"""Fields of architectures, and published configurations, that cannot be: one thing is wrong in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from hypothesis import strategies as st

from vvae.arch import image_vae, iv_vae, od_vae, od_vae_streaming, open_sora, open_sora_causal, reducio, tae, wan
from vvae.arch.image_vae import published_fields as image_vae_fields
from vvae.arch.image_vae import renames as image_vae_names
from vvae.arch.inflate import one_half
from vvae.arch.od_vae_names import published_fields as od_vae_fields
from vvae.arch.open_sora import published_fields as open_sora_fields
from vvae.arch.open_sora import renames as open_sora_names
from vvae.arch.reducio_names import published_fields as reducio_fields
from vvae.arch.tae import published_fields as tae_fields
from vvae.arch.wan import published_fields as wan_fields
from vvae.arch.wan import renames as wan_names
from vvae.layers import FrameConv2dSpec, LoneFramesSpec
from vvae.verify.strategies.broken_models import Broken, broken

_FAR = st.integers(7, 9)
"""Levels that no architecture has."""
_NETWORK = {"ch": 4, "ch_in": 4, "ch_mult": [1], "num_res_blocks": 1, "in_channels": 3, "z_channels": 4, "f_t": 0}
_FUSED = {"ch_fuse": [-1], "fuse_mid": False, "pos_embed_mode": "t", "temp_res": 4, "resolution": 4}


def _each(says: str, calls: list[Callable[[], object]]) -> st.SearchStrategy[Broken]:
    """One of several calls that are wrong in the same way."""
    return st.sampled_from([Broken(says, call) for call in calls])


def _attention(make: Callable[..., object]) -> st.SearchStrategy[Broken]:
    """Attention, in either half, at a level that is not there."""
    half = st.sampled_from(["encoder_attention", "decoder_attention"])
    return broken("at a level that is not there", lambda name, level: make(**{name: (level,)}), half, _FAR)


def _flags(most: int, without: int) -> st.SearchStrategy[tuple[bool, ...]]:
    """Whether each step halves the frame rate, for another number of steps than there are."""
    counts = st.sampled_from([n for n in range(most + 1) if n != without])
    return counts.flatmap(lambda count: st.tuples(*[st.booleans()] * count))


def _od_vae_at(level: int) -> object:
    return od_vae(encoder=od_vae.variants["v1_2"]["encoder"].replace(attention=(level,)))  # type: ignore[attr-defined]


def _od_vae_twice(level: int) -> object:
    space = ["Spatial2xTime2x3DDownsample" if level == place else "" for place in range(4)]
    return od_vae_fields({"encoder_spatial_downsample": space})


def _reducio_fused(name: str) -> object:
    own = {**_NETWORK, **_FUSED, "upsample_first": True, "fuse_type": name}
    return reducio_fields({"ddconfig": own, "ddconfig_2d": _NETWORK, "embed_dim": 4})


def _half_of_lone_frames(channels: int) -> object:
    lone = LoneFramesSpec(layers={"conv": FrameConv2dSpec(channels=channels)})
    return one_half(iv_vae("z4_dim64").replace_at("encoder.conv_in", lone))


_FIELDS: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "image_vae_attention_beyond_its_levels": _attention(image_vae),
        "image_vae_inner_channels_without_convs": broken(
            "inner_channels", partial(image_vae, "sd3"), inner_channels=st.integers(1, 15)
        ),
        "iv_vae_odd_latents": broken(
            "is odd", iv_vae, latent_channels=st.integers(0, 8).map(lambda half: 2 * half + 1)
        ),
        "iv_vae_steps_not_between_levels": broken("multipliers need", iv_vae, temporal=_flags(5, without=3)),
        "iv_vae_attention_beyond_its_levels": _attention(iv_vae),
        "iv_vae_half_a_channel": broken(
            "is halved between levels", partial(iv_vae, width=1, multipliers=(1, 1)), temporal=_flags(1, without=0)
        ),
        "open_sora_steps_not_between_levels": broken("multipliers need", open_sora, temporal=_flags(5, without=3)),
        "od_vae_levels_without_layers": broken(
            "multipliers need", od_vae, multipliers=st.sampled_from([(1,), (1, 2, 4), (1, 2, 4, 4, 4)])
        ),
        "od_vae_time_joint_with_flat_space": broken(
            "'joint' in time takes", partial(od_vae, "v1_1"), encoder_time=st.just(("joint",) * 4)
        ),
        "od_vae_attention_beyond_its_levels": broken("at a level that is not there", _od_vae_at, _FAR),
        "od_vae_inner_channels_without_convs": broken(
            "inner_channels", partial(od_vae, moments_conv=False), inner_channels=st.integers(5, 9)
        ),
        "od_vae_streaming_with_attention_over_time": _each(
            "sees the whole clip",
            [partial(od_vae_streaming, encoder_attend="time"), partial(od_vae_streaming, decoder_attend="time")],
        ),
        "tae_changes_beyond_its_levels": broken("at a level that is not there", tae, temporal_down=st.tuples(_FAR)),
        "tae_frames_that_do_not_come_back": broken(
            "must be equally many", tae, temporal_down=st.sampled_from([(0,), (0, 1), ()])
        ),
        "tae_width_changed_by_nothing": broken("without blocks", tae, blocks=st.just(0)),
        "wan_steps_not_between_levels": broken("multipliers need", wan, temporal=_flags(5, without=3)),
        "reducio_entries_not_for_each_level": broken(
            "give one for each", reducio, fuse=st.sampled_from([(None,), (None, 1), (None,) * 5])
        ),
        "reducio_more_halvings_than_levels": broken("halvings need", reducio, time_halvings=st.integers(6, 8)),
        "reducio_stage_that_is_not_there": broken(
            "fuse names a stage", reducio, fuse=_FAR.map(lambda stage: (None,) * 5 + (stage,))
        ),
    }
)

_PUBLISHED: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType(
    {
        "open_sora_names_of_another_component": broken(
            "it has no names of",
            lambda naming: open_sora_names(open_sora(), naming),
            st.sampled_from(["temporal", "spatial"]),
        ),
        "od_vae_rate_changed_twice": broken("changes its frame rate twice", _od_vae_twice, st.integers(1, 2)),
        "image_vae_option_of_no_release": _each(
            "is in no release",
            [
                partial(image_vae_fields, {"ddconfig": {option: value}, "embed_dim": 4})
                for option, value in (("give_pre_end", True), ("double_z", False))
            ],
        ),
        "wan_latents_without_deviation": broken(
            "holds a 0", lambda other: wan_fields({"latents_std": [other, 0.0]}), st.sampled_from([1.0, 2.0])
        ),
        "wan_of_another_version": _each(
            "makes another network",
            [partial(wan_fields, {name: value}) for name, value in (("is_residual", True), ("patch_size", 2))],
        ),
        "half_of_what_has_none": broken("is no IV-VAE with groups; take one", _half_of_lone_frames, st.just(128)),
        "half_of_another_architecture": broken(
            "has no head for keyframes", lambda make: one_half(make()), st.sampled_from([od_vae, tae])
        ),
        "reducio_fusion_unknown": broken("fuse_type 'atn", _reducio_fused, st.sampled_from(["atn", "atnnx"])),
        "name_unknown": _each(
            r"^\w+( \w+)? '.*' is unknown; near it: \w",
            [
                partial(image_vae, "sd4"),
                lambda: image_vae_names(image_vae(), "ldm"),
                partial(iv_vae, "z16_dim65"),
                partial(open_sora_causal, "v1_3"),
                partial(open_sora_fields, {"activation_fn": "gelu"}),
                partial(od_vae, "v1_3"),
                partial(od_vae, None, layout="outer_3d"),  # type: ignore[arg-type]
                partial(od_vae_fields, {"encoder_attention": "AttnBlock4D"}),
                partial(tae, "one"),
                partial(tae_fields, {"attn_type": "linear"}),
                partial(wan, "2.2"),
                lambda: wan_names(wan(), "compvis"),
                partial(reducio, "ft8"),
            ],
        ),
    }
)

BROKEN_ARCHITECTURES: Mapping[str, st.SearchStrategy[Broken]] = MappingProxyType({**_FIELDS, **_PUBLISHED})
"""By what is broken, fields of the architectures that ship and configurations of their publications."""
