"""Layers that take a clip in slices give what they give of the whole, and hold less of it at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vvae import verify
from vvae.context import WHOLE_CLIP
from vvae.cost import peak_bytes
from vvae.layers import (
    CausalConv3d,
    CausalConv3dSpec,
    CausalDownsample3dSpec,
    ChannelRMSNormSpec,
    ClipGroupNormSpec,
    Conv3dSpec,
    FrameConv2dSpec,
    FrameGroupNormSpec,
    GroupCausalConv3dSpec,
    ResidualSpec,
    SiLUSpec,
    SpatialDownsampleSpec,
    SpatialLinearUpsampleSpec,
    SpatialUpsampleSpec,
    TemporalConvSpec,
    chain,
    conv25d,
    residual_block,
    slices,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec

LED, NO_LEAD = Signal(4, lead=1, group=4), Signal(4, lead=0, group=4)
CLIP, FRAME, SILU = ClipGroupNormSpec(groups=2), FrameGroupNormSpec(groups=2), SiLUSpec()


def behind(norm: LayerSpec, **layers: LayerSpec) -> LayerSpec:
    return chain(norm=norm, act=SILU, **layers)


ROWS: dict[str, tuple[LayerSpec, Signal]] = {
    "frame_conv": (behind(CLIP, conv=FrameConv2dSpec(channels=6)), LED),
    "causal_conv_alone": (chain(conv=CausalConv3dSpec(channels=6)), LED),
    "causal_conv": (behind(CLIP, conv=CausalConv3dSpec(channels=6)), LED),
    "causal_conv_zero_dilated": (behind(FRAME, conv=CausalConv3dSpec(channels=4, dilation=2, before="zero")), NO_LEAD),
    "causal_conv_in_space": (behind(FRAME, conv=CausalConv3dSpec(channels=4, kernel=(1, 3, 3))), LED),
    "causal_conv_stride_2": (behind(CLIP, conv=CausalConv3dSpec(channels=6, stride=2)), LED),
    "causal_conv_stride_2_no_lead": (behind(FRAME, conv=CausalConv3dSpec(channels=6, stride=2)), NO_LEAD),
    "causal_conv_stride_4": (chain(conv=CausalConv3dSpec(channels=6, kernel=(4, 1, 1), stride=4)), LED),
    "causal_downsample": (behind(FRAME, conv=CausalDownsample3dSpec(channels=6)), LED),
    "group_conv": (behind(ChannelRMSNormSpec(), conv=GroupCausalConv3dSpec(channels=6)), LED),
    "group_conv_no_lead": (behind(FRAME, conv=GroupCausalConv3dSpec(channels=4, group=2)), NO_LEAD),
    "group_conv_kernel_5": (behind(FRAME, conv=GroupCausalConv3dSpec(channels=4, kernel=5, group=1)), LED),
    "conv3d": (behind(CLIP, conv=Conv3dSpec(channels=6)), NO_LEAD),
    "conv3d_kernel_5": (behind(FRAME, conv=Conv3dSpec(channels=4, kernel=(5, 3, 3))), NO_LEAD),
    "conv25d": (behind(CLIP, conv=conv25d(6)), NO_LEAD),
    "temporal_conv": (behind(FRAME, conv=TemporalConvSpec(channels=6, kernel=5)), NO_LEAD),
    "temporal_conv_zero": (behind(FRAME, conv=TemporalConvSpec(channels=4, outside="zero")), NO_LEAD),
    "temporal_conv_ahead": (behind(FRAME, conv=TemporalConvSpec(channels=4, ahead=2)), LED),
    "temporal_conv_behind": (
        chain(up=SpatialUpsampleSpec(channels=4), conv=TemporalConvSpec(channels=4, ahead=0)),
        LED,
    ),
    "upsample": (behind(CLIP, conv=SpatialUpsampleSpec(channels=6)), LED),
    "upsample_then_causal": (chain(up=SpatialLinearUpsampleSpec(), conv=CausalConv3dSpec(channels=6)), LED),
    "downsample": (behind(FRAME, conv=SpatialDownsampleSpec(channels=6)), LED),
    "block_clip_norm": (residual_block(CausalConv3dSpec(channels=4), norm=CLIP), LED),
    "block_frame_norm": (residual_block(GroupCausalConv3dSpec(channels=4), norm=FRAME), LED),
    "block_symmetric": (residual_block(Conv3dSpec(channels=6), norm=CLIP, shortcut=FrameConv2dSpec(channels=6)), LED),
    "block_25d": (residual_block(conv25d(4), norm=CLIP), NO_LEAD),
}


@pytest.fixture(params=[1, 2, 5])
def used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slices of so many frames of 5 x 6 pixels in a batch of 2; collects how many layers each row of them has."""
    found: list[int] = []
    run = slices._in_slices

    def spied(layers: list[nn.Module], *others: object) -> Tensor:
        found.append(len(layers))
        return run(layers, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(slices, "AT_ONCE", request.param * 60)
    monkeypatch.setattr(slices, "_in_slices", spied)
    return found


def built(name: str) -> tuple[nn.Module, Signal]:
    torch.manual_seed(0)
    spec, signal = ROWS[name]
    return spec.build(signal).double(), signal


@pytest.mark.parametrize("name", ROWS)
def test_slices_are_the_whole(name: str, used: list[int]) -> None:
    layer, signal = built(name)
    x = verify.random_clip(signal, signal.frames(4), 6, 6, batch=2)
    given, whole = x.clone(), layer(x).detach()
    assert not used, "gradients are kept, so the clip must pass at once"
    with torch.no_grad():
        assert verify.difference(layer(x), whole) <= 1e-12
        assert used, "the clip passed at once, so that slices were not tried"
        assert torch.equal(x, given), "what went in has been written over"
        if ROWS[name][0].stream_limit(signal) is None:
            for plan in ([1, 3], [2, 0, 2]):
                chunks = verify.stream(layer, verify.split(x, signal, plan))
                assert verify.difference(torch.cat(chunks, 2), whole) <= 1e-12


@pytest.mark.parametrize("frames", [7, 10, 12])
def test_frames_behind_the_last_stride_are_dropped(frames: int, used: list[int]) -> None:
    layer, signal = built("causal_conv_stride_4")
    x = verify.random_clip(signal, frames, 5, 6)
    whole = layer(x).detach()
    with torch.no_grad():
        assert verify.difference(layer(x), whole) <= 1e-12


def test_a_hook_sees_the_whole_clip_once(used: list[int]) -> None:
    layer, signal = built("causal_conv")
    x, seen = verify.random_clip(signal, 9, 5, 6), list[int]()
    with torch.no_grad():
        expected = layer(x)
        layer.conv.register_forward_hook(lambda module, given, y: seen.append(y.shape[2]))
        assert verify.difference(layer(x), expected) <= 1e-12
    assert seen == [9]


def test_a_module_at_two_places_keeps_its_frames_apart(used: list[int]) -> None:
    conv = CausalConv3d(4, 4).double()
    x = verify.random_clip(LED, 9, 5, 6)
    with torch.no_grad():
        given, _ = slices.in_a_row([conv, conv], x, WHOLE_CLIP)
    assert verify.difference(given, conv(conv(x)).detach()) <= 1e-12


def test_the_layout_is_kept() -> None:
    layer = chain(conv=CausalConv3dSpec(channels=8)).build(Signal(8, lead=1))
    x = torch.randn(1, 8, 9, 96, 96).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert layer(x).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", ["block_clip_norm", "block_symmetric"])
def test_a_residual_block_holds_two_clips(name: str) -> None:
    """Its input, and what its convolutions give, one after the other in one place; a shortcut is a third."""
    with torch.device("meta"):
        layer = ROWS[name][0].build(LED).eval()
        x = torch.empty(1, 4, 65, 128, 128).contiguous(memory_format=torch.channels_last_3d)
    peak = peak_bytes(lambda: layer(x))
    out = layer(x).nbytes if name != "block_symmetric" else 2 * layer(x).nbytes
    assert peak < 1.35 * (x.nbytes + out), f"{peak / (x.nbytes + out):.2f} of its input and its outputs"


def test_a_shortcut_is_added_into_what_a_convolution_gives() -> None:
    with torch.device("meta"):
        layer = ResidualSpec(layers={"conv": FrameConv2dSpec(channels=4)}).build(LED)
        x = torch.empty(1, 4, 1, 256, 256).contiguous(memory_format=torch.channels_last_3d)
    assert peak_bytes(lambda: layer(x)) < 2.1 * x.nbytes


def test_what_a_hook_has_kept_is_not_written_over() -> None:
    torch.manual_seed(0)
    layer = residual_block(FrameConv2dSpec(channels=4), norm=CLIP).build(LED).double()
    x, kept = verify.random_clip(LED, 1, 6, 6), list[Tensor]()
    hooks = [module.register_forward_hook(lambda module, given, y: kept.append(y)) for module in layer.children()]
    with torch.no_grad():
        given = layer(x)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for module, y in zip(layer.children(), list(kept), strict=True):
            assert torch.equal(module(x), y)
            x = y
    assert not torch.equal(given, kept[-1])
