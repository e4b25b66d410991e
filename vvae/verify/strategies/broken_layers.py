"""Layers that cannot stand behind their signal: each is a sound drawn layer in which one thing was broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hypothesis import strategies as st

from vvae.layers import (
    AfterLeadSpec,
    BetweenKeyframesSpec,
    ChainSpec,
    FrameConv2dSpec,
    KeyframeBranchesSpec,
    LeadPassesBySpec,
    LearnedMixSpec,
    LoneFramesSpec,
    ParallelSpec,
    PerPartSpec,
    PosteriorDrawSpec,
    ResidualSpec,
    SiLUSpec,
    SpatialRepeatSpec,
    TanhSpec,
    TemporalRepeatSpec,
    WithContentSpec,
)
from vvae.signal import Signal
from vvae.spec import LayerSpec
from vvae.verify.strategies.clips import signals
from vvae.verify.strategies.layers import LEAVES
from vvae.verify.strategies.wiring import walk


@dataclass(frozen=True)
class BrokenLayer:
    """A layer that `trace` refuses behind its signal, by an error that the regular expression `says` is found in."""

    says: str
    spec: LayerSpec
    signal: Signal

    def meet(self) -> object:
        """Raises the SpecError."""
        return self.spec.trace(self.signal)


Spoil = Callable[[st.DrawFn, LayerSpec, Signal], LayerSpec | tuple[LayerSpec, Signal]]
"""Makes a broken layer of a sound one and the signal that it reads, behind that signal or another."""
SILU = SiLUSpec()
EVEN = st.sampled_from([2, 4])


def no_divisor(number: int) -> st.SearchStrategy[int]:
    """Numbers by which it cannot be shared."""
    return st.sampled_from([n for n in range(2, number + 3) if number % n])


@st.composite
def sound(draw: st.DrawFn, kind: str, given: st.SearchStrategy[Signal] | None = None) -> tuple[LayerSpec, Signal]:
    """A layer of that kind without what was drawn around it, and the signal that it reads."""
    signal = draw(signals(content=True) if given is None else given)
    drawn = draw(LEAVES[kind](signal))
    return next((layer, read) for layer, read, _ in walk(drawn, signal) if layer.kind == kind)


@st.composite
def spoiled(
    draw: st.DrawFn, says: str, kind: str, spoil: Spoil, given: st.SearchStrategy[Signal] | None = None
) -> BrokenLayer:
    """A sound layer of that kind in which `spoil` has broken something."""
    layer, read = draw(sound(kind, given))
    broken = spoil(draw, layer, read)
    return BrokenLayer(says, *(broken if isinstance(broken, tuple) else (broken, read)))


@st.composite
def composed(
    draw: st.DrawFn,
    says: str,
    make: Callable[[st.DrawFn, Signal], LayerSpec],
    given: st.SearchStrategy[Signal] | None = None,
) -> BrokenLayer:
    """A composite that cannot be, behind one of the given signals."""
    signal = draw(signals() if given is None else given)
    return BrokenLayer(says, make(draw, signal), signal)


def _one_of(*kinds: str, says: str, spoil: Spoil) -> st.SearchStrategy[BrokenLayer]:
    return st.one_of([spoiled(says, kind, spoil) for kind in kinds])


def _even_in_space(draw: st.DrawFn, layer: LayerSpec, read: Signal) -> LayerSpec:
    kernel = draw(st.permutations([1, draw(EVEN), 3]))
    return layer.replace(kernel=tuple(kernel) if kernel[0] % 2 else (kernel[1], kernel[0], kernel[2]))


def _not_shared(field: str) -> Spoil:
    """A number of shares by which the channels cannot be divided."""
    return lambda draw, layer, read: layer.replace(**{field: draw(no_divisor(read.channels))})


def _too_long(field: str, *, kernel: int = 0) -> Spoil:
    """A stride in time that does not divide the groups."""

    def spoil(draw: st.DrawFn, layer: LayerSpec, read: Signal) -> LayerSpec:
        stride = draw(no_divisor(read.group))
        return layer.replace(**{field: stride}, **({"kernel": stride + 1} if kernel else {}))

    return spoil


def _behind(lead: int, **fields: int) -> Spoil:
    """The same layer behind a longer lead."""
    return lambda draw, layer, read: (layer.replace(**fields), read.with_time(lead=lead))


def _wider(signal: Signal) -> FrameConv2dSpec:
    return FrameConv2dSpec(channels=signal.channels + 1, kernel=1)


_LED = signals(st.just(1))
_SHORT, _LONG = signals(groups=st.just(1)), signals(groups=st.integers(2, 4))
_NAMES = st.sampled_from(["training", "forward", "a.b", "1st", "", "state_dict", "two words"])

SINGLE: Mapping[str, st.SearchStrategy[BrokenLayer]] = MappingProxyType(
    {
        "channels_not_divisible_by_heads": _one_of(
            "frame_attention", "clip_attention", "temporal_attention", says="heads", spoil=_not_shared("heads")
        ),
        "channels_not_divisible_by_misfolded_heads": spoiled("heads", "misfolded_attention", _not_shared("heads")),
        "channels_not_divisible_by_parts": spoiled("equal parts", "channel_rms_norm", _not_shared("parts")),
        "channels_not_divisible_by_norm_groups": _one_of(
            "frame_group_norm", "clip_group_norm", says="cannot be normed in", spoil=_not_shared("groups")
        ),
        "channels_not_divisible_by_shares": spoiled("equal shares", "channel_interleave", _not_shared("outer")),
        "channels_not_divisible_by_frames": spoiled("frames each", "channel_to_time", _not_shared("factor")),
        "channels_not_divisible_by_cell": spoiled(
            "no multiple of", "depth_to_space", lambda draw, layer, read: layer.replace(factor=read.channels + 1)
        ),
        "channels_not_mean_and_logvar": spoiled(
            "no mean and logvar", "posterior_draw", lambda draw, layer, read: (layer, read.with_channels(3))
        ),
        "content_without_stage": _one_of(
            "content_attention",
            "windowed_content_attention",
            says="content 'other' is unknown",
            spoil=lambda draw, layer, read: layer.replace(content="other"),
        ),
        "positions_not_of_whole_groups": spoiled(
            "does not fit a clip",
            "time_positions",
            lambda draw, layer, read: layer.replace(length=read.frames(2) + 1),
            _LONG,
        )
        | spoiled("does not fit a clip", "time_positions", _behind(lead=1)),
        "kernel_even_in_frame_conv": spoiled(
            "is even", "frame_conv2d", lambda draw, layer, read: layer.replace(kernel=draw(EVEN))
        ),
        "kernel_even_in_conv3d": spoiled("is even", "conv3d", _even_in_space),
        "kernel_even_in_causal_conv": spoiled("is even in space", "causal_conv3d", _even_in_space),
        "kernel_even_in_group_conv": spoiled("is even in space", "group_causal_conv3d", _even_in_space),
        "kernel_even_in_spatial_upsample": spoiled(
            "is even", "spatial_upsample", lambda draw, layer, read: layer.replace(kernel=draw(EVEN))
        ),
        "kernel_even_in_upsample3d": spoiled(
            "is even", "upsample3d", lambda draw, layer, read: layer.replace(kernel=draw(EVEN))
        ),
        "kernel_even_in_conv_upsample": spoiled(
            "is even", "temporal_conv_upsample", lambda draw, layer, read: layer.replace(kernel=draw(EVEN))
        ),
        "kernel_of_one_over_time": _one_of(
            "temporal_conv",
            "look_ahead_conv",
            says="sees no other frame",
            spoil=lambda draw, layer, read: layer.replace(kernel=1),
        ),
        "kernel_skips_cells_of_spatial_downsample": spoiled(
            "skips cells", "spatial_downsample", lambda draw, layer, read: layer.replace(kernel=2, factor=3)
        ),
        "kernel_skips_cells_of_causal_downsample": spoiled(
            "skips cells", "causal_downsample3d", lambda draw, layer, read: layer.replace(kernel=1, factor=2)
        ),
        "kernel_skips_cells_of_downsample3d": spoiled(
            "skips cells", "downsample3d", lambda draw, layer, read: layer.replace(kernel=1, space=draw(EVEN))
        ),
        "ahead_of_the_kernel": _one_of(
            "temporal_conv",
            "look_ahead_conv",
            says="cannot see its own frame",
            spoil=lambda draw, layer, read: layer.replace(ahead=4 + draw(st.integers(0, 2))),
        ),
        "stride_not_dividing_group_of_causal_conv": _one_of(
            "causal_conv3d",
            "causal_average",
            says="in time needs a lead of 0 or 1 and groups that it divides",
            spoil=_too_long("stride"),
        ),
        "stride_not_dividing_group_of_temporal_conv": _one_of(
            "temporal_conv", "look_ahead_conv", says="times shorter; take a lead of 0", spoil=_too_long("stride")
        ),
        "stride_not_dividing_group_of_resampler": spoiled(
            "times shorter; take a clip", "downsample3d", _too_long("time", kernel=1)
        )
        | spoiled("times shorter; take a clip", "average3d", _too_long("time")),
        "factor_not_dividing_group": _one_of(
            "temporal_subsample", "temporal_downsample", says="wrap it in after_lead", spoil=_too_long("factor")
        ),
        "lead_repeated": _one_of(
            "temporal_repeat",
            "temporal_upsample",
            "linear_temporal_upsample",
            says="would be repeated too",
            spoil=_behind(lead=1),
        ),
        "lead_repeated_by_upsample3d": spoiled("would be repeated too", "upsample3d", _behind(lead=1, time=2)),
        "lead_repeated_by_conv_upsample": spoiled(
            "would be repeated too", "temporal_conv_upsample", _behind(lead=1, factor=2)
        ),
        "lead_of_a_clip_completed_in_front": _one_of(
            "fill_front", "drop_front", says="completed in front must have none", spoil=_behind(lead=1)
        ),
        "lead_too_long_for_group_conv": spoiled("needs a lead of 0 or 1", "group_causal_conv3d", _behind(lead=2)),
        "lead_too_long_for_look_ahead": spoiled("needs 0 or 1", "look_ahead_conv", _behind(lead=2)),
        "groups_not_dividing_groups": spoiled(
            "do not divide", "group_causal_conv3d", lambda draw, layer, read: layer.replace(group=5, skip=0)
        ),
        "groups_skipped_whole": spoiled(
            "leaves nothing of groups", "group_causal_conv3d", lambda draw, layer, read: layer.replace(skip=4)
        ),
        "groups_without_frames_between": spoiled(
            "no frames between keyframes",
            "between_keyframes",
            lambda draw, layer, read: (layer, Signal(read.channels)),
            _LONG,
        ),
    }
)
"""By what is broken, single layers."""


def _named(make: Callable[..., LayerSpec], *names: str) -> Callable[[st.DrawFn, Signal], LayerSpec]:
    return lambda draw, signal: make(layers={draw(st.sampled_from(names)): SILU})


COMPOSED: Mapping[str, st.SearchStrategy[BrokenLayer]] = MappingProxyType(
    {
        "name_that_no_layer_can_have": composed(
            "cannot name a layer", lambda draw, signal: ChainSpec(layers={draw(_NAMES): SILU})
        ),
        "name_of_the_shortcut": composed("names the shortcut", _named(ResidualSpec, "shortcut")),
        "name_of_the_lead": composed("names the lead's own", _named(AfterLeadSpec, "lead", "on_lead")),
        "name_of_the_passing_lead": composed("how many frames pass by", _named(LeadPassesBySpec, "lead")),
        "name_of_the_frames_at_once": composed("run at one time", _named(LoneFramesSpec, "at_once")),
        "name_of_the_learned_number": composed(
            "names the learned number", lambda draw, signal: LearnedMixSpec(branches={"a": SILU, "factor": SILU})
        ),
        "ends_of_a_residual_differ": composed(
            "both sides of a residual", lambda draw, signal: ResidualSpec(layers={"wider": _wider(signal)})
        )
        | composed(
            "branches may differ in channels only",
            lambda draw, signal: ParallelSpec(branches={"a": SILU, "b": SpatialRepeatSpec(factor=draw(EVEN))}),
        )
        | composed(
            "lead and groups must have equal channels",
            lambda draw, signal: AfterLeadSpec(layers={"wider": _wider(signal)}),
            _LED,
        ),
        "branches_not_sharing_channels": composed(
            "cannot be shared by",
            lambda draw, signal: PerPartSpec(
                branches={f"part{n}": SILU for n in range(draw(no_divisor(signal.channels)))}
            ),
        ),
        "branches_not_two": composed(
            "mixes two branches",
            lambda draw, signal: LearnedMixSpec(
                branches={f"branch{n}": SILU for n in range(draw(st.sampled_from([1, 3, 4])))}
            ),
        ),
        "branches_mixed_differ": composed(
            "branches that are mixed must give the same",
            lambda draw, signal: LearnedMixSpec(branches={"a": SILU, "b": _wider(signal)}),
        ),
        "lead_of_several_frames_of_one": composed(
            "frames of one",
            lambda draw, signal: AfterLeadSpec(layers={}, on_lead=TemporalRepeatSpec(factor=draw(st.integers(2, 3)))),
        ),
        "lead_beside_other_channels": composed(
            "cannot stand", lambda draw, signal: LeadPassesBySpec(layers={"wider": _wider(signal)}), _LED
        ),
        "lone_frames_that_draw": composed(
            "cannot stand among lone frames",
            lambda draw, signal: LoneFramesSpec(layers={"draw": PosteriorDrawSpec()}),
            signals().map(lambda signal: signal.with_channels(2 * signal.channels)),
        ),
        "lone_frames_lost": composed(
            "must stay one frame", lambda draw, signal: LoneFramesSpec(layers={"lost": BetweenKeyframesSpec()}), _LONG
        ),
        "keyframes_of_groups_of_one": composed(
            "no frames between keyframes",
            lambda draw, signal: KeyframeBranchesSpec(keyframe=SILU, between=SILU),
            _SHORT,
        ),
        "keyframes_that_do_not_merge": composed(
            "is needed beside the other branch",
            lambda draw, signal: KeyframeBranchesSpec(keyframe=SILU, between=draw(st.sampled_from([SILU, TanhSpec()]))),
            _LONG,
        ),
        "content_layers_that_change_the_signal": composed(
            "where content may be missing", lambda draw, signal: WithContentSpec(layers={"wider": _wider(signal)})
        ),
    }
)
"""By what is broken, composites."""

BROKEN_LAYERS: Mapping[str, st.SearchStrategy[BrokenLayer]] = MappingProxyType({**SINGLE, **COMPOSED})
"""By what is broken, layers that cannot stand behind their signal: one way for each `raise` in a `trace`."""
