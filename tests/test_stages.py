"""A model stage by stage."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from tests.models.tiny import Identity, tiny_model
from vvae.arch import iv_vae
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.layers import (
    CausalConv3dSpec,
    FrameConv2dSpec,
    GroupCausalConv3dSpec,
    LinearTemporalUpsampleSpec,
    TemporalDownsampleSpec,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.stages import fitting_frames, sees, stages

SPECS = {
    "iv_vae": iv_vae(width=2, latent_channels=2, blocks=1),
    "small": tiny_model().spec,
    "identity": Identity().spec,
}


@pytest.mark.parametrize("name", SPECS)
def test_stages_have_all_parameters_and_all_work(name: str) -> None:
    spec = SPECS[name]
    size = (9, 16, 24)
    found, whole = stages(spec, size), spec.summary(size)
    assert sum(stage.parameters for stage in found) == whole.parameters
    assert sum(stage.flops for stage in found) == whole.encode.flops + whole.decode.flops
    assert all(part in {stage.path.partition(".")[0] for stage in found} for part in ("encoder", "decoder"))


def test_stages_say_where_channels_time_and_space_change() -> None:
    found = {stage.path: stage for stage in stages(SPECS["iv_vae"], (5, 16, 16))}
    level = found["encoder.level1"]
    assert (level.channels, level.time, level.space) == (8, Fraction(2), Fraction(4))
    assert (found["decoder.head"].channels, found["decoder.head"].time, found["decoder.head"].space) == (3, 1, 1)
    assert found["encoder.norm_out"].sees == "frame"
    assert found["encoder.conv_in"].sees == "group, 1 back"


PIXELS = Signal(channels=4, lead=1, group=4)


@pytest.mark.parametrize(
    ("layer", "signal", "told"),
    [
        (FrameConv2dSpec(channels=4), PIXELS, "frame"),
        (CausalConv3dSpec(channels=4, kernel=(2, 1, 1)), PIXELS, "group, 1 back"),
        (CausalConv3dSpec(channels=4, kernel=(11, 1, 1)), PIXELS, "group, 3 back"),
        (GroupCausalConv3dSpec(channels=4, kernel=1), PIXELS, "frame"),
        (GroupCausalConv3dSpec(channels=4), PIXELS, "group, 1 back"),
        (TemporalDownsampleSpec(channels=4, factor=4), PIXELS.with_time(lead=0), "group"),
        (LinearTemporalUpsampleSpec(), PIXELS.with_time(lead=0, group=1), "group, 1 back, 1 ahead"),
    ],
    ids=str,
)
def test_what_a_stage_sees_is_told_in_groups(layer: LayerSpec, signal: Signal, told: str) -> None:
    assert sees(layer, signal) == told


@pytest.mark.parametrize("name", SPECS)
def test_the_frames_that_fit_are_told(name: str) -> None:
    spec: VideoAutoencoderSpec = SPECS[name]
    fits = [n for n in range(1, 14) if spec.filled_frames(n) == n]
    told = fitting_frames(spec)
    assert told == ("any" if len(fits) == 13 else "1, 5, 9, 13, ... (1 + 4k)")
    assert math.gcd(*(n - 1 for n in fits[1:])) == (1 if told == "any" else 4)
