"""Every layer that must see the whole clip keeps every law but those of streams, and refuses a stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.layers.every import broken_laws, bunches, compiled_differences
from vvae import verify
from vvae.context import StreamStep, module_names
from vvae.errors import StreamError
from vvae.layers import (
    CausalConv3dSpec,
    ClipAttentionSpec,
    ClipGroupNormSpec,
    Conv3dSpec,
    Downsample3dSpec,
    FrameConv2dSpec,
    MisfoldedAttentionSpec,
    TemporalAttentionSpec,
    TemporalConvSpec,
    TemporalConvUpsampleSpec,
    Upsample3dSpec,
    attention_block,
    chain,
    conv25d,
    residual_block,
)
from vvae.published.legacy.od_vae import PaddedTemporalDownsampleSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec

CLIP = Signal(4, group=4)

LAYERS: dict[str, tuple[LayerSpec, Signal]] = {
    "clip_group_norm": (ClipGroupNormSpec(groups=2), CLIP),
    "clip_group_norm_with_lead": (ClipGroupNormSpec(groups=1), Signal(4, lead=1, group=4)),
    "misfolded_attention": (MisfoldedAttentionSpec(heads=2), Signal(6, lead=1, group=4)),
    "misfolded_attention_of_fewer_channels_than_frames": (MisfoldedAttentionSpec(), CLIP),
    "padded_temporal_downsample": (
        PaddedTemporalDownsampleSpec(
            layers={"norm": ClipGroupNormSpec(groups=2), "conv_a": CausalConv3dSpec(channels=4)}
        ),
        Signal(4, lead=1, group=4),
    ),
    "padded_temporal_downsample_alone": (PaddedTemporalDownsampleSpec(layers={}), Signal(4, lead=1, group=2)),
    "temporal_attention": (TemporalAttentionSpec(heads=2), CLIP),
    "temporal_attention_block": (
        attention_block(norm=ClipGroupNormSpec(groups=2), attend=TemporalAttentionSpec()),
        Signal(4, lead=1, group=4),
    ),
    "temporal_conv": (TemporalConvSpec(channels=6), Signal(4, lead=1, group=4)),
    "temporal_conv_zero_outside": (TemporalConvSpec(channels=6, kernel=5, outside="zero"), CLIP),
    "temporal_conv_stride_2": (TemporalConvSpec(channels=6, stride=2), CLIP),
    "temporal_conv_that_looks_ahead": (TemporalConvSpec(channels=6, stride=2, ahead=2), CLIP),
    "temporal_conv_upsample": (TemporalConvUpsampleSpec(channels=6), CLIP),
    "temporal_conv_upsample_3": (TemporalConvUpsampleSpec(channels=6, factor=3, outside="replicate"), CLIP),
    "conv25d": (conv25d(6), CLIP),
    "there_and_back": (
        chain(down=TemporalConvSpec(channels=4, stride=2), up=TemporalConvUpsampleSpec(channels=4), conv=conv25d(4)),
        CLIP,
    ),
    "residual_clip_norm": (residual_block(FrameConv2dSpec(channels=4), norm=ClipGroupNormSpec(groups=2)), CLIP),
    "clip_attention": (ClipAttentionSpec(heads=2), CLIP),
    "clip_attention_block": (
        attention_block(norm=ClipGroupNormSpec(groups=2), attend=ClipAttentionSpec(heads=2)),
        CLIP,
    ),
    "conv3d": (Conv3dSpec(channels=6), CLIP),
    "conv3d_with_lead": (Conv3dSpec(channels=6, kernel=(5, 1, 3)), Signal(4, lead=1, group=4)),
    "downsample3d": (Downsample3dSpec(channels=6), CLIP),
    "downsample3d_in_time": (Downsample3dSpec(channels=6, space=1), CLIP),
    "downsample3d_by_4_in_time": (Downsample3dSpec(channels=6, kernel=5, time=4), CLIP),
    "upsample3d": (Upsample3dSpec(channels=6), CLIP),
    "upsample3d_in_time": (Upsample3dSpec(channels=6, space=1), CLIP),
    "upsample3d_in_space": (Upsample3dSpec(channels=6, time=1), Signal(4, lead=1, group=4)),
    "upsample3d_by_3_with_kernel_5": (Upsample3dSpec(channels=6, kernel=5, time=3), CLIP),
}

FURTHER = {"traced", "reach", "stateless", "untouched", "layout", "checkpointing", "compiled"}
"""Laws that are asked here of longer clips, or in more number formats, than the suite does by itself."""
every_layer = pytest.mark.parametrize("name", list(LAYERS))


def layer(name: str, dtype: torch.dtype = torch.float64) -> tuple[LayerSpec, Signal, nn.Module, Tensor]:
    spec, signal = LAYERS[name]
    torch.manual_seed(0)
    module = spec.build(signal).to(dtype)
    return spec, signal, module, verify.random_clip(signal, signal.frames(2), 6, 6, batch=2).to(dtype)


@every_layer
def test_layer_keeps_the_other_laws_of_the_suite(name: str) -> None:
    assert broken_laws(*LAYERS[name], without=FURTHER) == []


@every_layer
def test_layer_gives_the_traced_shape_at_two_sizes(name: str) -> None:
    spec, signal, _, _ = layer(name)
    verify.check_traced(spec, signal, [(signal.frames(1), 6, 12), (signal.frames(2), 12, 6)])


@every_layer
def test_layer_sees_what_it_declares(name: str) -> None:
    spec, signal, module, x = layer(name)
    verify.check_reach(module, spec.reach(signal, x.shape[2]), x)


@every_layer
def test_layer_keeps_nothing_of_a_past_call(name: str) -> None:
    _, _, module, x = layer(name)
    verify.check_stateless(module, x)
    verify.check_untouched(module, x)


@every_layer
def test_layer_can_be_checkpointed(name: str) -> None:
    _, _, module, x = layer(name)
    verify.check_checkpointing(module, x)


@every_layer
def test_layer_keeps_channels_last(name: str) -> None:
    _, _, module, x = layer(name, torch.float32)
    verify.check_layout(module, x)


@every_layer
def test_layer_in_lower_precision_gives_what_it_gives_in_higher(name: str) -> None:
    _, _, module, x = layer(name)
    with torch.no_grad():
        want = module(x)
        for dtype, limit in ((torch.float32, 2e-5), (torch.bfloat16, 5e-2)):
            found = module.to(dtype)(x.to(dtype))
            assert found.dtype == dtype
            assert verify.difference(found.double(), want) <= limit


@pytest.mark.parametrize("names", bunches(LAYERS), ids=lambda names: names[0])
def test_layers_compile(names: list[str]) -> None:
    found = compiled_differences({name: layer(name, torch.float32)[2:] for name in names})
    assert {name: error for name, error in found.items() if not error <= 1e-5} == {}  # norms have other operators there


@every_layer
def test_layer_refuses_a_stream_and_says_so_before(name: str) -> None:
    spec, signal, module, x = layer(name)
    assert spec.stream_limit(signal)
    with pytest.raises(StreamError, match="whole clip"):
        module(x, StreamStep(module_names(module), {}))
