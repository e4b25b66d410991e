"""Every layer keeps every law: one product of layers and laws."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.layers.every import broken_laws, bunches, compiled_differences
from vvae import verify
from vvae.context import Context, StreamStep, module_names
from vvae.layers import (
    AfterLeadSpec,
    Average3dSpec,
    BetweenKeyframesSpec,
    CausalAverageSpec,
    CausalConv3dSpec,
    CausalDownsample3dSpec,
    ChannelInterleaveSpec,
    ChannelLayerNormSpec,
    ChannelRMSNormSpec,
    ChannelToTimeSpec,
    ClampSpec,
    Conv3dSpec,
    DepthToSpaceSpec,
    Downsample3dSpec,
    DropFrontSpec,
    FillFrontSpec,
    FrameAttentionSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    GroupCausalConv3dSpec,
    KeyframeBranchesSpec,
    LeadPassesBySpec,
    LearnedMixSpec,
    LinearTemporalUpsampleSpec,
    LoneFramesSpec,
    LookAheadConvSpec,
    PosteriorDrawSpec,
    ReLUSpec,
    ResidualSpec,
    ShiftScaleSpec,
    SiLUSpec,
    SpaceToDepthSpec,
    SpatialAverageSpec,
    SpatialDownsampleSpec,
    SpatialLinearUpsampleSpec,
    SpatialRepeatSpec,
    SpatialUpsampleSpec,
    TanhSpec,
    TemporalDownsampleSpec,
    TemporalRepeatSpec,
    TemporalSubsampleSpec,
    TemporalUpsampleSpec,
    Upsample3dSpec,
    atrous_head,
    attention_block,
    chain,
    parallel,
    per_part,
    residual_block,
)
from vvae.published.legacy.od_vae import FrameLinearAttentionSpec
from vvae.signal import Signal
from vvae.spec import LayerSpec

LED = Signal(4, lead=1, group=4)
NO_LEAD = Signal(4, lead=0, group=4)
conv = GroupCausalConv3dSpec(channels=4)
linear_up = AfterLeadSpec(layers={"up": LinearTemporalUpsampleSpec()})
linear_mix = chain(up=linear_up, down=CausalConv3dSpec(channels=4, stride=2))

LAYERS: dict[str, tuple[LayerSpec, Signal]] = {
    "frame_conv": (FrameConv2dSpec(channels=6), LED),
    "frame_conv_dilated": (FrameConv2dSpec(channels=6, dilation=2), LED),
    "causal_conv": (CausalConv3dSpec(channels=6), LED),
    "causal_conv_zero_no_lead": (CausalConv3dSpec(channels=6, before="zero"), NO_LEAD),
    "causal_conv_stride_2": (CausalConv3dSpec(channels=6, stride=2), LED),
    "causal_conv_stride_4_pointwise_in_space": (CausalConv3dSpec(channels=6, kernel=(2, 1, 1), stride=4), LED),
    "causal_conv_stride_2_no_lead": (CausalConv3dSpec(channels=6, stride=2), NO_LEAD),
    "causal_conv_stride_4_kernel_1": (CausalConv3dSpec(channels=6, kernel=1, stride=4), NO_LEAD),
    "causal_conv_stride_2_zero_dilated": (
        CausalConv3dSpec(channels=6, stride=2, dilation=2, before="zero"),
        NO_LEAD,
    ),
    "causal_downsample": (CausalDownsample3dSpec(channels=6), LED),
    "causal_downsample_no_lead": (CausalDownsample3dSpec(channels=6), NO_LEAD),
    "causal_downsample_in_space_alone": (CausalDownsample3dSpec(channels=6, stride=1), LED),
    "causal_downsample_4_in_time": (CausalDownsample3dSpec(channels=6, kernel=4, factor=3, stride=4), LED),
    "causal_average": (CausalAverageSpec(), LED),
    "causal_average_of_2_no_lead": (CausalAverageSpec(kernel=2), NO_LEAD),
    "causal_average_of_5": (CausalAverageSpec(kernel=5, stride=4), LED),
    "causal_conv_dilated": (CausalConv3dSpec(channels=6, dilation=2), LED),
    "group_conv": (conv, LED),
    "group_conv_zero": (GroupCausalConv3dSpec(channels=6, before="zero"), LED),
    "group_conv_no_lead": (conv, NO_LEAD),
    "group_conv_small_groups": (GroupCausalConv3dSpec(channels=6, group=2), LED),
    "group_conv_of_1": (GroupCausalConv3dSpec(channels=6), Signal(4, lead=1, group=1)),
    "group_conv_kernel_5": (GroupCausalConv3dSpec(channels=6, kernel=5), Signal(4, lead=1, group=1)),
    "group_conv_kernel_7": (GroupCausalConv3dSpec(channels=6, kernel=(7, 1, 3)), Signal(4, lead=1, group=2)),
    "group_conv_kernel_7_in_groups_of_1": (GroupCausalConv3dSpec(channels=2, kernel=(7, 1, 1)), Signal(4, lead=1)),
    "group_conv_kernel_9": (GroupCausalConv3dSpec(channels=2, kernel=(9, 1, 1)), Signal(4, lead=0, group=2)),
    "group_conv_kernel_2": (GroupCausalConv3dSpec(channels=6, kernel=(2, 3, 3)), LED),
    "group_conv_kernel_1": (GroupCausalConv3dSpec(channels=6, kernel=1), LED),
    "group_conv_skip": (GroupCausalConv3dSpec(channels=6, skip=1), LED),
    "group_conv_skip_kernel_5": (GroupCausalConv3dSpec(channels=6, kernel=5, skip=1), LED),
    "rms_norm": (ChannelRMSNormSpec(), LED),
    "rms_norm_parts": (ChannelRMSNormSpec(parts=2, bias=True), LED),
    "frame_group_norm": (FrameGroupNormSpec(groups=2), LED),
    "channel_layer_norm": (ChannelLayerNormSpec(), LED),
    "conv3d_in_space": (Conv3dSpec(channels=6, kernel=(1, 3, 3)), LED),
    "downsample3d_in_space": (Downsample3dSpec(channels=6, time=1), LED),
    "downsample3d_without_overlap": (Downsample3dSpec(channels=6, kernel=2), NO_LEAD),
    "upsample3d_pointwise": (Upsample3dSpec(channels=6, kernel=1), NO_LEAD),
    "average3d": (Average3dSpec(), NO_LEAD),
    "average3d_in_space": (Average3dSpec(time=1, space=3), LED),
    "silu": (SiLUSpec(), LED),
    "relu": (ReLUSpec(), LED),
    "tanh": (TanhSpec(), NO_LEAD),
    "clamp": (ClampSpec(least=-0.5, greatest=2.0), LED),
    "frame_attention": (FrameAttentionSpec(heads=2), LED),
    "frame_attention_by_memory": (FrameLinearAttentionSpec(heads=2, width=3), LED),
    "spatial_downsample": (SpatialDownsampleSpec(channels=6), LED),
    "spatial_downsample_3": (SpatialDownsampleSpec(channels=6, kernel=3, factor=3), LED),
    "spatial_upsample": (SpatialUpsampleSpec(channels=6), LED),
    "spatial_interpolation": (SpatialLinearUpsampleSpec(), LED),
    "spatial_interpolation_3": (SpatialLinearUpsampleSpec(factor=3), LED),
    "spatial_average": (SpatialAverageSpec(), LED),
    "spatial_average_3": (SpatialAverageSpec(factor=3), LED),
    "spatial_repeat": (SpatialRepeatSpec(), LED),
    "space_to_depth": (SpaceToDepthSpec(factor=2), LED),
    "depth_to_space": (DepthToSpaceSpec(factor=2), LED),
    "interleave": (ChannelInterleaveSpec(outer=2, inner=2), LED),
    "temporal_subsample": (TemporalSubsampleSpec(), NO_LEAD),
    "temporal_downsample": (TemporalDownsampleSpec(channels=6, factor=4), NO_LEAD),
    "temporal_repeat": (TemporalRepeatSpec(factor=3), NO_LEAD),
    "temporal_upsample": (TemporalUpsampleSpec(channels=6), NO_LEAD),
    "channel_to_time": (ChannelToTimeSpec(), NO_LEAD),
    "channel_to_time_4": (ChannelToTimeSpec(factor=4), NO_LEAD),
    "fill_front": (FillFrontSpec(), NO_LEAD),
    "drop_front": (DropFrontSpec(), NO_LEAD),
    "posterior_draw": (PosteriorDrawSpec(limits=(-30.0, 20.0)), LED),
    "shift_scale": (ShiftScaleSpec(shift=0.5, scale=2.0), LED),
    "linear_upsample": (LinearTemporalUpsampleSpec(), NO_LEAD),
    "linear_upsample_3": (LinearTemporalUpsampleSpec(factor=3), Signal(4, group=1)),
    "after_lead": (AfterLeadSpec(layers={"down": TemporalDownsampleSpec(channels=4)}), LED),
    "after_lead_own": (
        AfterLeadSpec(layers={"down": TemporalDownsampleSpec(channels=6)}, on_lead=FrameConv2dSpec(channels=6)),
        LED,
    ),
    "lead_passes_by": (
        LeadPassesBySpec(layers={"conv": CausalConv3dSpec(channels=4, kernel=(3, 1, 1), stride=2, before="zero")}),
        LED,
    ),
    "lead_passes_by_where_there_is_none": (LeadPassesBySpec(layers={"conv": FrameConv2dSpec(channels=6)}), NO_LEAD),
    "lead_passes_by_what_holds_it_back_to_look_ahead": (
        LeadPassesBySpec(layers={"conv": LookAheadConvSpec(channels=4)}),
        LED,
    ),
    "lone_frames": (LoneFramesSpec(layers={"conv": GroupCausalConv3dSpec(channels=6)}), LED),
    "lone_frames_some_at_once": (
        LoneFramesSpec(layers={"conv": FrameConv2dSpec(channels=6), "down": SpatialAverageSpec()}, at_once=3),
        NO_LEAD,
    ),
    "between_keyframes": (BetweenKeyframesSpec(), LED),
    "keyframe_branches": (
        KeyframeBranchesSpec(keyframe=FrameConv2dSpec(channels=3), between=GroupCausalConv3dSpec(channels=3, skip=1)),
        LED,
    ),
    "keyframe_branches_with_memory": (
        KeyframeBranchesSpec(keyframe=conv, between=chain(conv=conv, cut=BetweenKeyframesSpec())),
        LED,
    ),
    "parallel": (parallel(a=FrameConv2dSpec(channels=2), b=GroupCausalConv3dSpec(channels=3)), LED),
    "learned_mix": (
        LearnedMixSpec(branches={"mean": CausalAverageSpec(), "learned": CausalConv3dSpec(channels=4, stride=2)}),
        LED,
    ),
    "learned_mix_behind_look_ahead": (
        chain(up=linear_up, mix=LearnedMixSpec(branches={"same": chain(), "learned": linear_mix})),
        Signal(4, lead=1),
    ),
    "per_part": (per_part(a=SiLUSpec(), b=GroupCausalConv3dSpec(channels=3)), LED),
    "residual": (residual_block(conv, norm=ChannelRMSNormSpec()), LED),
    "residual_group_norm": (
        residual_block(FrameConv2dSpec(channels=4), norm=FrameGroupNormSpec(groups=2), act=ReLUSpec()),
        Signal(4),
    ),
    "attention_block": (attention_block(), LED),
    "attention_block_group_norm": (attention_block(norm=FrameGroupNormSpec(groups=2), heads=2), LED),
    "atrous_head": (atrous_head(4, dilations=(1, 3)), LED),
    "look_ahead_conv": (LookAheadConvSpec(channels=6), LED),
    "look_ahead_conv_of_lone_frames": (LookAheadConvSpec(channels=6, kernel=5), Signal(4, lead=1)),
    "look_ahead_conv_zero_outside": (LookAheadConvSpec(channels=6, kernel=4, ahead=3, outside="zero"), NO_LEAD),
    "look_ahead_conv_past_a_group": (LookAheadConvSpec(channels=6, kernel=7), Signal(4, lead=1, group=2)),
    "look_ahead_conv_stride_2": (LookAheadConvSpec(channels=6, stride=2, ahead=2), NO_LEAD),
    "look_ahead_conv_stride_4": (LookAheadConvSpec(channels=6, kernel=7, stride=4, ahead=5), Signal(4, group=8)),
    "look_ahead_between_keyframes": (
        KeyframeBranchesSpec(
            keyframe=FrameConv2dSpec(channels=4),
            between=chain(time=LookAheadConvSpec(channels=4), cut=BetweenKeyframesSpec()),
        ),
        LED,
    ),
    "look_ahead_chain": (
        chain(conv_a=conv, up_a=linear_up, conv_b=conv, up_b=linear_up, conv_c=conv),
        Signal(4, lead=1),
    ),
    "look_ahead_aligned": (
        chain(
            up=linear_up,
            mix=parallel(
                slow=chain(up=linear_up, down=AfterLeadSpec(layers={"d": TemporalDownsampleSpec(channels=4)})),
                fast=conv,
            ),
            add=ResidualSpec(
                layers={"up": linear_up, "conv": GroupCausalConv3dSpec(channels=4)},
                shortcut=chain(
                    repeat=AfterLeadSpec(layers={"r": TemporalRepeatSpec()}), conv=FrameConv2dSpec(channels=4)
                ),
            ),
        ),
        Signal(4, lead=1, group=1),
    ),
}
FURTHER = {
    "traced",
    "reach",
    "group_causal",
    "prefix",
    "stream",
    "empty",
    "interleaved",
    "threads",
    "stateless",
    "untouched",
    "layout",
    "checkpointing",
    "compiled",
}
"""Laws that are asked here of longer clips, in more plans or number formats, than the suite does by itself."""
PLANS = [[0, 1, 1, 1], [3], [1, 2], [-1, 0, 0, 3, 0], [2, 0, 1, 0], [-1, 3]]

every_layer = pytest.mark.parametrize("name", list(LAYERS))


def layer(name: str, dtype: torch.dtype = torch.float64) -> tuple[LayerSpec, Signal, nn.Module, Tensor]:
    spec, signal = LAYERS[name]
    torch.manual_seed(0)
    module = spec.build(signal).to(dtype)
    return spec, signal, module, verify.random_clip(signal, signal.frames(3), 6, 6, batch=2).to(dtype)


@every_layer
def test_layer_keeps_the_other_laws_of_the_suite(name: str) -> None:
    assert broken_laws(*LAYERS[name], without=FURTHER) == []


@every_layer
def test_layer_gives_the_traced_shape_at_two_sizes(name: str) -> None:
    spec, signal, _, _ = layer(name)
    verify.check_traced(spec, signal, [(signal.frames(1), 6, 12), (signal.frames(3), 12, 6)])


@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_layer_streams_what_the_whole_clip_gives(name: str, dtype: torch.dtype) -> None:
    _, signal, module, x = layer(name, dtype)
    verify.check_stream(module, signal, x, PLANS)


@every_layer
def test_layer_streams_in_bfloat16(name: str) -> None:
    _, signal, module, x = layer(name, torch.bfloat16)
    with torch.no_grad():
        whole = module(x)
        chunks = torch.cat(verify.stream(module, verify.split(x, signal, [1, 0, 2])), 2)
    assert whole.dtype == torch.bfloat16
    assert verify.difference(chunks, whole) <= 2e-2


@every_layer
def test_layer_sees_what_it_declares(name: str) -> None:
    spec, signal, module, x = layer(name)
    verify.check_reach(module, spec.reach(signal, x.shape[2]), x)


@every_layer
def test_layer_gives_a_prefix_for_a_shorter_clip_unless_it_looks_ahead(name: str) -> None:
    spec, signal, module, x = layer(name)
    if "look_ahead" in name or "linear" in name:
        with pytest.raises(verify.LawError, match=r"prefix|causality"):
            verify.check_prefix(module, signal, x, spec.trace(signal))
    else:
        verify.check_prefix(module, signal, x, spec.trace(signal))
        verify.check_group_causal(module, signal, x, spec.trace(signal))


@every_layer
def test_layer_keeps_nothing_of_a_past_call(name: str) -> None:
    _, signal, module, x = layer(name)
    verify.check_stateless(module, x)
    verify.check_untouched(module, x)
    verify.check_interleaved(module, signal, x, torch.flip(x, (2,)), [1, 0, 2])


@every_layer
def test_layer_can_be_checkpointed(name: str) -> None:
    _, signal, module, x = layer(name)
    verify.check_checkpointing(module, x, signal=signal, plan=[1, 0, 2])


@every_layer
def test_layer_keeps_channels_last(name: str) -> None:
    _, _, module, x = layer(name, torch.float32)  # torch's float64 convolutions know the contiguous layout only
    verify.check_layout(module, x)


@every_layer
def test_layer_passes_empty_chunks(name: str) -> None:
    spec, signal, module, x = layer(name)
    verify.check_empty(module, signal, x, spec.trace(signal))


@every_layer
def test_layer_works_in_a_plain_sequential(name: str) -> None:
    _, _, module, x = layer(name)
    with torch.no_grad():
        assert torch.equal(nn.Sequential(nn.Identity(), module)(x), module(x))


@pytest.mark.parametrize("names", bunches(LAYERS), ids=lambda names: names[0])
def test_layers_compile(names: list[str]) -> None:
    found = compiled_differences({name: layer(name, torch.float32)[2:] for name in names})
    assert {name: error for name, error in found.items() if not error <= 1e-5} == {}  # norms have other operators there


@pytest.mark.thorough
@every_layer
def test_layer_compiles_for_streams(name: str) -> None:
    _, signal, module, x = layer(name, torch.float32)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    names = module_names(module)
    with torch.no_grad():
        given, state = [], {}
        chunks = verify.split(x, signal, [1, 1, 1])
        for number, chunk in enumerate(chunks):
            step = StreamStep(names, state, last=number == 2)
            given.append(compiled(chunk, step))
            state = step.close()
    assert verify.difference(torch.cat(given, 2), module(x)) <= 1e-5
    torch._dynamo.reset()


@every_layer
def test_layer_serves_two_threads_at_once(name: str) -> None:
    _, signal, module, x = layer(name)

    def stream(clip: Tensor) -> Tensor:
        return torch.cat(verify.stream(module, verify.split(clip, signal, [1, 2])), 2)

    inner = [part for part in module.modules() if not list(part.children())]
    verify.check_threads(inner[-1], [partial(stream, x), partial(stream, x.flip(2))])


def test_failed_step_leaves_the_old_state_whole() -> None:
    _, signal, module, x = layer("look_ahead_chain")
    chunks = verify.split(x, signal, [1, 1, 1])
    names = module_names(module)
    step = StreamStep(names, {})
    module(chunks[0], step)
    state = step.close()
    copies = {path: tuple(t.clone() for t in kept) for path, kept in state.items()}

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    hook = module.conv_c.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="planted"):
        module(chunks[1], StreamStep(names, state))
    hook.remove()
    assert state.keys() == copies.keys()
    assert all(torch.equal(a, b) for path in state for a, b in zip(state[path], copies[path], strict=True))
    given = []
    for number, chunk in enumerate(chunks[1:]):
        step = StreamStep(names, state, last=number == 1)
        given.append(module(chunk, step))
        state = step.close()
    first = verify.stream(module, verify.split(x[:, :, : chunks[0].shape[2]], signal, [1]))
    assert first[0].shape[2] >= 1
    whole = module(x)
    assert verify.difference(torch.cat(given, 2), whole[:, :, whole.shape[2] - torch.cat(given, 2).shape[2] :]) <= 1e-12


def test_step_refuses_a_layer_that_keeps_twice() -> None:
    from vvae.errors import StreamError
    from vvae.layers import Chain

    shared = conv.build(LED)
    twice = Chain({"a": shared, "b": shared})
    with pytest.raises(StreamError, match="one place only"):
        verify.stream(twice, [torch.zeros(1, 4, 5, 4, 4)])


class BareContext(Context):
    """Only so that the abstract class is seen to refuse."""


def test_context_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        BareContext().recall(nn.Identity())
    with pytest.raises(NotImplementedError):
        BareContext().keep(nn.Identity())
